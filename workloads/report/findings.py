"""What would an honest reader say in three sentences? Plain-English findings from the points.

A difference is called one only when its paired 95 % interval leaves zero out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from workloads.results.aggregate import LoadPoint, gain_over
from workloads.results.intervals import Interval
from workloads.results.policy_order import BASELINE, SUBJECT, TUNED
from workloads.results.run_summary import RunSummary

_MIN_SEEDS = 3


def load_text(point: LoadPoint) -> str:
    """A load in words: `7.9 requests/s (×1.6)`."""
    if point.offered_rps is None:
        return f"×{point.rate_scale:g}"
    return f"{point.offered_rps:.3g} requests/s (×{point.rate_scale:g})"


def attained(point: LoadPoint | None) -> float:
    """Mean attainment; 0 where there is no valid run."""
    return point.attainment.mean if point is not None and point.attainment is not None else 0.0


def subject_of(points: Sequence[LoadPoint]) -> str:
    """The policy the report is about: scorpio, else the best one that is not stock."""
    names = {point.policy for point in points}
    if SUBJECT in names:
        return SUBJECT
    others = [p for p in points if p.policy != BASELINE and p.attainment is not None]
    best = max(others or points, key=attained)
    return best.policy


def focus_rate(points: Sequence[LoadPoint]) -> float:
    """The most telling load: where the subject and the baseline differ most; the highest when
    there is no baseline."""
    subject = subject_of(points)
    differences: dict[float, float] = {}
    for rate in sorted({p.rate_scale for p in points if p.attainment is not None}):
        ours, stock = _at(points, rate, subject), _at(points, rate, BASELINE)
        both = ours is not None and stock is not None
        differences[rate] = abs(attained(ours) - attained(stock)) if both else -1.0
    return max(differences, key=lambda rate: (differences[rate], rate))


def findings(points: Sequence[LoadPoint]) -> list[str]:
    """Headlines: the most telling load, the rivals there, all loads, the ceiling."""
    known = [point for point in points if point.attainment is not None]
    if not known:
        return ["Every run is void: the client was at fault, so nothing is known of the server."]
    subject, rate = subject_of(known), focus_rate(known)
    ours, stock = _at(known, rate, subject), _at(known, rate, BASELINE)
    if ours is None:
        return ["No valid run of the policy under test at the load shown."]
    texts = []
    if stock is None or subject == BASELINE:
        texts.append(f"At {load_text(ours)}, {subject} kept its promises to {_percent(ours)}.")
    else:
        texts.append(_against_stock(ours, stock))
        texts += _across_loads(known, subject)
    texts += _worst_off(ours)
    texts += _rivals(known, rate, ours)
    if ours.of_bound is not None and ours.bound_attainment is not None:
        texts.append(
            f"Even a scheduler that knew the future could serve at most"
            f" {100 * ours.bound_attainment:.1f} % well at this load; {subject} reaches"
            f" {100 * ours.of_bound:.0f} % of that ceiling."
        )
    return texts


def reservations(points: Sequence[LoadPoint]) -> list[str]:
    """What weakens the comparison; empty when nothing does."""
    texts = []
    void = sum(point.void_runs for point in points)
    if void:
        texts.append(f"{_count(void, 'run')} left out as void: the client itself was at fault.")
    live = [point for point in points if point.scenario.engine == "live"]
    seeds = min(len({run.summary.seed for run in p.runs}) for p in points)
    repeats = min((len(p.runs) for p in live), default=2)
    if not live and seeds < _MIN_SEEDS:
        texts.append(f"Only {_count(seeds, 'seed')} per point; the rule is at least {_MIN_SEEDS}.")
    if repeats < 2:
        texts.append("Only one live run per point; the rule is at least two repeats.")
    summaries = [run.summary for point in points for run in point.runs]
    if failed := sum(summary.unanswered for summary in summaries):
        texts.append(
            f"{_count(failed, 'request')} failed or timed out, counted as not served; the"
            f" commonest error: {commonest_error(summaries)}"
        )
    if points[0].scenario.engine == "twin":
        texts.append(
            "Times come from a model of the GPU driving vLLM's real scheduler, not from a GPU."
        )
    return texts


def commonest_error(summaries: Iterable[RunSummary]) -> str:
    """The error that most requests failed of, with how many; empty when none did."""
    errors: Counter[str] = Counter()
    for summary in summaries:
        errors.update(summary.failed_by_error)
    return "".join(f"{text} ({count}x)" for text, count in errors.most_common(1))


def _against_stock(ours: LoadPoint, stock: LoadPoint) -> str:
    text = f"At {load_text(ours)}, {ours.policy} kept its promises to {_percent(ours)}; "
    text += f"stock vLLM ({BASELINE}) to {_percent(stock)}."
    if ours.gain is None:
        return text
    all_paired = abs(ours.gain.mean - (attained(ours) - attained(stock))) < 5e-4
    that = "That" if all_paired else "On the runs both have, that"
    return f"{text} {that} is {difference(ours.gain)}."


def _across_loads(points: Sequence[LoadPoint], subject: str) -> list[str]:
    """At how many loads it wins, ties and loses; silent when there is one load."""
    gains = [point for point in points if point.policy == subject and point.gain is not None]
    if len(gains) < 2:
        return []
    wins = [p for p in gains if p.gain is not None and p.gain.low > 0.0]
    losses = [p for p in gains if p.gain is not None and p.gain.high < 0.0]
    ties = len(gains) - len(wins) - len(losses)
    text = f"Over {len(gains)} loads {subject} is better than stock vLLM at {len(wins)},"
    text += f" no different at {ties} and worse at {len(losses)}"
    if losses:
        text += " (" + ", ".join(load_text(point) for point in losses) + ")"
    return [text + "."]


def _worst_off(ours: LoadPoint) -> list[str]:
    """A mean can hide a class, or a tenant, whose promises are not kept."""
    fair = ours.fairness
    groups = () if fair is None else (("class", fair.worst_class), ("tenant", fair.worst_tenant))
    told = [
        f"{what} {group.name} ({100 * group.attainment:.1f} %)" for what, group in groups if group
    ]
    return [f"Worst off with {ours.policy} there: {' and '.join(told)}."] if told else []


def _rivals(points: Sequence[LoadPoint], rate: float, ours: LoadPoint) -> list[str]:
    rivals = [p for p in points if p.rate_scale == rate and p.policy not in (ours.policy, BASELINE)]
    texts = []
    if rivals:
        best = max(rivals, key=attained)
        word = "strongest rival" if attained(best) <= attained(ours) else "best policy there"
        gain = gain_over(ours, best)
        text = f"The {word} is {best.policy}, with {_percent(best)}"
        texts.append(text + (f"; {ours.policy} has {difference(gain)}." if gain else "."))
        tuned = next((point for point in rivals if point.policy == TUNED), None)
        if tuned is not None and tuned is not best:
            texts.append(
                f"Stock vLLM with its own knobs tuned ({TUNED}) reaches {_percent(tuned)}."
            )
    return texts


def _at(points: Sequence[LoadPoint], rate: float, policy: str) -> LoadPoint | None:
    return next((p for p in points if p.rate_scale == rate and p.policy == policy), None)


def difference(gain: Interval) -> str:
    """Of two attainments, called one only when its interval leaves zero out."""
    points, low, high = (100 * value for value in (gain.mean, gain.low, gain.high))
    if not gain.excludes_zero:
        return (
            f"no certain difference ({points:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f})"
        )
    if points > 0.0:
        return f"{points:.1f} points more (95 % interval {low:.1f} to {high:.1f})"
    return f"{-points:.1f} points fewer (95 % interval {-high:.1f} to {-low:.1f})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _percent(point: LoadPoint) -> str:
    return f"{100 * attained(point):.1f} % of the requests"
