"""Which load is meant? One name for it everywhere: a trace, a window, a mix, a rate and a seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from workloads.named import load_workload
from workloads.request import WorkloadRequest
from workloads.traces.reading import AS_IT_SAYS, Reading

IN_RESULTS = ("trace", "mix", "rate_scale", "seed")  # what summary.json tells of a load


@dataclass(frozen=True, slots=True)
class LoadKey:
    """A load by name, as `load_workload` takes it; the same key is always the same requests.

    rows: None = all of the trace, or a window that the results do not tell.
    rate_scale: multiplies the arrival rate of the trace. seed: draws what is drawn.
    """

    trace: str
    rows: str | None
    mix: str
    rate_scale: float
    seed: int
    reading: Reading = AS_IT_SAYS

    @property
    def label(self) -> str:
        """For people."""
        rows = f"rows {self.rows or 'all'}"
        return f"{self.trace} {rows} mix {self.mix} x{self.rate_scale:g} seed {self.seed}"

    @property
    def in_results(self) -> LoadKey:
        """What results tell of it: neither the window nor the units that were read."""
        return LoadKey(self.trace, None, self.mix, self.rate_scale, self.seed)

    def requests(self) -> list[WorkloadRequest]:
        """What is sent, and when. Raises WorkloadError."""
        return _requests(self)


def load_grid(
    trace: str,
    rows: str | None,
    mix: str,
    rate_scales: Iterable[float],
    seeds: Sequence[int],
    reading: Reading = AS_IT_SAYS,
) -> list[LoadKey]:
    """Every load of a comparison, by rate scale and seed."""
    return [LoadKey(trace, rows, mix, x, seed, reading) for x in rate_scales for seed in seeds]


@lru_cache(maxsize=4)
def _requests(key: LoadKey) -> list[WorkloadRequest]:
    return load_workload(key.trace, key.rows, key.rate_scale, key.seed, key.mix, key.reading)
