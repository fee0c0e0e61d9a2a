"""What does a parametric workload generate? Rows from fitted lengths, arrivals, prefixes, tenants.

Every column has its own seeded stream, so the first k rows are the same whatever `n` is, and a
change of arrivals leaves the lengths as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from workloads.errors import WorkloadError
from workloads.synthetic.arrivals import generate
from workloads.synthetic.lengths import INDEPENDENT, Grid, LengthModel, checked_grid, sample_pairs
from workloads.traces.row import BLOCK_TOKENS, TraceRow, block_count, with_unique_hash_ids

# Streams below the seed: lengths use 0 and 1 (workloads.synthetic.lengths).
_PREFIX_STREAM, _TENANT_STREAM, _ARRIVAL_STREAM = 2, 3, 4
_PARENT_DRAWS = 4  # a continued conversation is a long one: the best of so many draws


@dataclass(frozen=True, slots=True)
class PrefixModel:
    """Which prompts share a beginning, in 512-token blocks.

    system_blocks lead every prompt. With probability `continue_share` a request continues one of
    the last `window` requests that came `pause_s` before it or earlier (its answer, and the tool or
    the person that reads it, take their time): it starts with that prompt's whole blocks, as far as
    it is long.
    """

    system_blocks: int
    continue_share: float
    window: int
    pause_s: float = 0.0

    def __post_init__(self) -> None:
        sound = self.system_blocks >= 0 and 0 <= self.continue_share <= 1 and self.window >= 1
        if not (sound and 0.0 <= self.pause_s < math.inf):
            raise WorkloadError(
                "[prefix] needs system_blocks >= 0, continue_share 0..1, window >= 1, pause_s >= 0"
            )


@dataclass(frozen=True, slots=True)
class Synthetic:
    """Parameters of a synthetic workload, as in its TOML file."""

    requests: int
    arrivals: Mapping[str, str | float]
    prompt_tokens: LengthModel
    output_tokens: LengthModel
    rank_grid: Grid = INDEPENDENT
    prefix: PrefixModel | None = None
    tenants: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.requests < 1:
            raise WorkloadError(f"requests must be >= 1, got {self.requests!r}")
        checked_grid(self.rank_grid)
        self.arrival_times(seed=0, n=1)  # a wrong process or parameter shows here, by name
        if not all(math.isfinite(w) and w > 0.0 for w in self.tenants.values()):
            raise WorkloadError("[tenants] weights must be > 0")

    def arrival_times(self, seed: int, n: int) -> NDArray[np.float64]:
        """Arrival times of the process in [arrivals]."""
        if not isinstance(self.arrivals, Mapping):
            raise WorkloadError("arrivals must be a table")
        parameters = {k: float(v) for k, v in self.arrivals.items() if k != "process"}
        return generate(str(self.arrivals.get("process", "")), parameters, seed, n)


def from_table(table: Mapping[str, object]) -> Synthetic:
    """Read the parameters of a TOML table. Raises WorkloadError naming what is wrong."""
    known = {f.name for f in fields(Synthetic)}
    if set(table) - known:
        names = ", ".join(sorted(set(table) - known))
        raise WorkloadError(f"unknown key {names}; valid: {', '.join(sorted(known))}")
    values: dict[str, object] = dict(table)
    try:
        for name, model in (
            ("prompt_tokens", LengthModel),
            ("output_tokens", LengthModel),
            ("prefix", PrefixModel),
        ):
            if name in table:
                values[name] = model(**table[name])  # type: ignore[arg-type]
        return Synthetic(**values)  # type: ignore[arg-type]
    except TypeError as error:  # a missing or unknown key, or a value of the wrong type
        raise WorkloadError(str(error)) from None


def synthetic_rows(spec: Synthetic, n: int, seed: int) -> list[TraceRow]:
    """The first `n` requests of the workload drawn with `seed`, the first one at time zero."""
    prompt, output = sample_pairs(spec.prompt_tokens, spec.output_tokens, spec.rank_grid, n, seed)
    arrival_seed = int(np.random.default_rng([seed, _ARRIVAL_STREAM]).integers(2**62))
    arrival_s = spec.arrival_times(arrival_seed, n)
    arrival_s = arrival_s - arrival_s[0]
    tenants = draw_tenants(spec.tenants, n, seed)
    rows = [
        TraceRow(float(arrival_s[i]), int(prompt[i]), int(output[i]), (), {}, tenants[i])
        for i in range(n)
    ]
    if spec.prefix is None:
        return with_unique_hash_ids(rows)
    shared = share_prefixes([r.prompt_tokens for r in rows], arrival_s, spec.prefix, seed)
    return [
        TraceRow(row.arrival_s, row.prompt_tokens, row.output_tokens, ids, {}, row.tenant)
        for row, ids in zip(rows, shared, strict=True)
    ]


def draw_tenants(weights: Mapping[str, float], n: int, seed: int) -> list[str]:
    """A tenant for each request, by weight; no name at all without weights."""
    if not weights:
        return [""] * n
    names = list(weights)
    edges = np.cumsum([weights[name] for name in names])
    u = np.random.default_rng([seed, _TENANT_STREAM]).random(n) * edges[-1]
    return [names[i] for i in np.minimum(np.searchsorted(edges, u, side="right"), len(names) - 1)]


def share_prefixes(
    prompt_tokens: Sequence[int], arrival_s: NDArray[np.float64], model: PrefixModel, seed: int
) -> list[tuple[int, ...]]:
    """`hash_ids` of each prompt under the prefix model."""
    draws = np.random.default_rng([seed, _PREFIX_STREAM]).random(
        (len(prompt_tokens), 1 + _PARENT_DRAWS)
    )
    system = tuple(range(model.system_blocks))
    next_id = model.system_blocks
    known_by = np.searchsorted(arrival_s, arrival_s - model.pause_s, side="right")
    made: list[tuple[int, ...]] = []
    for i, tokens in enumerate(prompt_tokens):
        blocks = block_count(tokens)
        whole = tokens // BLOCK_TOKENS
        known = system[:whole]
        if (end := min(i, known_by[i])) and draws[i, 0] < model.continue_share:
            oldest = max(0, end - model.window)
            candidates = oldest + (draws[i, 1:] * (end - oldest)).astype(np.int64)
            # A parent's last block may be partial, so it is not shared.
            known = max((made[j][:-1][:whole] for j in candidates), key=len, default=known) or known
        fresh = blocks - len(known)
        made.append(known + tuple(range(next_id, next_id + fresh)))
        next_id += fresh
    return made
