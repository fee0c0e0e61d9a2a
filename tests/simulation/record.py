"""How much has been simulated so far? A JSON line per portion; the report adds them up.

What ran on this machine is in `RECORD`. `publish` adds it to what stands behind the page, so that
the next machine goes on where this one ended.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

from scorpio.files import write_atomic
from scorpio.studies.marked_block import fill
from scorpio.studies.results import INPUTS, PAGES, Header, header
from tests.simulation.case import Outcome
from tests.simulation.swarm import draw

RECORD = Path("out/simulation/record.jsonl")
PAGE = PAGES / "simulation.md"
COMMAND = "make simulate"


@dataclass(slots=True)
class Portion:
    """Seeds `first_seed` .. `first_seed + seeds - 1`, all run to their ends."""

    first_seed: int
    seeds: int = 0
    requests: int = 0
    steps: int = 0
    virtual_s: float = 0.0
    cpu_s: float = 0.0
    commit: str = ""
    date: str = ""
    machine: str = ""
    injected: dict[str, int] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)
    violations: list[dict[str, object]] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """One more seed."""
        self.seeds += 1
        self._grow(outcome)
        if outcome.violation:
            self.violations.append({"seed": outcome.seed, "what": outcome.violation})

    def absorb(self, later: Portion) -> None:
        """The portion that begins where this one ends."""
        self.seeds += later.seeds
        self.cpu_s += later.cpu_s
        self._grow(later)
        self.violations += later.violations

    @property
    def header(self) -> Header:
        """Of what, when and where."""
        return Header(self.commit, self.date, self.machine, COMMAND)

    @property
    def next_seed(self) -> int:
        """The first one after it."""
        return self.first_seed + self.seeds

    def _grow(self, more: Outcome | Portion) -> None:
        self.requests += more.requests
        self.steps += more.steps
        self.virtual_s += more.virtual_s
        for mine, others in (
            (self.injected, more.injected),
            (self.ends, more.ends),
            (self.known, more.known),
        ):
            for kind, count in others.items():
                mine[kind] = mine.get(kind, 0) + count


def seeds_for(first: int, requests: int) -> list[int]:
    """As many seeds from `first` on as have this number of requests (n > 1 counted once)."""
    seeds: list[int] = []
    left = requests
    while left > 0:
        seeds.append(first + len(seeds))
        left -= draw(seeds[-1]).requests
    return seeds


def next_seed(portions: Iterable[Portion]) -> int:
    """The first that none of them has run."""
    return max((portion.next_seed for portion in portions), default=0)


def read(path: Path) -> list[Portion]:
    """All portions of this machine."""
    if not path.exists():
        return []
    return [Portion(**json.loads(line)) for line in path.read_text().splitlines()]


def published(page: Path = PAGE) -> list[Portion]:
    """What stands behind the page."""
    kept = page.with_suffix(".json")
    return [Portion(**row) for row in json.loads(kept.read_text())] if kept.exists() else []


def publish(record: Path, page: Path) -> None:
    """The record becomes part of what stands behind the page, and the page says it. The record is
    removed: what it says must not count twice."""
    portions = merged([*published(page), *read(record)])
    rows = [asdict(portion) for portion in portions]
    write_atomic(page.with_suffix(".json"), json.dumps(rows, indent=1) + "\n")
    fill(page, "report", report(portions))
    record.unlink(missing_ok=True)


def merged(portions: Sequence[Portion]) -> list[Portion]:
    """Neighbours that ran on the same code, day and machine are one."""
    made: list[Portion] = []
    for portion in portions:
        last = made[-1] if made else None
        if last and (last.header, last.next_seed) == (portion.header, portion.first_seed):
            last.absorb(portion)
        else:
            made.append(portion)
    return made


def append(path: Path, portion: Portion) -> None:
    """One line more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(asdict(portion)) + "\n")


@cache
def this_header() -> Header:
    """Which code this is, and where; asked once, as the tree may move on while a run goes on."""
    return header(COMMAND, (*INPUTS, "tests/simulation"), clean=False)


def report(portions: Iterable[Portion]) -> str:
    """The part of docs/results/simulation.md that says what has been run."""
    all_of = list(portions)
    injected: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    for portion in all_of:
        injected.update(portion.injected)
        ends.update(portion.ends)
    violations = [v for portion in all_of for v in portion.violations]
    numbers = Counter(str(v["what"]).partition(":")[0] for v in violations)
    rows = [
        ("requests", f"{sum(p.requests for p in all_of):,}"),
        ("seeds", f"{sum(p.seeds for p in all_of):,}"),
        ("steps", f"{sum(p.steps for p in all_of):,}"),
        ("engine time", f"{sum(p.virtual_s for p in all_of) / 3600.0:,.0f} h"),
        ("processor time", f"{sum(p.cpu_s for p in all_of) / 3600.0:,.1f} h"),
        *((f"ended: {kind}", f"{count:,}") for kind, count in sorted(ends.items())),
        *((f"injected: {kind}", f"{count:,}") for kind, count in sorted(injected.items())),
        ("broken promises", f"{len(violations):,}"),
        *((f"of number {number}", f"{count:,}") for number, count in sorted(numbers.items())),
    ]
    heads = dict.fromkeys(str(portion.header) for portion in all_of)
    lines = [*heads, "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    return "\n".join(lines) + "\n"
