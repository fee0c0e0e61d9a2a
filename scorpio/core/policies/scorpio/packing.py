"""Which prompts are computed in this step, and how much of each?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from scorpio.core.chunks import chunk_in_blocks, rounded
from scorpio.core.plan import Forecast, Rejection, StepPlan
from scorpio.core.policies.scorpio.admission import Admission
from scorpio.core.policies.scorpio.context import StepContext
from scorpio.core.policies.scorpio.jobs import Turn
from scorpio.core.policies.scorpio.plan_budget import within
from scorpio.core.request import RequestView
from scorpio.core.snapshot import Snapshot
from scorpio.core.step_fill import StepFill


@dataclass(slots=True)
class Packed:
    """joining: waiting requests that start. order: rows of running prefills, as they are to be
    served. left, prefix: what the last of those that start still needs after this step, and the
    tokens it has in the KV cache by then. behind_s: of the step, for those that stand behind.
    unbound: ids of those that start without a claim to their TPOT SLO. cut: of those that start
    and end their prompts in a step of its own (core/chunks.py), by id: tokens left, and those in
    the KV cache by then. fill: the whole step.
    full: there is more to compute than fits.
    drafts_all: it is one of decodes alone, and has all of their drafts verified."""

    fill: StepFill
    joining: list[RequestView] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    left: int = 0
    prefix: int = 0
    behind_s: float = 0.0
    unbound: list[str] = field(default_factory=list)
    cut: dict[str, tuple[int, int]] = field(default_factory=dict)
    full: bool = False
    drafts_all: bool = False

    def plan(
        self, step: StepContext, reject: list[Rejection], forecasts: list[Forecast]
    ) -> StepPlan:
        """As the engine takes it: running prefills without a part in this step are deferred."""
        drafts = step.decodes.drafts
        partials = (~step.snapshot.running.is_decode).nonzero()[0].tolist()
        return StepPlan(
            admit=[view.request_id for view in self.joining],
            prefill_order=self.order,
            defer_prefill=sorted(set(partials) - set(self.order)),
            reject=reject,
            token_budget=max(self.fill.tokens - step.decodes.draft_tokens, 1),
            drafts=None if drafts is None or self.drafts_all else drafts.tolist(),
            forecasts=forecasts,
        )


def pack(step: StepContext, turns: Iterable[Turn], limit_s: float, batch: Admission) -> Packed:
    """Jobs in order of their turns, as much of each as fits; one that fits in part is the last.

    limit_s: how long the step may take. vLLM serves running prefills before waiting requests. So a
    running one that would fit in part only yields when a waiting one goes before it, else it would
    take that one's tokens. One that may not join the batch is passed over. One whose beginning
    another computes waits for that, and lends it its turn.
    """
    packing = _Packing(step, limit_s, batch)
    for turn in turns:
        if not packing.take(turn):
            packing.packed.full = True
            break
    packed = packing.packed
    if not packed.fill.prefill_tokens and step.decodes.whole_s <= limit_s:
        packed.drafts_all, packed.fill.time_s = True, step.decodes.whole_s
    return packed


class _Packing:
    """A step that is being filled."""

    def __init__(self, step: StepContext, limit_s: float, batch: Admission) -> None:
        snapshot, limits, decodes = step.snapshot, step.snapshot.limits, step.decodes
        drafts = snapshot.drafts  # those at hand have their own place in the step
        most = limits.token_budget + (0 if drafts is None else int(drafts.at_hand.sum()))
        fill = StepFill(step.model, limit_s, most, decodes.tokens, decodes.context_tokens)
        self.packed = Packed(fill)
        self._waiting, self._batch = snapshot.waiting, batch
        self._partials = len(snapshot.running) - decodes.count
        self._most = limits.long_prompt_tokens or most  # of one prompt
        self._block, self._tail_apart, self._room = limits.chunk_block, limits.tail_apart, most
        self._leads = _leaders(snapshot)
        self._begun: set[int] = set()  # beginnings that are computed in this step
        scans = within(int(step.options.scan_requests), fill.time_s)
        self._scans = 0 if batch.full else scans

    def take(self, turn: Turn) -> bool:
        """As much of it as fits, if it may have a part; False: no later one gets any."""
        packed, waiting = self.packed, self._waiting
        if not turn.running and turn.shared_id in self._leads:
            row, tokens, prefix = self._leads[turn.shared_id]
            turn = turn._replace(row=row, tokens=tokens, prefix=prefix, running=True)
        if turn.running and turn.row in packed.order:
            return True
        if not turn.running and not self._scans:
            return self._partials > len(packed.order)
        if not turn.running and turn.shared_id:
            if turn.shared_id in self._begun:
                return True  # nothing is computed twice beside itself
            view = waiting[turn.row]
            turn = turn._replace(tokens=view.prefill_tokens, prefix=view.cached_tokens)
        wanted = min(turn.tokens, self._most)  # the rest of the step is for the next
        chunk = packed.fill.fits(wanted, turn.prefix)
        if chunk <= 0 and packed.fill.tokens:
            return False
        if turn.running and chunk < wanted and packed.joining:
            return False
        part = self._in_blocks(turn, max(chunk, 1)) if self._block else max(chunk, 1)
        if not part:
            return False
        if not self._starts(turn):
            return True
        self._compute(turn, part)
        return chunk >= wanted

    def _in_blocks(self, turn: Turn, chunk: int) -> int:
        """What vLLM makes of that; the first chunk of a step is never cut to nothing."""
        fill, block = self.packed.fill, self._block
        given = turn.prefix, turn.tokens, chunk, fill.tokens, block
        part = chunk_in_blocks(*given, self._tail_apart)
        if part or fill.prefill_tokens:
            return part
        return rounded(*given, self._room - fill.tokens)

    def _starts(self, turn: Turn) -> bool:
        """It is running, or joins the batch; False: it may not, and is passed over."""
        packed, batch = self.packed, self._batch
        if turn.running:
            packed.order.append(turn.row)
            return True
        view = self._waiting[turn.row]
        if self._waiting.started[turn.row]:
            batch.join(view)  # the engine lets preempted ones in by itself
            return True
        if batch.takes(view, turn.bound, turn.behind):
            batch.join(view, turn.bound, turn.behind)
            packed.joining.append(view)
            self._begun.add(turn.shared_id)
            if not turn.bound:
                packed.unbound.append(view.request_id)
            return True
        # None behind is held up, but the look ahead is bounded; nor is it overtaken for ever.
        if turn.keeps and batch.kv.lacks(view):
            batch.keep_for(view)
        self._scans = 0 if batch.full else self._scans - 1
        return False

    def _compute(self, turn: Turn, part: int) -> None:
        packed = self.packed
        before_s = packed.fill.time_s
        packed.fill.add(part, turn.prefix)
        packed.behind_s += turn.behind * (packed.fill.time_s - before_s)
        rest = turn.tokens - part
        if self._block and rest > 0 and not turn.running:
            packed.cut[self._waiting[turn.row].request_id] = rest, turn.prefix + part
        packed.left, packed.prefix = (rest, turn.prefix + part) if rest > 0 else (0, 0)


def _leaders(snapshot: Snapshot) -> dict[int, tuple[int, int, int]]:
    """By beginning: row, tokens and prefix of the running prefill that computes it."""
    if not snapshot.computing:
        return {}
    running = snapshot.running
    rows = {view.request_id: row for row, view in enumerate(running.views)}
    return {
        beginning: (row, int(running.prefill_left[row]), int(running.context_tokens[row]))
        for beginning, request_id in snapshot.computing.items()
        if (row := rows.get(request_id)) is not None and not running.is_decode[row]
    }
