"""In which units is a trace written, and how sure is that? Options, evidence, or one clear line.

What the user says counts. What a kind of trace says by itself (a date, a column `arrival_s`) is
taken. Mooncake's JSON lines are milliseconds and blocks of 512 tokens by convention only, and logs
that look the same hold seconds or blocks of 16: where the first rows speak against the
convention, nothing is guessed, and the option to give is named.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from workloads.errors import WorkloadError

Columns = tuple[tuple[str, str], ...]  # (what is meant, the file's own name for it)
MEANT = ("arrival", "prompt", "output", "tenant", "class", "ttft_ms", "tpot_ms", "e2el_ms")
UNITS_S = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
HEAD_ROWS = 1000  # the evidence
MAX_TICK_S = 3600.0
_MAX_BLOCK_TOKENS = 65_536
_FEW = 10  # rows below which a rate says nothing
# Beyond these mean rates a unit is doubted: more than a large fleet gets, fewer than one a minute.
_MOST_RPS, _LEAST_RPS = 200.0, 1.0 / 60.0
_EPOCHS_S = (1e9, 4e9)  # 2001 to 2096, in seconds since 1970
_COARSE_TICK_S = 0.5
_LIKELY_BLOCKS = (16, 32, 64, 128, 256, 512, 1024, 2048)
_MAX_S = 1e12  # 30,000 years
_STAMP = re.compile(
    r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Reading:
    """How the user says a trace is to be read; None: as its kind says.

    spread_tick_s: the tick of a coarse clock, to be undone; 0 leaves the times as they are.
    columns: names of the file's own for what is `MEANT`.
    """

    time_unit: str | None = None
    block_tokens: int | None = None
    spread_tick_s: float = 0.0
    columns: Columns = ()

    def __post_init__(self) -> None:
        if self.time_unit is not None and self.time_unit not in UNITS_S:
            raise WorkloadError(
                f"--time-unit must be one of {', '.join(UNITS_S)}, got '{self.time_unit:.40}'"
            )
        if self.block_tokens is not None and not 1 <= self.block_tokens <= _MAX_BLOCK_TOKENS:
            raise WorkloadError(
                f"--block-tokens must be 1..{_MAX_BLOCK_TOKENS}, got {self.block_tokens}"
            )
        if not 0.0 <= self.spread_tick_s <= MAX_TICK_S:  # also catches NaN
            raise WorkloadError(
                f"--spread-tick-s: a tick must be 0..{MAX_TICK_S:g} s, got {self.spread_tick_s!r}"
            )


def parse_columns(text: str | None) -> Columns:
    """`arrival=when,prompt=prompt_toks` of `--map`. Raises WorkloadError naming what is valid."""
    found: dict[str, str] = {}
    for part in text.split(",") if text else ():
        meant, sign, own = (word.strip() for word in part.partition("="))
        if meant not in MEANT or not sign or not own:
            raise WorkloadError(
                f"--map: '{part.strip():.60}' must be NAME=COLUMN; names: {', '.join(MEANT)}"
            )
        if meant in found or own in found.values():
            raise WorkloadError(f"--map: '{part.strip():.60}' is there twice")
        found[meant] = own
    return tuple(found.items())


AS_IT_SAYS = Reading()


class NamedBlocks(NamedTuple):
    """How many blocks a row of a file names, for how long a prompt."""

    line: int
    ids: int
    prompt_tokens: int


@dataclass(slots=True)
class Head:
    """What the first rows of a file show."""

    times: list[float] = field(default_factory=list)  # as written; dates need no unit
    dates_s: list[float] = field(default_factory=list)
    blocks: list[NamedBlocks] = field(default_factory=list)
    names: dict[str, None] = field(default_factory=dict)  # of columns, as they come


def seconds_of(value: object, unit_s: float | None) -> float:
    """A number in a unit, or the text of a date -> seconds. Raises ValueError with the reason."""
    if isinstance(value, str) and (match := _STAMP.fullmatch(value.strip())):
        return _stamp_s(match)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValueError(
            f"must be a number >= 0, or a date like 2023-11-16 18:15:46.68, got {shown(value)}"
        )
    if unit_s is None:
        raise ValueError("a number without a unit; say --time-unit s, ms, us or ns")
    if value > _MAX_S / unit_s:
        raise ValueError(f"must be at most {_MAX_S:g} s, got {shown(value)}")
    return float(value) * unit_s


def number_of(text: str) -> float | str:
    """The number that a text is; the text itself when it is none (it may be a date)."""
    try:
        return float(text) if "_" not in text and text.isascii() else text
    except ValueError:
        return text


def _stamp_s(match: re.Match[str]) -> float:
    """An ISO time stamp with up to 9 fractional digits (Azure writes 7) -> seconds since 1970."""
    try:
        whole = datetime.fromisoformat(match[1] + (match[3] or ""))
        seconds = (whole if whole.tzinfo else whole.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(f"there is no such date: '{match[0]}'") from None
    if seconds < 0.0:
        raise ValueError(f"must be a date since 1970, got '{match[0]}'")
    return seconds + (float(f"0.{match[2]}") if match[2] else 0.0)


def doubt_of_unit(times: Sequence[float], unit: str, *, slow_is_odd: bool) -> str | None:
    """Why these times (ascending, as written) are probably not in `unit`; None when they may be."""
    if not times:
        return None
    since_1970 = [n for n, s in UNITS_S.items() if _EPOCHS_S[0] <= times[0] * s < _EPOCHS_S[1]]
    if since_1970 and unit not in since_1970:
        name = since_1970[0]
        return (
            f"{times[0]:.15g} looks like a time since 1970 in {name}, not in {unit}: "
            f"say --time-unit {name} (or {unit}, if it is so)"
        )
    span = times[-1] - times[0]
    if len(times) < _FEW or span <= 0.0:
        return None
    rates = {name: (len(times) - 1) / span / unit_s for name, unit_s in UNITS_S.items()}
    if rates[unit] <= _MOST_RPS and (rates[unit] >= _LEAST_RPS or not slow_is_odd):
        return None
    likely = [name for name, rps in rates.items() if _LEAST_RPS <= rps <= _MOST_RPS]
    others = "".join(f", in {name} {_rate_text(rates[name])}" for name in likely)
    options = " or ".join(likely or [name for name in UNITS_S if name != unit])
    rate = _rate_text(rates[unit])
    return (
        f"read in {unit}, the first {len(times)} rows are {rate} requests/s{others}:"
        f" say --time-unit {options} (or {unit}, if it is so)"
    )


def _rate_text(rate_rps: float) -> str:
    return f"{rate_rps:,.0f}" if 100.0 <= rate_rps < 1e9 else f"{rate_rps:.3g}"


def doubt_of_blocks(blocks: Sequence[NamedBlocks], block_tokens: int) -> tuple[int, str] | None:
    """(line, why these are probably no blocks of that size); None when they may be."""
    fitting = [size for size in _LIKELY_BLOCKS if _complete(blocks, size)]
    if not blocks or _complete(blocks, block_tokens):
        return None
    option = f"; say --block-tokens {' or '.join(map(str, fitting))}" if fitting else ""
    for row in blocks:
        if row.ids > (most := -(-row.prompt_tokens // block_tokens)):
            count = f"{row.prompt_tokens} prompt tokens are {most} blocks of {block_tokens}"
            return row.line, f"{row.ids} hash_ids, but {count}{option}"
    telling = len({row.prompt_tokens for row in blocks}) >= 3 and max(r.ids for r in blocks) >= 4
    if fitting and telling:
        return blocks[0].line, f"the hash_ids are no blocks of {block_tokens} tokens{option}"
    return None  # prompts may name fewer blocks than they have


def _complete(blocks: Sequence[NamedBlocks], size: int) -> bool:
    """Every whole block is named; the last, partial one may be."""
    return all(r.ids in (r.prompt_tokens // size, -(-r.prompt_tokens // size)) for r in blocks)


def tick_of(times_s: Sequence[float]) -> float | None:
    """The tick of a clock of half a second or more, by which several requests come at one instant;
    None where there is no sign of one."""
    instants = sorted(set(times_s))
    if not 2 <= len(instants) < len(times_s):
        return None
    tick_s = min(later - earlier for earlier, later in itertools.pairwise(instants))
    return tick_s if _COARSE_TICK_S <= tick_s <= MAX_TICK_S else None


def shown(value: object) -> str:
    """A value in an error message: short, whatever it is."""
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**40 else "a huge integer"
    return text if len(text) <= 40 else text[:37] + "..."
