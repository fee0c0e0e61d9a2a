"""What happens to the engine from outside, and when? One ordered list, drawn from the seed."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from random import Random

from tests.simulation.swarm import POLICIES, Swarm, tick

HOUR_S = 3600.0


class Kind(enum.Enum):
    """What an operator, the machine or the disk does to an engine."""

    PAUSE_KEEP = "pause keep"
    PAUSE_WAIT = "pause wait"
    PAUSE_ABORT = "pause abort"
    SLEEP = "sleep"  # keep, and the cache is cleared
    RESUME = "resume"
    STOPPED = "stopped"  # SIGSTOP for a while
    RESET = "cache reset"
    RESET_ALL = "cache reset, running requests as well"
    CLOCK = "wall clock set"
    DISK_BREAKS = "disk breaks"
    DISK_WORKS = "disk works again"
    SWITCH = "policy switch"
    POLICY_FAILS = "policy fails"


# Nothing of the engine's: it must not even wake for these.
UNFELT = (Kind.CLOCK, Kind.DISK_BREAKS, Kind.DISK_WORKS)
PAUSES = (Kind.PAUSE_KEEP, Kind.PAUSE_WAIT, Kind.PAUSE_ABORT, Kind.SLEEP)


@dataclass(frozen=True, slots=True)
class Trouble:
    """value: seconds (pause, stop, clock), a policy's name, or how often the policy fails."""

    at_s: float
    kind: Kind
    value: float | str = 0.0


def draw_trouble(swarm: Swarm, until_s: float) -> list[Trouble]:
    """All that befalls this engine, by time; `until_s` is about when the last request comes."""
    until_s = max(until_s, 20.0 * swarm.step.step_s(1, 0.0))
    found = [
        replace(one, at_s=tick(one.at_s))
        for feature, draw in _DRAWS.items()
        if swarm.has(feature)
        for one in draw(Random(f"{swarm.seed} {feature}"), swarm, until_s)
    ]
    # Of two at the same time the first drawn is first: one pause ends before the next begins.
    return sorted(found, key=lambda trouble: trouble.at_s)


def pauses_of(trouble: Iterable[Trouble]) -> list[tuple[float, float]]:
    """(from, to) of each pause."""
    found: list[tuple[float, float]] = []
    since_s = 0.0
    for one in trouble:
        if one.kind is Kind.RESUME:
            found.append((since_s, one.at_s))
        elif one.kind in PAUSES:
            since_s = one.at_s
    return found


def _times(rng: Random, until_s: float, most: int) -> list[float]:
    return sorted(rng.uniform(0.0, until_s) for _ in range(rng.randint(1, most)))


def _pauses(rng: Random, swarm: Swarm, until_s: float) -> Iterator[Trouble]:
    """One after the other: vLLM's client waits for a pause to be over."""
    kinds = (Kind.PAUSE_KEEP, Kind.PAUSE_KEEP, Kind.PAUSE_WAIT, Kind.PAUSE_ABORT, Kind.SLEEP)
    free_s = 0.0
    for at_s in _times(rng, until_s, 3):
        lasts_s = math.exp(rng.uniform(math.log(1.0), math.log(120.0)))
        at_s = max(at_s, free_s)
        free_s = at_s + lasts_s
        yield Trouble(at_s, rng.choice(kinds))
        yield Trouble(free_s, Kind.RESUME)


def _stalls(rng: Random, swarm: Swarm, until_s: float) -> Iterator[Trouble]:
    for at_s in _times(rng, until_s, 3):
        yield Trouble(
            at_s, Kind.STOPPED, tick(math.exp(rng.uniform(math.log(0.5), math.log(60.0))))
        )


def _resets(rng: Random, swarm: Swarm, until_s: float) -> Iterator[Trouble]:
    for at_s in _times(rng, until_s, 4):
        yield Trouble(at_s, rng.choice((Kind.RESET, Kind.RESET_ALL)))


def _clock(rng: Random, swarm: Swarm, until_s: float) -> Iterator[Trouble]:
    for at_s in _times(rng, until_s, 4):
        yield Trouble(at_s, Kind.CLOCK, rng.choice((HOUR_S, -HOUR_S, 30.0, -30.0, 0.0)))


def _disk(rng: Random, swarm: Swarm, until_s: float) -> Iterator[Trouble]:
    at_s = rng.uniform(0.0, until_s)
    yield Trouble(at_s, Kind.DISK_BREAKS)
    yield Trouble(at_s + rng.uniform(0.0, until_s), Kind.DISK_WORKS)


def _switches(rng: Random, swarm: Swarm, until_s: float) -> Iterator[Trouble]:
    for at_s in _times(rng, until_s, 3):
        yield Trouble(at_s, Kind.SWITCH, rng.choice(POLICIES))


def _failures(rng: Random, swarm: Swarm, until_s: float) -> Iterator[Trouble]:
    for at_s in _times(rng, until_s, 5):
        yield Trouble(at_s, Kind.POLICY_FAILS, float(rng.randint(1, 3)))


_DRAWS = {
    "pauses": _pauses, "stalls": _stalls, "resets": _resets, "clock": _clock, "disk": _disk,
    "switch": _switches, "failing": _failures,
}  # fmt: skip
