"""What became of each request, and why? Noted as it happens, written as one line when it ends.

It decides nothing, and costs a step a look at each request that got a token. Without a `run_dir`,
in the twin for instance, nothing is noted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import partial

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.engine import EngineCoreOutputs
from vllm.v1.request import Request

from scorpio.core.plan import FinalState, Forecast, Rejection
from scorpio.core.request import RequestView
from scorpio.engine.gated_queue import GatedQueue
from scorpio.engine.ledger.blocks import picked
from scorpio.engine.ledger.note import Note, entry_from
from scorpio.engine.ledger.salt import ledger_salt
from scorpio.engine.ledger.writer import LedgerWriter
from scorpio.engine.record.outcomes import missed
from scorpio.engine.view.request_facts import final_state
from scorpio.ledger.entry import ShadowWord
from scorpio.ledger.facts import Facts
from scorpio.settings import ScorpioSettings

_MIB = 1 << 20


class Ledger:
    """The decision ledger of one engine. Its methods may raise: the caller watches."""

    def __init__(self, settings: ScorpioSettings, engine: int) -> None:
        run_dir, most_bytes = settings.run_dir, int(settings.ledger_mib * _MIB)
        self._writer: LedgerWriter | None = None
        self._salt = b""
        if run_dir is not None and most_bytes:
            self._writer = LedgerWriter(run_dir, engine, most_bytes)
            self._salt = ledger_salt(run_dir)
        self._engine = engine
        self._unnamed = settings.unnamed_class
        self._notes: dict[str, Note] = {}
        self._starts = self._steps = self._step_tokens = 0

    @property
    def ids(self) -> set[str]:
        """Requests of which something is noted."""
        return set(self._notes)

    def describe(self, facts: Facts) -> None:
        """The engine as it is from here on."""
        if self._writer is not None:
            self._writer.begin(facts.to_line())

    def arrived(self, view: RequestView, request: Request, scheduler: AsyncScheduler) -> None:
        """A new request, before it is queued."""
        if self._writer is None:
            return
        queue: GatedQueue = scheduler.waiting
        table, due_s = queue.table, view.deadline_s
        due = table.deadline_s <= due_s
        block_tokens = scheduler.kv_cache_manager.block_pool.hash_block_size
        self._notes[view.request_id] = Note(
            view=view,
            arrived_unix_s=request.arrival_time,
            blocks=picked(request.block_hashes, view.prompt_tokens, block_tokens),
            label=view.slo_class or self._unnamed,
            waiting=len(queue),
            waiting_tokens=queue.prompt_tokens,
            running=len(scheduler.running),
            due_before=int(due.sum()),
            due_before_tokens=int(table.prefill_tokens[due].sum()),
            starts=self._starts,
            steps=self._steps,
            step_tokens=self._step_tokens,
        )

    def scheduled(self, output: SchedulerOutput, now_s: float, policy: str) -> None:
        """A step is on its way."""
        if self._writer is None:
            return
        for new in output.scheduled_new_reqs:  # the V2 runner lists resumed ones here too
            note = self._notes.get(new.req_id)
            if note is not None and math.isnan(note.started_s):
                note.started_s, note.policy = now_s, policy
                note.cached_tokens = new.num_computed_tokens
                self._waited(note)
                self._starts += 1
        self._steps += 1
        self._step_tokens += output.total_num_scheduled_tokens

    def forecast(self, forecasts: Iterable[Forecast]) -> None:
        """What the policy expects of those that it lets in; the latest counts."""
        for forecast in forecasts:
            note = self._notes.get(forecast.request_id)
            if note is not None:
                note.forecast = forecast

    def outputs_came(self, outputs: Mapping[int, EngineCoreOutputs], now_s: float) -> None:
        """Tokens of requests that go on; those of one that ends with them are noted by `ended`."""
        if not self._notes:
            return
        note_of = self._notes.get
        for batch in outputs.values():  # in one piece: it runs for each request in each step
            for output in batch.outputs:
                note = note_of(output.request_id)
                if note is None or not output.new_token_ids:
                    continue
                gap_s = now_s - note.last_token_s
                note.last_token_s = now_s
                if gap_s > note.worst_gap_s:
                    note.worst_gap_s = gap_s
                elif gap_s != gap_s:  # NaN: there was none before
                    note.first_token_s = now_s

    def refusing(self, rejections: Iterable[Rejection], policy: str) -> None:
        """These are about to end because they are refused."""
        for rejection in rejections:
            note = self._notes.get(rejection.request_id)
            if note is not None:
                note.rejection, note.policy = rejection, policy

    def ended(
        self, request: Request, view: RequestView, now_s: float, shadow: ShadowWord | None = None
    ) -> None:
        """It leaves the engine: its line is queued. view: as last known."""
        note = self._notes.pop(request.request_id, None)
        if note is None or self._writer is None:
            return
        state, note.output_tokens = final_state(request), request.num_output_tokens
        note.view, note.ended_s, note.shadow = view, now_s, shadow
        if state is FinalState.FINISHED and note.output_tokens:
            note.last_came(now_s)
            note.missed = missed(view, note.first_token_s, now_s, note.output_tokens)
        if math.isnan(note.started_s):
            self._waited(note)
        if state is not FinalState.ABORTED:
            note.rejection = None  # it could not be ended then
        elif note.rejection is not None:
            state = FinalState.REJECTED
        note.outcome, note.finish_reason = state.value, str(request.get_finished_reason())
        note.preemptions = request.num_preemptions
        self._writer.put(partial(_line, note, self._engine, self._salt))

    def flush(self) -> None:
        """All lines so far are on disk."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """The engine ends."""
        if self._writer is not None:
            self._writer.close()

    def state(self) -> dict[str, object]:
        """For status.json."""
        writer = self._writer
        return {
            "ledger_lines": 0 if writer is None else writer.written,
            "ledger_dropped": 0 if writer is None else writer.dropped,
        }

    def _waited(self, note: Note) -> None:
        """It waits no longer: what the engine did meanwhile."""
        note.starts = self._starts - note.starts
        note.steps = self._steps - note.steps
        note.step_tokens = self._step_tokens - note.step_tokens


def _line(note: Note, engine: int, salt: bytes) -> str:
    return entry_from(note, engine, salt).to_line()
