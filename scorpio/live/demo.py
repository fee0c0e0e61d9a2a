"""`scorpio demo`: what does SLO-aware scheduling change on this very machine, in four minutes?

Serve a real model on the CPU, overload it with mixed promises, once under each policy on the same
server, and show what came out, whatever it is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from predictors.latency.artifact import read_profile
from scorpio.core.latency import StepModel
from scorpio.files import write_atomic
from scorpio.live.ab import Load
from scorpio.live.compare import compare_live, comparison_server
from scorpio.live.profile.capacity import Capacity, estimate_capacity
from scorpio.live.profile.record import DESIGN_BUDGET_S, EXAM_S
from scorpio.live.profile.run import cached_profile, measured_on
from scorpio.live.progress import Agenda, say
from scorpio.live.publish import publish
from scorpio.models import resolve_model
from workloads.load import LoadKey
from workloads.named import load_workload, read_entry
from workloads.results.summary import Comparison
from workloads.synthetic.generate import Synthetic, synthetic_rows

TRACE, MIX = "cpu-demo", "cpu"
POLICIES = ("fcfs", "scorpio-paper", "scorpio")
MIN_REQUESTS = 20
_START_S, _WARM_UP_S = 75.0, 10.0  # about, on two cores
# The burst: three times the rate for 15 % of the window, after 40 % of it.
BURST_RATE, BURST_SHARE, BURST_START = 3.0, 0.15, 0.4


@dataclass(frozen=True, slots=True)
class DemoLoad:
    """The catalog's lengths with arrivals fitted to one engine: Poisson plus one burst."""

    requests: int
    rate_rps: float
    start_s: float
    length_s: float
    capacity: Capacity

    def arrivals(self) -> dict[str, str | float]:
        """The [arrivals] of a workload file."""
        return {
            "process": "burst",
            "rate_rps": round(self.rate_rps, 5),
            "multiplier": BURST_RATE,
            "start_s": round(self.start_s, 3),
            "length_s": round(self.length_s, 3),
        }

    def toml(self) -> str:
        """A workload file, so that the same load can be named again."""
        lines = [
            "# Written by `scorpio demo`: its arrivals are an overload of the engine measured.",
            'kind = "synthetic"',
            f'base = "{TRACE}"',
            f"requests = {self.requests}",
            "",
            "[arrivals]",
            *(f"{key} = {json.dumps(value)}" for key, value in self.arrivals().items()),
        ]
        return "\n".join([*lines, ""])


def choose_load(model: StepModel, overload: float, window_s: float, seed: int) -> DemoLoad:
    """Arrivals whose mean rate over the window is `overload` times the engine's capacity."""
    sizes = load_workload(TRACE, seed=seed, mix=MIX)
    capacity = estimate_capacity(
        model,
        fmean(r.prompt_tokens for r in sizes),
        fmean(r.output_tokens for r in sizes),
        tpot_slo_s=fmean(r.tpot_slo_s for r in sizes),
    )
    mean_rps = overload * capacity.rate_rps
    count = max(round(mean_rps * window_s), MIN_REQUESTS)
    window_s = count / mean_rps
    quiet_rps = mean_rps / (1.0 + (BURST_RATE - 1.0) * BURST_SHARE)
    load = DemoLoad(count, quiet_rps, BURST_START * window_s, BURST_SHARE * window_s, capacity)
    # Arrivals are drawn: stretch their clock so that this very draw has the rate that is wanted.
    stretch = window_s / _window_s(load, seed)
    return DemoLoad(
        count, quiet_rps / stretch, load.start_s * stretch, load.length_s * stretch, capacity
    )


def _window_s(load: DemoLoad, seed: int) -> float:
    entry = read_entry(TRACE)
    if not isinstance(entry, Synthetic):
        raise TypeError(f"the catalog's {TRACE} must be synthetic")
    rows = synthetic_rows(replace(entry, arrivals=load.arrivals()), load.requests, seed)
    return rows[-1].arrival_s


def run_demo(
    out_dir: Path,
    model: str,
    policies: Sequence[str],
    overload: float,
    window_s: float,
    seed: int,
    fresh_profile: bool,
) -> Comparison:
    """The whole demo, on one server: it is measured first, unless this machine knows it already.

    Writes summary.json, report.html, PNGs and records into `out_dir`.
    """
    started_s = time.monotonic()
    resolve_model(model)
    profile = None if fresh_profile else cached_profile(model)
    measuring = [("measure its step times", DESIGN_BUDGET_S + EXAM_S + _WARM_UP_S)]
    agenda = Agenda(
        [
            (f"start vLLM with {model}", _START_S),
            *(measuring if profile is None else []),
            (f"serve the same load under {', '.join(policies)}", len(policies) * 1.4 * window_s),
        ]
    )
    agenda.begin()
    with comparison_server(model, out_dir, latency=profile) as server:
        if profile is None:
            agenda.begin()
            profile = measured_on(server, model)
        load = _offered(out_dir, read_profile(profile).profile.step, overload, window_s, seed)
        agenda.begin()
        comparison = compare_live(server, model, [load], policies, 1, out_dir)
    command = (
        f"scorpio compare --engine live --model {model} --trace {load.key.trace} --mix {MIX} "
        f"--rate-scale 1 --policy {','.join(policies)} --seed {seed} --out {out_dir}-again"
    )
    publish(comparison, command)
    say(f"done in {time.monotonic() - started_s:.0f} s; the same load again: {command}")
    say(f"open the report: python3 -m webbrowser {(out_dir / 'report.html').resolve().as_uri()}")
    return comparison


def _offered(out_dir: Path, step: StepModel, overload: float, window_s: float, seed: int) -> Load:
    """The load for an engine of this speed, kept as a workload file, and a word about it."""
    chosen = choose_load(step, overload, window_s, seed)
    trace = out_dir / f"{TRACE}.toml"
    write_atomic(trace, chosen.toml())
    key = LoadKey(str(trace), None, MIX, 1.0, seed)
    requests = key.requests()
    say(
        f"by its profile this engine carries {chosen.capacity.rate_rps:.2f} requests/s of this mix "
        f"({chosen.capacity.batch} at once, {chosen.capacity.step_s * 1e3:.0f} ms a step)"
    )
    say(
        f"offering {len(requests)} requests in {requests[-1].send_s:.0f} s, "
        f"{len(requests) / requests[-1].send_s:.2f}/s, one burst in it"
    )
    return Load(key, requests)
