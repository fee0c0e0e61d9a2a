"""How many hostile requests has the server stood? Portions that add up, in one record.

A campaign goes on where its record ends: the next portion sends the next numbers of the same seed.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from scorpio.files import write_atomic
from tests.fuzz.bodies import Shot, shot
from tests.fuzz.known import known_fault
from tests.fuzz.shoot import LATE_S, Gun, Hit

AT_ONCE = 32
PORTION = 1000
MAX_FINDINGS = 100
_VARYING = re.compile(r"[0-9a-f]{8,}|\d+")


@dataclass(slots=True)
class Campaign:
    """What was sent and what came back. findings: number of the shot, status, text; one a kind."""

    seed: int = 1
    done: int = 0
    answers: dict[str, int] = field(default_factory=dict)
    late: int = 0
    slowest_s: float = 0.0
    slowest: int = 0
    hours: float = 0.0
    known: dict[str, int] = field(default_factory=dict)
    findings: list[tuple[int, int, str]] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, seed: int) -> Campaign:
        """The record so far; a new one when there is none."""
        if not path.exists():
            return cls(seed)
        kept = cls(**json.loads(path.read_text()))
        if kept.seed != seed:
            raise SystemExit(f"{path} is of seed {kept.seed}: another --out, or that seed")
        return kept

    def write(self, path: Path) -> None:
        """Whole or not at all."""
        write_atomic(path, json.dumps(asdict(self), indent=1) + "\n")

    def note(self, number: int, one: Shot, hit: Hit) -> None:
        """Count one answer; keep the first of each kind of fault."""
        self.done += 1
        status = str(hit.status)
        self.answers[status] = self.answers.get(status, 0) + 1
        if hit.seconds > self.slowest_s:
            self.slowest_s, self.slowest = round(hit.seconds, 3), number
        self.late += hit.seconds > LATE_S
        if not hit.is_fault:
            return
        if (name := known_fault(one, hit)) is not None:
            self.known[name] = self.known.get(name, 0) + 1
            return
        kind = f"{one.path} {status} {_VARYING.sub('#', hit.text)[:160]}"
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if self.kinds[kind] == 1 and len(self.findings) < MAX_FINDINGS:
            self.findings.append((number, hit.status, f"{one.path} {hit.text}"))


async def run_campaign(
    campaign: Campaign, url: str, count: int, after: Callable[[Campaign], None]
) -> None:
    """Send the next `count` shots; `after` is called with the record after each portion."""
    end = campaign.done + count
    while campaign.done < end:
        start_s = time.monotonic()
        numbers = iter(range(campaign.done, min(campaign.done + PORTION, end)))
        await asyncio.gather(*(_send_all(campaign, url, numbers) for _ in range(AT_ONCE)))
        campaign.hours += (time.monotonic() - start_s) / 3600.0
        after(campaign)


async def _send_all(campaign: Campaign, url: str, numbers: Iterator[int]) -> None:
    """Take numbers until there are no more; several of these share them."""
    gun = Gun(url)
    try:
        for number in numbers:
            one = shot(campaign.seed, number)
            campaign.note(number, one, await gun.shoot(one))
    finally:
        gun.close()
