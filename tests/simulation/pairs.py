"""Two runs of one seed that must agree: what may not matter is left out of the second.

Costs a run each, so only some seeds have them (`every`), and only those that drew the feature. The
run of the seed itself, which has been made, is the first of the two wherever it can be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from scorpio.engine.virtual.requests import AsyncScheduler
from scorpio.twin.engine.ledger import End
from tests.simulation.case import Case, Outcome, run_case, simulation_of
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
    """number: of the promise. applies: to which seeds. broken: "" or what was found in a case and
    what its run came to."""

    number: int
    applies: Callable[[Swarm], bool]
    broken: Callable[[Case, Outcome], str]


def broken_pair(case: Case, ran: Outcome) -> str:
    """The first promise that the pairs of this seed break, "" when they keep all. ran: what a run
    of the case came to."""
    swarm = case.swarm()
    for pair in PAIRS:
        found = pair.broken(case, ran) if pair.applies(swarm) else ""
        if found and not is_known(f"{pair.number}: {found}"):
            return f"{pair.number}: {found}"
    return ""


def _without(case: Case, *features: str) -> Case:
    return replace(case, off=case.off | set(features))


def _again(case: Case, ran: Outcome) -> str:
    return "" if run_case(case).digest == ran.digest else "two runs of this seed differ"


def _disk(case: Case, ran: Outcome) -> str:
    """A disk that fails changes no decision."""
    if case.swarm().has("switch"):  # which an operator cannot ask for without a disk
        case = _without(case, "switch")
        ran = run_case(case)
    quiet = run_case(_without(case, "disk"))
    return "" if quiet.digest == ran.digest else "a disk that failed changed what was done"


def _clock(case: Case, ran: Outcome) -> str:
    """The wall clock changes no decision."""
    steady = run_case(_without(case, "clock"))
    return "" if steady.digest == ran.digest else "a wall clock that was set changed what was done"


def _pauses(case: Case, ran: Outcome) -> str:
    """33: what waits through a pause is refused no more than without the pause (choices of one
    request, which are refused together, count once). What leaves in one of the runs cannot be
    compared: where nothing takes time, a client may leave before its answer."""
    squeezed = simulation_of(case, squeeze=True)
    squeezed.run()
    refused, left = map(squeezed.clients.requests_that, (End.REJECTED, End.LEFT))
    many, few = len(ran.refused - left), len(refused - ran.left)
    return "" if many <= few + 3 + few // 3 else f"{many} refused with pauses, {few} without"


def _unasked(case: Case, ran: Outcome) -> str:
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


PAIRS = (
    Pair(26, lambda swarm: swarm.seed % (4 * EVERY) == 0, _again),
    Pair(34, lambda swarm: swarm.has("disk"), _disk),
    Pair(20, lambda swarm: swarm.has("clock"), _clock),
    Pair(33, lambda swarm: swarm.has("pauses") and swarm.has("slo"), _pauses),
    Pair(36, lambda swarm: swarm.policy == "scorpio", _unasked),
)
