"""How did one system do on one load? The run that most studies are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from scorpio.studies.study import GPU, engine, flags, percents
from scorpio.twin.run import run_twin
from workloads.load import LoadKey


@dataclass(frozen=True, slots=True)
class Score:
    """One run of the twin. times: per-request times too, for pairs of runs. options: of the
    policy, by name. caching: prompts that begin alike share KV."""

    system: str
    load: LoadKey
    gpu: str = GPU
    times: bool = False
    options: tuple[tuple[str, float], ...] = ()
    caching: bool = False

    @property
    def label(self) -> str:
        """What runs on what, for progress and for its file."""
        more = ", prefix caching" if self.caching else ""
        more += ", times" if self.times else ""
        own = "".join(f", {name} {value:g}" for name, value in self.options)
        return f"{self.system}{own} on {self.load.label}, {self.gpu}{more}"

    def run(self) -> dict[str, Any]:
        """good: one 0 or 1 per request, in order of arrival."""
        requests = self.load.requests()
        policy_options = {self.system: dict(self.options)}
        own = replace(engine(self.gpu, self.caching), policy_options=policy_options)
        made = run_twin(own, requests, self.system, self.load.seed)
        records = sorted(made.records, key=lambda record: record.index)
        found: dict[str, Any] = {
            "good": flags(record.good for record in records),
            "refused": sum(record.reject_reason is not None for record in records),
            "offered_rps": (len(requests) - 1) / requests[-1].send_s,
        }
        if self.times:
            last_s = max(record.end_s for record in records)
            tokens = sum(record.output_tokens for record in records)
            found |= {
                "ttft_s": [record.ttft_s for record in records],
                "tpot_s": [record.tpot_s for record in records],
                "e2e_s": [record.e2e_s for record in records],
                "tokens_per_s": tokens / (last_s - records[0].send_s),
                "stock_share": made.stock_steps / made.steps,
            }
        return found


def percent_good(found: Mapping[str, Any]) -> list[float]:
    """100 for each request that kept its promises, else 0."""
    return percents(found["good"])
