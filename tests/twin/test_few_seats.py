"""Few seats and long answers: is a client told at once, and the truth?

Prefill is next to nothing here. A first token waits for an answer to end.
"""

from __future__ import annotations

import math
from random import Random

import pytest

from scorpio.engine.virtual.spec import EngineSpec
from scorpio.twin.clients import ClientSpec
from scorpio.twin.config import TwinConfig
from scorpio.twin.gpu.step_models import BUILT_IN
from scorpio.twin.run import TwinRun, run_twin
from workloads.request import WorkloadRequest
from workloads.results.records import Outcome

SEATS, ANSWER = 8, 200
ANSWER_S = ANSWER * 0.0135
OVERLOAD = 1.5


def run(retries: int, seed: int = 7) -> TwinRun:
    """All alike, with a TTFT SLO of two answers."""
    chance, at_s = Random(seed), 0.0
    load: list[WorkloadRequest] = []
    while (at_s := at_s + chance.expovariate(OVERLOAD * SEATS / ANSWER_S)) < 150.0:
        load.append(
            WorkloadRequest(
                index=len(load), send_s=at_s, prompt_tokens=100, output_tokens=ANSWER,
                hash_ids=(), slo_class="", ttft_slo_s=2.0 * ANSWER_S, tpot_slo_s=math.inf,
            )
        )  # fmt: skip
    config = TwinConfig(
        BUILT_IN["a100-llama-3.1-8b"],
        EngineSpec(max_num_seqs=SEATS),
        exact_max_tokens=True,
        clients=ClientSpec(retries=retries),
    )
    return run_twin(config, load, "scorpio")


def test_what_the_seats_can_do_is_done_and_the_rest_is_told_the_truth() -> None:
    found = run(0)
    refused = [r for r in found.records if r.outcome is Outcome.REJECTED]
    kept = sum(r.good for r in found.records)
    assert kept + len(refused) == len(found.records)  # no promise is broken
    assert kept / len(found.records) == pytest.approx(1.0 / OVERLOAD, abs=0.05)
    told_s = [r.predicted_ttft_s for r in refused if r.predicted_ttft_s is not None]
    assert min(told_s) > ANSWER_S  # not the time that its prefill takes


def test_those_that_come_back_when_they_are_told_to_are_served() -> None:
    again = [r for seed in (7, 8, 9) for r in run(1, seed).records if r.tries > 1]
    served = sum(r.outcome is Outcome.FINISHED for r in again)
    assert len(again) > 300
    assert served >= 0.95 * len(again)
