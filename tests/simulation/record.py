"""How much has been simulated so far? A JSON line per portion; the report adds them up."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

from tests.simulation.case import Outcome
from tests.simulation.swarm import draw

RECORD = Path("out/simulation/record.jsonl")


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
    injected: dict[str, int] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)
    violations: list[dict[str, object]] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """One more seed."""
        self.seeds += 1
        self.requests += outcome.requests
        self.steps += outcome.steps
        self.virtual_s += outcome.virtual_s
        for mine, more in (
            (self.injected, outcome.injected),
            (self.ends, outcome.ends),
            (self.known, outcome.known),
        ):
            for kind, count in more.items():
                mine[kind] = mine.get(kind, 0) + count
        if outcome.violation:
            self.violations.append({"seed": outcome.seed, "what": outcome.violation})


def seeds_for(first: int, requests: int) -> list[int]:
    """As many seeds from `first` on as have this number of requests (n > 1 counted once)."""
    seeds: list[int] = []
    left = requests
    while left > 0:
        seeds.append(first + len(seeds))
        left -= draw(seeds[-1]).requests
    return seeds


def next_seed(path: Path) -> int:
    """The first that no recorded portion has run."""
    return max((p.first_seed + p.seeds for p in read(path)), default=0)


def read(path: Path) -> list[Portion]:
    """All portions."""
    if not path.exists():
        return []
    return [Portion(**json.loads(line)) for line in path.read_text().splitlines()]


def append(path: Path, portion: Portion) -> None:
    """One line more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(asdict(portion)) + "\n")


@cache
def commit() -> str:
    """Which code this is; asked once, as the tree may move on while a run goes on."""
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip()


def report(portions: Iterable[Portion]) -> str:
    """The table of docs/results/simulation.md."""
    all_of = list(portions)
    injected: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    for portion in all_of:
        injected.update(portion.injected)
        ends.update(portion.ends)
    violations = [v for portion in all_of for v in portion.violations]
    numbers = Counter(str(v["what"]).partition(":")[0] for v in violations)
    rows = [
        ("commits", ", ".join(dict.fromkeys(p.commit for p in all_of))),
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
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
