"""Two runs of one seed that must agree: what may not matter is left out of the second.

Costs a run each, so only some seeds have them (`every`), and only those that drew the feature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from scorpio.engine.virtual.requests import AsyncScheduler
from scorpio.twin.engine.ledger import End, Entry
from tests.simulation.case import Case, run_case, simulation_of
from tests.simulation.clients import client_request
from tests.simulation.engine import Simulation
from tests.simulation.promises import is_known
from tests.simulation.swarm import Swarm

_NO_SLOS = ("slo", "hostile", "classes")
# What cuts one run at another place than the other, and what has an order of its own: another
# policy, and time between client and engine (stock counts from the engine on, we from the client).
_UNLIKE = (
    "failing", "bad_keys", "caps", "pauses", "stalls", "noise", "resets", "switch", "late",
)  # fmt: skip
EVERY = 8  # one seed in so many has its pairs


@dataclass(frozen=True, slots=True)
class Pair:
    """number: of the promise. applies: to which seeds. broken: "" or what was found."""

    number: int
    applies: Callable[[Swarm], bool]
    broken: Callable[[Case], str]


def broken_pair(case: Case) -> str:
    """The first promise that the pairs of this seed break, "" when they keep all."""
    swarm = case.swarm()
    for pair in PAIRS:
        found = pair.broken(case) if pair.applies(swarm) else ""
        if found and not is_known(f"{pair.number}: {found}"):
            return f"{pair.number}: {found}"
    return ""


def _without(case: Case, *features: str) -> Case:
    return replace(case, off=case.off | set(features))


def _again(case: Case) -> str:
    digests = {run_case(case).digest for _ in range(2)}
    return "" if len(digests) == 1 else "two runs of this seed differ"


def _disk(case: Case) -> str:
    """A disk that fails changes no decision."""
    case = _without(case, "switch")  # which an operator cannot ask for without a disk
    quiet, broken = run_case(_without(case, "disk")), run_case(case)
    return "" if quiet.digest == broken.digest else "a disk that failed changed what was done"


def _clock(case: Case) -> str:
    """The wall clock changes no decision."""
    steady, jumps = run_case(_without(case, "clock")), run_case(case)
    return (
        "" if steady.digest == jumps.digest else "a wall clock that was set changed what was done"
    )


def _pauses(case: Case) -> str:
    """33: what waits through a pause is refused no more than without the pause (choices of one
    request, which are refused together, count once)."""
    paused, squeezed = simulation_of(case), simulation_of(case, squeeze=True)
    for simulation in (paused, squeezed):
        simulation.run()
    many, few = (_refused(s.clients.entries.values()) for s in (paused, squeezed))
    return "" if many <= few + 3 + few // 3 else f"{many} refused with pauses, {few} without"


def _unasked(case: Case) -> str:
    """36: without SLOs no request is served much later than by stock vLLM."""
    plain = _without(case, *_NO_SLOS, *_UNLIKE)
    ours, stock = simulation_of(plain), simulation_of(plain, AsyncScheduler)
    for simulation in (ours, stock):
        simulation.run()
    swarm, last_s = case.swarm(), stock.clock.now_s
    # An engine that is not what its profile says has to be learned first.
    bound_s = 20.0 * swarm.step.step_s(1, 0.0)
    bound_s += (0.3 if swarm.has("misprofiled") else 0.1) * last_s
    late_s, name = max(_later(ours, stock), default=(0.0, ""))
    if swarm.has("lora"):
        # vLLM passes over who finds no place for its adapter, for as long as others come that do:
        # what one gains by our order another loses, so the longest wait counts.
        late_s, name = _longest_wait(ours)[0] - _longest_wait(stock)[0], _longest_wait(ours)[1]
    fine = late_s <= bound_s
    return "" if fine else f"{name} served {late_s:.2f} s later than by stock (of {last_s:.2f} s)"


def _later(ours: Simulation, stock: Simulation) -> Iterator[tuple[float, str]]:
    """By how much, and who."""
    for name, entry in ours.clients.entries.items():
        if entry.tokens and stock.clients.entries[name].tokens:
            yield entry.first_s - stock.clients.entries[name].first_s, name


def _longest_wait(simulation: Simulation) -> tuple[float, str]:
    """For a first token, and whose."""
    entries = simulation.clients.entries.items()
    waits = ((e.first_s - e.arrival.arrival_s, name) for name, e in entries if e.tokens)
    return max(waits, default=(0.0, ""))


def _refused(entries: Iterable[Entry]) -> int:
    return len({client_request(entry) for entry in entries if entry.end is End.REJECTED})


PAIRS = (
    Pair(26, lambda swarm: swarm.seed % (4 * EVERY) == 0, _again),
    Pair(34, lambda swarm: swarm.has("disk"), _disk),
    Pair(20, lambda swarm: swarm.has("clock"), _clock),
    Pair(33, lambda swarm: swarm.has("pauses") and swarm.has("slo"), _pauses),
    Pair(36, lambda swarm: swarm.policy == "scorpio", _unasked),
)
