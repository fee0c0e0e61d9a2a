"""What did each client see? The twin's ledger, with sessions and the choices of one request."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable

from scorpio.core.wire import RejectionNotice, decode_rejection
from scorpio.engine.virtual.requests import TOKEN_STRIDE, EngineCoreOutput, FinishReason
from scorpio.twin.engine.ledger import End, Entry, InvariantViolation, Ledger
from tests.simulation.load import Call


class Clients(Ledger):
    """`turn` counts the answers that a streaming session has had; `last_part_sent`: sessions whose
    client has nothing more to say; `overdue`: answers to parts of refused sessions that are to
    come.
    """

    def __init__(self) -> None:
        super().__init__()
        self.turn: dict[str, int] = {}
        self.last_part_sent: set[str] = set()
        self.overdue: Counter[str] = Counter()
        self.refused_now: list[tuple[Entry, RejectionNotice]] = []  # since the last look
        self._families: dict[str, list[Entry]] = defaultdict(list)

    def call(self, call: Call) -> Entry:
        """A request is sent."""
        entry = self.open(call)
        if call.parts:
            self.turn[call.request_id] = 0
        if call.parent:
            self._families[call.parent].append(entry)
        return entry

    def _finish(self, entry: Entry, out: EngineCoreOutput, now_s: float) -> None:
        call = entry.arrival
        assert isinstance(call, Call)
        notice = decode_rejection(out.stop_reason)
        if call.parts and entry.end is None and out.finish_reason is FinishReason.LENGTH:
            self._end_turn(entry, call, now_s)
            return
        if call.parts and notice is not None:
            self.overdue[call.request_id] -= 1
            if entry.end is End.REJECTED:  # vLLM waits for an answer to each part all the same
                return
        super()._finish(entry, out, now_s)
        if notice is not None:
            self.refused_now.append((entry, notice))
        if entry.end is End.FAILED and not call.grammar_fails:
            raise InvariantViolation(f"1: {call.request_id} failed: {entry.reason}")

    def _end_turn(self, entry: Entry, call: Call, now_s: float) -> None:
        """One answer of a session: `max_tokens` tokens each, then its next part is read."""
        turn = self.turn[call.request_id]
        if entry.tokens != (turn + 1) * call.max_tokens:
            raise InvariantViolation(
                f"14: turn {turn} of {call.request_id} ended after {entry.tokens} tokens"
            )
        if turn == len(call.parts):
            if call.request_id in self.last_part_sent:
                self.close(entry, End.FINISHED, now_s)
            return
        self.turn[call.request_id] = turn + 1
        self.overdue[call.request_id] -= 1
        # vLLM drops the last token of an answer and reads the new part in its place.
        at = sum(call.parts[: turn + 1]) + (turn + 1) * (call.max_tokens - 1)
        entry.next_token = call.index * TOKEN_STRIDE + at

    def part_read(self, call: Call) -> None:
        """The engine has an input of a session: one answer more."""
        self.overdue[call.request_id] += 1

    def requests_that(self, end: End) -> frozenset[str]:
        """Names of the requests that ended so; the choices of one have one name."""
        ended = (entry for entry in self.entries.values() if entry.end is end)
        return frozenset(client_request(entry) for entry in ended)

    def check_sessions(self, require: Callable[[bool, int, str], None]) -> None:
        """1: each part of a refused session was answered, or its client would wait for ever."""
        for name, overdue in self.overdue.items():
            refused = self.entries[name].end is End.REJECTED
            answered = overdue in (0, -1)  # the word that nothing more comes may have one, too
            require(not refused or answered, 1, f"{name} was refused, {overdue} parts unanswered")

    def check_families(self, require: Callable[[bool, int, str], None]) -> None:
        """32: choices of one request are refused together or not at all."""
        for parent, entries in self._families.items():
            refused = sum(entry.end is End.REJECTED for entry in entries)
            stayed = sum(entry.end in (End.FINISHED, End.FAILED) for entry in entries)
            part = bool(refused and stayed)
            require(not part, 32, f"{refused} choices of {parent} refused, {stayed} served")


def client_request(entry: Entry) -> str:
    """Name of the request that a client made: all choices of one have the same."""
    call = entry.arrival
    assert isinstance(call, Call)
    return call.parent or call.name
