"""Is the load estimate what its formula says, and does it move the right way?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scorpio.core.latency import StepModel
from scorpio.live.demo import MIN_REQUESTS, choose_load
from scorpio.live.profile.capacity import estimate_capacity
from workloads.named import load_workload

CPU = StepModel(0.05, 6e-3, 4e-3, 48.0, 0.0, 0.0, 2e-6)


def test_batch_one_by_hand() -> None:
    model = StepModel(0.1, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
    found = estimate_capacity(
        model, prompt_tokens=50, output_tokens=20, tpot_slo_s=1.0, max_batch=1
    )
    assert found.batch == 1
    assert found.step_s == pytest.approx(0.1)
    assert found.rate_rps == pytest.approx(1 / (20 * 0.1))


def test_the_step_keeps_the_promise() -> None:
    found = estimate_capacity(CPU, 190, 30, tpot_slo_s=0.35)
    assert found.step_s <= 0.35
    looser = estimate_capacity(CPU, 190, 30, tpot_slo_s=0.7)
    assert looser.rate_rps > found.rate_rps


def test_an_engine_too_slow_for_the_promise_counts_one_request_at_a_time() -> None:
    assert estimate_capacity(CPU, 190, 30, tpot_slo_s=0.001).batch == 1


@pytest.mark.parametrize("speed", [0.3, 1.0, 5.0])
def test_the_chosen_load_is_an_overload_on_any_machine(speed: float, tmp_path: Path) -> None:
    model = StepModel(0.05 / speed, 6e-3 / speed, 4e-3 / speed, 48.0, 0.0, 0.0, 2e-6 / speed)
    chosen = choose_load(model, overload=1.3, window_s=65.0, seed=0)
    path = tmp_path / "load.toml"
    path.write_text(chosen.toml())
    requests = load_workload(str(path), seed=0, mix="cpu")
    assert len(requests) == chosen.requests >= MIN_REQUESTS
    offered_rps = len(requests) / requests[-1].send_s
    assert offered_rps == pytest.approx(1.3 * chosen.capacity.rate_rps, rel=0.01)


def test_mean_rate_and_burst_are_what_was_asked_for(tmp_path: Path) -> None:
    chosen = choose_load(CPU, overload=1.3, window_s=4000.0, seed=0)
    path = tmp_path / "load.toml"
    path.write_text(chosen.toml())
    requests = load_workload(str(path), seed=0, mix="cpu")
    offered_rps = len(requests) / requests[-1].send_s
    assert offered_rps == pytest.approx(1.3 * chosen.capacity.rate_rps, rel=0.01)
    times = np.array([r.send_s for r in requests])
    in_burst = (times >= chosen.start_s) & (times < chosen.start_s + chosen.length_s)
    burst_rps = in_burst.sum() / chosen.length_s
    quiet_rps = (~in_burst).sum() / (times[-1] - chosen.length_s)
    assert burst_rps / quiet_rps == pytest.approx(3.0, rel=0.1)
