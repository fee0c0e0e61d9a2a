"""Does a policy know what it does? What it forecast at admission, against what came.

A policy tells one number per request and kind (`predicted_*` of the records), no distribution. One
is made of it prequentially: times the last 256 ratios outcome / forecast of the run that were known
when the request was sent (rolling, empirical). Two questions, two uses:

- PIT: is the number right as it stands? It is taken at its word as the middle (half of the outcomes
  above), so the ratios are centred on their median and only lend their spread. A forecast that is
  always 20 % low is shown as such, not learned away.
- Reliability: what is it worth to a reader that knows its record? The ratios as they are give the
  chance to keep the SLO, which is compared with the share that kept it.

Only requests that finished have an outcome: refusals are judged in docs/results/mistakes.md.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workloads.results.records import TIME_TOLERANCE_S, Outcome, RequestRecord

Kind = Literal["ttft", "tpot"]
KINDS: tuple[Kind, ...] = ("ttft", "tpot")
WINDOW = 256
LEAST = 50  # earlier outcomes before a spread is believed
BINS = 10
_Z = 1.96


@dataclass(frozen=True, slots=True)
class Checked:
    """One forecast with its outcome.

    ratio: outcome / forecast. pit: where in its forecast distribution the outcome fell, 0..1
    (uniform when calibrated); None while too little was known. chance: forecast probability that
    the SLO is kept; None without an SLO, or while too little was known. kept: it was.
    """

    ratio: float
    pit: float | None
    chance: float | None
    kept: bool


class Bin(NamedTuple):
    """Requests of about the same forecast chance; low..high: 95 % Wilson interval of `kept`."""

    chance: float
    kept: float
    low: float
    high: float
    requests: int


class _Case(NamedTuple):
    send_s: float
    known_s: float
    log_ratio: float
    log_room: float  # log(SLO / forecast); inf without an SLO
    kept: bool


def check(records: Iterable[RequestRecord], kind: Kind) -> list[Checked]:
    """All forecasts of one run with an outcome, in order of sending."""
    cases = [case for record in records if (case := _case(record, kind)) is not None]
    by_knowledge = sorted(cases, key=lambda case: case.known_s)
    earlier: deque[float] = deque(maxlen=WINDOW)
    checked, known = [], 0
    for case in sorted(cases, key=lambda case: case.send_s):
        while by_knowledge[known].known_s <= case.send_s:
            earlier.append(by_knowledge[known].log_ratio)
            known += 1
        checked.append(_against(case, np.array(earlier)))
    return checked


def reliability(checked: Iterable[Checked], bins: int = BINS) -> list[Bin]:
    """Requests grouped by forecast chance, bins of equal width, empty ones left out."""
    known = [(c.chance, c.kept) for c in checked if c.chance is not None]
    chance = np.array([chance for chance, _ in known])
    kept = np.array([kept for _, kept in known])
    place = np.minimum((chance * bins).astype(np.int64), bins - 1)
    found = []
    for number in np.unique(place):
        here = place == number
        low, high = wilson(int(kept[here].sum()), int(here.sum()))
        means = float(chance[here].mean()), float(kept[here].mean())
        found.append(Bin(*means, low, high, int(here.sum())))
    return found


def brier(checked: Iterable[Checked]) -> float | None:
    """Mean squared distance of the forecast chance from what came; 0 is best, None for none."""
    errors = [(c.chance - c.kept) ** 2 for c in checked if c.chance is not None]
    return float(np.mean(errors)) if errors else None


def pits(checked: Iterable[Checked]) -> NDArray[np.float64]:
    """The PIT values there are, shape [n]."""
    return np.array([c.pit for c in checked if c.pit is not None])


def distance_from_uniform(values: NDArray[np.float64]) -> float:
    """Kolmogorov's: the largest gap between their distribution and the uniform one, 0..1."""
    ordered, n = np.sort(values), len(values)
    steps = np.arange(n + 1) / n
    return float(max((steps[1:] - ordered).max(), (ordered - steps[:-1]).max()))


def wilson(hits: int, n: int) -> tuple[float, float]:
    """95 % interval of a share, sound at 0 and 1 too."""
    share, spread = hits / n, _Z * _Z / n
    middle = share + spread / 2
    half = _Z * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return max((middle - half) / (1 + spread), 0.0), min((middle + half) / (1 + spread), 1.0)


def _case(record: RequestRecord, kind: Kind) -> _Case | None:
    first_token = kind == "ttft"
    forecast_s = record.predicted_ttft_s if first_token else record.predicted_tpot_s
    actual_s = record.ttft_s if first_token else record.tpot_s
    known_s = record.first_token_s if first_token else record.last_token_s
    if record.outcome is not Outcome.FINISHED or not forecast_s or known_s is None:
        return None
    if actual_s is None or not actual_s > 0.0:
        return None
    slo_s = record.ttft_slo_s if first_token else record.tpot_slo_s
    return _Case(
        record.send_s,
        known_s,
        math.log(actual_s / forecast_s),
        math.log(slo_s / forecast_s) if math.isfinite(slo_s) else math.inf,
        actual_s <= slo_s + TIME_TOLERANCE_S,
    )


def _against(case: _Case, earlier: NDArray[np.float64]) -> Checked:
    ratio = math.exp(case.log_ratio)
    if len(earlier) < LEAST:
        return Checked(ratio, None, None, case.kept)
    ordered = np.sort(earlier)
    chance = None if math.isinf(case.log_room) else _share_below(ordered, case.log_room)
    pit = _share_below(ordered - np.median(ordered), case.log_ratio)
    return Checked(ratio, pit, chance, case.kept)


def _share_below(ordered: NDArray[np.float64], value: float) -> float:
    """Mid-rank among n + 1 values, itself included, so never quite 0 or 1."""
    low, high = np.searchsorted(ordered, value, "left"), np.searchsorted(ordered, value, "right")
    return float((low + high + 1) / (2 * (len(ordered) + 1)))
