"""Which settings of a policy are tried, and on which part of a trace? Needs no vLLM.

Each policy gets as many: its standard setting, then others drawn with the seed. One of them moves
a few options, each to between half and twice its standard value, within its range. Switches, and
options that are 0 (off), stay as they are. Stock vLLM has wider ranges: its settings are far apart.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from scorpio.core.registry import option_ranges, policy_names
from scorpio.twin.systems import DEFAULT_TUNING, TUNED
from workloads.errors import WorkloadError
from workloads.traces.row import parse_rows

BUDGETS = (256, 512, 1024, 2048, 4096)
QUEUE_CAPS = (0, 3_000, 6_000, 12_000, 24_000, 48_000)  # prompt tokens; 0 = no cap
TRIALS = 30  # as many as the grid of fcfs-tuned has
_FACTOR = 2.0
_MOVED = 3  # options that one setting moves, at most
_STOCK = {
    "fcfs+queue-cap": {"target_ttft_s": (0.25, 16.0)},
    "fcfs+adaptive-long-prefill": {"long_prefill_token_threshold": (64.0, 4096.0)},
}

Ranges = Mapping[str, tuple[float, float]]
Options = dict[str, float]


@dataclass(frozen=True, slots=True)
class TuneSpec:
    """policies: which are tuned. rows: of the trace, to tune on; None: what comes before the rows
    that are measured, or behind them where too little does. trials: settings for each."""

    policies: tuple[str, ...]
    rows: str | None = None
    trials: int = TRIALS

    def check(self, compared: Sequence[str], given: Mapping[str, object]) -> None:
        """Raises WorkloadError: nothing to tune, or given already."""
        if self.trials < 2:
            raise WorkloadError(f"tune trials must be >= 2, got {self.trials}")
        if len(set(self.policies)) != len(self.policies):
            raise WorkloadError("tune: no policy twice")
        for name in self.policies:
            if name not in compared:
                raise WorkloadError(
                    f"tune: '{name}' is not compared; valid: {', '.join(map(str, compared))}"
                )
            if not ranges(name):
                valid = ", ".join(name for name in compared if ranges(name)) or "none"
                raise WorkloadError(f"tune: {name} has no option to tune; valid: {valid}")
            if name in given:
                raise WorkloadError(f"{name}: either tuned here or with given options, not both")


def ranges(name: str) -> Ranges:
    """The options of a policy that are tuned, and between what; empty: there is none."""
    if name == TUNED:
        return {
            "max_num_batched_tokens": (BUDGETS[0], BUDGETS[-1]),
            "max_num_queued_tokens": (QUEUE_CAPS[0], QUEUE_CAPS[-1]),
        }
    if name in _STOCK:
        return _STOCK[name]
    if name not in policy_names():
        return {}
    return {
        option: (max(one.default / _FACTOR, one.least), min(one.default * _FACTOR, one.greatest))
        for option, one in option_ranges(name).items()
        if one.default > 0.0 and not one.switch
    }


def settings(name: str, trials: int, seed: int, max_num_seqs: int) -> list[Options]:
    """The standard setting, {}, and `trials` - 1 others; the same for the same seed. fcfs-tuned has
    a grid, and no more settings than are in it."""
    draw = np.random.default_rng([seed, zlib.crc32(name.encode())])
    if name == TUNED:
        grid = grid_options(max_num_seqs)
        others = [options for options in grid if options != DEFAULT_TUNING]
        order = draw.permutation(len(others))[: trials - 1]
        return [{}, *(others[row] for row in sorted(order.tolist()))]
    return [{}, *(_drawn(ranges(name), draw) for _ in range(trials - 1))]


def grid_options(max_num_seqs: int) -> list[Options]:
    """All settings that vLLM accepts: a budget below max_num_seqs is none."""
    return [
        {"max_num_batched_tokens": float(budget), "max_num_queued_tokens": float(cap)}
        for budget in BUDGETS
        if budget >= max_num_seqs
        for cap in QUEUE_CAPS
    ]


def tuning_rows(measured: str | None, wanted: str | None) -> str:
    """The window to tune on, apart from what is measured. Raises WorkloadError: there is none."""
    if measured is None:
        raise WorkloadError(
            "tune: all of the trace is measured; say --rows A:B, so that another part is left to"
            " tune on"
        )
    first, end = parse_rows(measured)
    if wanted is not None:
        low, high = parse_rows(wanted)
        if (end is None or low < end) and (high is None or first < high):
            raise WorkloadError(f"tune: rows {wanted} are measured too (--rows {measured})")
        return wanted
    count = first if end is None else min(end - first, first)
    if end is not None and 2 * count < end - first:  # less than half as much comes before
        return f"{end}:{2 * end - first}"
    if not count:
        raise WorkloadError(f"tune: nothing is left beside --rows {measured}")
    return f"{first - count}:{first}"


def _drawn(between: Ranges, draw: np.random.Generator) -> Options:
    """A few options, each by its logarithm, to three digits."""
    names = list(between)
    moved = draw.choice(len(names), size=min(_MOVED, len(names)), replace=False)
    options: Options = {}
    for row in sorted(moved.tolist()):
        low, high = between[names[row]]
        value = math.exp(float(draw.uniform(math.log(low), math.log(high))))
        options[names[row]] = min(max(float(f"{value:.3g}"), low), high)
    return options
