"""Which engines, loads and policies do the figures of the SCORPIO paper need? One frozen Case each.

The paper's engine computed prefills and decodes in separate steps. Stock vLLM V1 cannot: with
`enable_chunked_prefill=False` a prompt enters whole, but the decodes run in the same step. So the
real scheduler keeps its decisions, and the time model charges the two halves one after the other
(`GpuModel.mixed_steps`); what is left is that first tokens come with the decodes, not before them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from scorpio.engine.virtual.build import EngineSpec
from scorpio.twin.config import TwinConfig
from scorpio.twin.gpu.step_models import BUILT_IN
from scorpio.twin.run import run_twin
from workloads.load import LoadKey
from workloads.results.records import Outcome, RequestRecord

PREFILL_FIRST, CHUNKED = "prefill-first", "chunked"
GPU = "a100-llama-3.1-8b"
SHAREGPT, SHAREGPT_RPS = "sharegpt-poisson", 10.0
MIX = "six"
# An assumption, not a measurement: with it stock vLLM saturates where the paper's rivals do.
PAPER_GAP_MS = 6.0
_SPECS: Mapping[str, EngineSpec] = {
    PREFILL_FIRST: EngineSpec(
        enable_chunked_prefill=False, max_num_batched_tokens=16_384, pipeline_depth=1
    ),
    CHUNKED: EngineSpec(),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One run. `guards`: (TTFT, TPOT) of scorpio-paper, 1 or 0. `gap_ms`: of prefill-first."""

    engine: str
    policy: str
    load: LoadKey
    guards: tuple[int, int] = (1, 1)
    gap_ms: float = PAPER_GAP_MS

    @property
    def label(self) -> str:
        """For progress and errors."""
        return f"{self.policy}, {self.engine}, {self.load.label}"

    @property
    def qps(self) -> float:
        """Requests per second asked of the ShareGPT load."""
        return round(self.load.rate_scale * SHAREGPT_RPS, 6)

    def run(self) -> CaseResult:
        """Serve it in the twin."""
        run = run_twin(_config(self), self.load.requests(), self.policy, self.load.seed)
        return CaseResult(
            good=tuple(
                float(r.good)
                for r in sorted(run.records, key=lambda r: (r.scheduled_send_s, r.index))
            ),
            good_ends_s=tuple(
                sorted(r.ended_s for r in run.records if r.good and r.ended_s is not None)
            ),
            rejected=sum(r.outcome is Outcome.REJECTED for r in run.records),
            window_s=_window_s(run.records),
            run_s=run.virtual_s,
            steps=run.steps,
            plan_s=run.plan_s,
            scheduler_s=run.scheduler_s,
        )


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What the figures show of a run. good: 1 or 0 per request, in order of arrival.

    window_s: first to last arrival; run_s: until the last answer. plan_s and scheduler_s: this
    machine's time in the policy, and in the scheduler with it.
    """

    good: tuple[float, ...]
    good_ends_s: tuple[float, ...]
    rejected: int
    window_s: float
    run_s: float
    steps: int
    plan_s: float
    scheduler_s: float

    @property
    def goodput_rps(self) -> float:
        """Good requests per second of the arrival window: this project's definition."""
        return sum(self.good) / self.window_s

    @property
    def run_goodput_rps(self) -> float:
        """Good requests per second until the last answer."""
        return sum(self.good) / self.run_s


def sharegpt(qps: float, seed: int, requests: int) -> LoadKey:
    """The load of the paper: 512 requests with ShareGPT-like lengths, Poisson, six classes."""
    return LoadKey(SHAREGPT, f"0:{requests}", MIX, qps / SHAREGPT_RPS, seed)


def azure_minutes(trace: str, minutes: float) -> LoadKey:
    """The first minutes of a trace, at its own rate."""
    whole = LoadKey(trace, None, MIX, 1.0, 0)
    rows = sum(request.send_s < 60.0 * minutes for request in whole.requests())
    return replace(whole, rows=f"0:{rows}")


def _config(case: Case) -> TwinConfig:
    gpu = BUILT_IN[GPU]
    if case.engine == PREFILL_FIRST:
        gpu = replace(gpu, gap_s=case.gap_ms / 1000.0, mixed_steps=False)
    options: dict[str, Any] = {}
    if case.guards != (1, 1):
        ttft, tpot = case.guards
        options[case.policy] = {"ttft_guard": float(ttft), "tpot_guard": float(tpot)}
    return TwinConfig(gpu, _SPECS[case.engine], policy_options=options)


def _window_s(records: list[RequestRecord]) -> float:
    sent = [record.scheduled_send_s for record in records]
    return max(sent) - min(sent)
