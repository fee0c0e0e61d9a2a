"""How are answers about recorded traffic told? Shares in percent, differences in points, times in
ms; the same cells on the screen and on the page."""

from __future__ import annotations

from collections.abc import Sequence

from scorpio.studies.recorded.answers import ClassAnswer, TimeError
from scorpio.studies.recorded.traffic import NOT_MODELLED, Recorded
from workloads.report.result_table import NONE
from workloads.results.intervals import Interval
from workloads.targets import ALL

_TOO_FAR = 0.2  # off in time
_ANOTHER_ENGINE = (
    "That is another engine than the one that served, whatever the attainment says: measure it"
    " again, or fit its speed to the ledger (--gpu fitted, of a what-if --recorded-gpu fitted)"
)
TERMS = {
    "Good": "finished, with its first token (TTFT), its rate of tokens (TPOT) and its end in time, "
    "as it asked for. Refused requests are not.",
    "Attainment": "good requests / all requests.",
    "Twin": "vLLM's real scheduler in virtual time, with the step times of the engine as measured.",
    "Points": "the difference of two percentages.",
    "[low, high]": "95 % bootstrap interval over blocks of neighbouring requests and over runs of "
    "the twin with other noise. It does not hold the error of the twin: that stands beside it.",
}


def percent(found: Interval | None) -> str:
    """`71.2 [68.0, 74.1]`."""
    if found is None:
        return NONE
    return f"{100 * found.mean:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def at(answers: Sequence[ClassAnswer], name: str = ALL) -> ClassAnswer:
    """Of one class. Raises StopIteration when there is none."""
    return next(answer for answer in answers if answer.name == name)


def how_wrong(error: Sequence[ClassAnswer], times: Sequence[TimeError]) -> str:
    """One sentence: the twin of what happened, against what happened."""
    whole, worst = at(error), max(error, key=lambda row: abs(row.gain.mean) if row.gain else 0.0)
    assert whole.gain is not None
    assert worst.gain is not None
    text = f"The twin of what happened is off by {100 * whole.gain.mean:+.1f} points of attainment"
    if worst.name != ALL:
        text += f" (the worst class, {worst.name}: {100 * worst.gain.mean:+.1f})"
    typical = [row for row in times if row.metric.endswith(("mean", "p50"))]
    if typical:
        text += "; " + ", ".join(f"{row.metric} by {100 * row.error:+.0f} %" for row in typical)
    if any(abs(row.error) > _TOO_FAR for row in typical):
        text += f". {_ANOTHER_ENGINE}"
    return f"{text}."


def time_rows(times: Sequence[TimeError]) -> list[list[str]]:
    """Cells: metric, what happened, twin, error."""
    return [
        [row.metric, f"{row.real_ms:,.1f}", f"{row.twin_ms:,.1f}", f"{100 * row.error:+.1f} %"]
        for row in times
    ]


def reservations(traffic: Recorded, seeds: int) -> list[str]:
    """What weakens an answer of the twin; told where it applies."""
    found = []
    left = len(traffic.requests) - len(traffic.compared)
    if left:
        found.append(
            f"{left} requests whose clients left, or that failed, load the twin too, and are in no"
            " share."
        )
    guessed = [line for line in traffic.told if "never came" in line]
    found += [f"{line[0].upper()}{line[1:]}." for line in guessed]
    if traffic.gpu is None or traffic.profile is None or traffic.gpu.step != traffic.profile.step:
        found.append("The engine's speed is not its profile's: it is fitted, or named by hand.")
    limits = {} if traffic.facts is None else traffic.facts.limits
    found += [
        f"The server had {what}, which the twin does not: its answer is of a server without."
        for name, what in NOT_MODELLED.items()
        if limits.get(name)
    ]
    if seeds < 3:
        found.append("Fewer than three runs of the twin: the interval knows little of its noise.")
    found.append("Refused requests are taken to be gone: clients that try again are more load.")
    return found
