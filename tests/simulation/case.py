"""What happened on this seed? One case is a seed, less some features and some requests."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

from scorpio.engine.virtual.requests import Scheduler
from scorpio.twin.engine.ledger import End, InvariantViolation
from tests.simulation.clients import client_request
from tests.simulation.engine import Simulation, StuckError
from tests.simulation.load import Call, draw_calls
from tests.simulation.scenes import SCENES
from tests.simulation.scheduler import WatchedScheduler
from tests.simulation.swarm import Swarm, draw
from tests.simulation.trouble import Trouble, draw_trouble


@dataclass(frozen=True, slots=True)
class Case:
    """off: features that the seed drew and that are left out. keep: requests, None = all. A seed
    below 0 is a scene's number."""

    seed: int
    off: frozenset[str] = frozenset()
    keep: frozenset[int] | None = None

    def swarm(self) -> Swarm:
        """The configuration of the case."""
        drawn = SCENES[self.seed].swarm if self.seed < 0 else draw(self.seed)
        return replace(drawn, features=drawn.features - self.off)

    def calls(self) -> list[Call]:
        """Its load."""
        if self.seed < 0:
            calls = SCENES[self.seed].calls
            return [c for c in calls if self.keep is None or c.index in self.keep]
        return draw_calls(self.swarm(), self.keep)

    def trouble(self) -> list[Trouble]:
        """What befalls it."""
        swarm = self.swarm()
        if self.seed < 0:
            return list(SCENES[self.seed].trouble) if swarm.has("pauses") else []
        # Trouble comes when it came in the whole case.
        last_s = swarm.requests * swarm.mean_request_s / swarm.spec.max_num_seqs / swarm.load
        return draw_trouble(swarm, last_s)


@dataclass(slots=True)
class Outcome:
    """violation: "" when every promise was kept, else it begins with the number of the promise.
    refused, left: names of requests, the choices of one counted once."""

    seed: int
    requests: int = 0
    steps: int = 0
    virtual_s: float = 0.0
    refused: frozenset[str] = frozenset()
    left: frozenset[str] = frozenset()
    digest: str = ""
    violation: str = ""
    injected: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)

    @property
    def number(self) -> str:
        """Of the broken promise."""
        return self.violation.partition(":")[0]


def simulation_of(
    case: Case,
    scheduler_cls: type[Scheduler] = WatchedScheduler,
    keep_log: bool = False,
    squeeze: bool = False,
) -> Simulation:
    """The engine of a case, before its first call. squeeze: pauses take no time."""
    return Simulation(case.swarm(), case.calls(), case.trouble(), scheduler_cls, keep_log, squeeze)


def run_case(
    case: Case, scheduler_cls: type[Scheduler] = WatchedScheduler, keep_log: bool = False
) -> Outcome:
    """Run it to its end, or to the first broken promise."""
    outcome = Outcome(case.seed)
    simulation = simulation_of(case, scheduler_cls, keep_log)
    try:
        simulation.run()
    except (InvariantViolation, StuckError) as error:
        outcome.violation = str(error)
    except Exception as error:  # whatever leaves the scheduler ends EngineCore
        where = _last_frame(error)
        outcome.violation = f"19: {type(error).__name__}: {error} ({where})"
    entries = simulation.clients.entries.values()
    served = SCENES[case.seed].served if case.seed < 0 else None
    if served is not None and not outcome.violation:
        name, number = served
        refused = [
            e for e in entries if e.end is End.REJECTED and client_request(e).startswith(name)
        ]
        if refused:
            outcome.violation = f"{number}: {len(refused)} refused that can be served in time"
    outcome.requests = len(entries)
    outcome.steps = simulation.steps
    outcome.refused = simulation.clients.requests_that(End.REJECTED)
    outcome.left = simulation.clients.requests_that(End.LEFT)
    outcome.virtual_s = simulation.clock.now_s
    outcome.digest = simulation.log.digest
    outcome.injected = simulation.injected
    outcome.known = simulation.watch.promises.known
    outcome.ends = Counter("alive" if e.end is None else e.end.value for e in entries)
    outcome.injected["client left"] += sum(e.end is End.LEFT for e in entries)
    outcome.lines = simulation.log.lines or []
    return outcome


def _last_frame(error: BaseException) -> str:
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    if frame is None:
        return "?"
    code = frame.tb_frame.f_code
    return f"{code.co_filename.rpartition('/')[2]}:{frame.tb_lineno} {code.co_name}"
