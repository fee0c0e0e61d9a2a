"""Did two runs do exactly the same? A running digest of everything that happened, in order."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from scorpio.twin.engine.ledger import Entry
from scorpio.twin.engine.runner import StepWork


class EventLog:
    """Digest of steps and request events; `keep=True` keeps the lines too (tests, debugging)."""

    def __init__(self, keep: bool = False) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self.lines: list[str] | None = [] if keep else None

    def step(self, now_s: float, work: StepWork, preempted: Collection[str]) -> None:
        """One scheduled step (its work fixes which requests were in it, up to equal contexts)."""
        gone = ",".join(sorted(preempted)) if preempted else ""
        drafts = f" with {work.draft_tokens} drafts" if work.draft_tokens else ""
        self._write(
            f"{now_s!r} step {work.decodes} {work.decode_context_tokens} {work.prefill_tokens} "
            f"{work.prefill_sq_tokens} {work.prefill_prefix_products} {gone}{drafts}"
        )

    def request(self, now_s: float, entry: Entry) -> None:
        """First token or end of a request."""
        end = "first token" if entry.end is None else f"{entry.end.value} {entry.reason}"
        self._write(f"{now_s!r} {entry.arrival.request_id} {entry.tokens} {end}")

    def digest(self) -> str:
        """Hex digest of all events so far."""
        return self._hash.hexdigest()

    def _write(self, line: str) -> None:
        self._hash.update(line.encode())
        self._hash.update(b"\n")
        if self.lines is not None:
            self.lines.append(line)
