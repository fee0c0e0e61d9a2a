"""Which prompts are computed in this step, and how much of each?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

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
    unbound: ids of those that start without a claim to their TPOT SLO. fill: the whole step."""

    fill: StepFill
    joining: list[RequestView] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    left: int = 0
    prefix: int = 0
    behind_s: float = 0.0
    unbound: list[str] = field(default_factory=list)

    def plan(
        self, step: StepContext, reject: list[Rejection], forecasts: list[Forecast]
    ) -> StepPlan:
        """As the engine takes it: running prefills without a part in this step are deferred."""
        partials = (~step.snapshot.running.is_decode).nonzero()[0].tolist()
        return StepPlan(
            admit=[view.request_id for view in self.joining],
            prefill_order=self.order,
            defer_prefill=sorted(set(partials) - set(self.order)),
            reject=reject,
            token_budget=max(self.fill.tokens, 1),
            forecasts=forecasts,
        )


def pack(step: StepContext, turns: Iterable[Turn], limit_s: float, batch: Admission) -> Packed:
    """Jobs in order of their turns, as much of each as fits; one that fits in part is the last.

    limit_s: how long the step may take. vLLM serves running prefills before waiting requests. So a
    running one that would fit in part only yields when a waiting one goes before it, else it would
    take that one's tokens. One that may not join the batch is passed over. One whose beginning
    another computes waits for that, and lends it its turn.
    """
    snapshot, decodes, waiting = step.snapshot, step.decodes, step.snapshot.waiting
    fill = StepFill(
        step.model,
        limit_s,
        snapshot.limits.token_budget,
        decodes.count,
        decodes.context_tokens,
    )
    partials = len(snapshot.running) - decodes.count
    begun: set[int] = set()
    most = snapshot.limits.long_prompt_tokens or snapshot.limits.token_budget
    leads = _leaders(snapshot)
    packed = Packed(fill)
    scans = 0 if batch.full else within(int(step.options.scan_requests), fill.time_s)
    for turn in turns:
        row, tokens, prefix, running = turn.row, turn.tokens, turn.prefix, turn.running
        if not running and turn.shared_id in leads:
            row, tokens, prefix = leads[turn.shared_id]
            running = True
        if running and row in packed.order:
            continue
        if not running and not scans:
            if partials == len(packed.order):
                break
            continue
        if not running and turn.shared_id:
            if turn.shared_id in begun:
                continue  # nothing is computed twice beside itself
            tokens, prefix = waiting[row].prefill_tokens, waiting[row].cached_tokens
        wanted = min(tokens, most)  # of one prompt; the rest of the step is for the next
        chunk = fill.fits(wanted, prefix)
        if chunk <= 0 and fill.tokens:
            break
        if running:
            if chunk < wanted and packed.joining:
                break
            packed.order.append(row)
        elif waiting.started[row]:
            batch.join(waiting[row])  # the engine lets preempted ones in by itself
        elif batch.takes(waiting[row], turn.bound, turn.behind):
            batch.join(waiting[row], turn.bound, turn.behind)
            packed.joining.append(waiting[row])
            begun.add(turn.shared_id)
            if not turn.bound:
                packed.unbound.append(waiting[row].request_id)
        else:
            # None behind is held up, but the look ahead is bounded; nor is it overtaken for ever.
            if turn.keeps and batch.lacks_kv(waiting[row]):
                batch.keep_for(waiting[row])
            scans = 0 if batch.full else scans - 1
            continue
        part, before_s = max(chunk, 1), fill.time_s
        fill.add(part, prefix)
        packed.behind_s += turn.behind * (fill.time_s - before_s)
        rest = tokens - part
        packed.left, packed.prefix = (rest, prefix + part) if rest > 0 else (0, 0)
        if chunk < wanted:
            break
    return packed


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
