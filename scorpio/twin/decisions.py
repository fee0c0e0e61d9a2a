"""How does what a request met become a line of the decision log? Translation only."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from scorpio import __version__
from scorpio.core.plan import Forecast
from scorpio.core.slo import XARG_ON_MISS, XARG_PREDICTED, OnMiss
from scorpio.ledger.decision import Decision, Other
from scorpio.ledger.entry import Entry, Verdict, verdict_of
from scorpio.settings import NO_CLASS
from scorpio.twin.engine.arrivals import Arrival
from scorpio.twin.engine.decision_log import DecisionLog, Met, due_s
from scorpio.twin.engine.ledger import End
from scorpio.twin.engine.ledger import Entry as Answer
from scorpio.twin.translate import records
from workloads.results.records import Miss, RequestRecord

_ENDS = {
    End.FINISHED: ("finished", "stop"),
    End.REJECTED: ("rejected", "abort"),
    End.TURNED_AWAY: ("rejected", "abort"),
    End.LEFT: ("aborted", "abort"),
}
_MISSED = {
    Miss.TTFT: ("ttft",),
    Miss.TPOT: ("tpot",),
    Miss.BOTH: ("ttft", "tpot"),
    Miss.E2E: ("e2e",),
}


def decisions(
    log: DecisionLog,
    answers: Mapping[str, Answer],
    forecasts: Mapping[str, Forecast],
    policy: str,
    stride: int,
) -> tuple[Decision, ...]:
    """In order of arrival; stride: see `ClientPool`. All requests have ended."""
    return tuple(
        _decision(met, answers[name], forecasts.get(name), policy, stride)
        for name, met in log.met.items()
    )


def _decision(
    met: Met, answer: Answer, forecast: Forecast | None, policy: str, stride: int
) -> Decision:
    assert met.decided is not None, "it waits no longer: it has ended"
    return Decision(
        entry=_entry(met, answer, forecast, policy, stride),
        index=met.arrival.index % stride,
        tries=met.arrival.index // stride + 1,
        waiting=met.decided.waiting,
        waiting_tokens=met.decided.waiting_tokens,
        running=met.decided.running,
        overtaken_by=met.overtaken_by,
        started=_others(met, met.started, stride),
        kept=_others(met, met.kept, stride),
    )


def _entry(met: Met, answer: Answer, forecast: Forecast | None, policy: str, stride: int) -> Entry:
    arrival, expected = (
        met.arrival,
        {} if forecast is None else {answer.arrival.request_id: forecast},
    )
    record = records([answer], expected)[0]
    verdict = _verdict(met, answer, forecast)
    refused = verdict is Verdict.REFUSED
    outcome, finish = _ENDS.get(answer.end or End.FAILED, ("failed", answer.reason))
    hint = arrival.xargs.get(XARG_PREDICTED)
    return Entry(
        id=_name(arrival, stride),
        engine=0,
        arrived_unix_s=arrival.arrival_s,
        prompt_tokens=arrival.prompt_tokens,
        max_tokens=arrival.max_tokens,
        predicted_tokens=float(hint) if isinstance(hint, int | float) else None,
        slo_class=arrival.slo_class or NO_CLASS,
        slo_ttft_ms=_ms(arrival.slo.ttft_s),
        slo_tpot_ms=_ms(arrival.slo.tpot_s),
        slo_e2el_ms=_ms(arrival.slo.e2e_s),
        on_miss=str(arrival.xargs.get(XARG_ON_MISS, OnMiss.REJECT.value)),
        tenant=arrival.tenant,
        waiting=met.came.waiting,
        waiting_tokens=met.came.waiting_tokens,
        running=met.came.running,
        due_before=met.due_before,
        due_before_tokens=met.due_before_tokens,
        policy=policy,
        version=__version__,
        verdict=verdict.value,
        reason=answer.reason if refused else "",
        forecast_ttft_ms=_known_ms(None if refused or forecast is None else forecast.ttft_s),
        forecast_tpot_ms=_known_ms(None if refused or forecast is None else forecast.tpot_s),
        attainable_ttft_ms=_known_ms(answer.told_ttft_s),
        retry_after_ms=_known_ms(answer.retry_after_s),
        started_ms=_ms(met.started_s - arrival.arrival_s),
        starts=met.starts,
        steps=met.steps,
        step_tokens=met.step_tokens,
        cached_tokens=met.cached_tokens,
        first_token_ms=_known_ms(record.ttft_s),
        ended_ms=_ms(record.end_s - record.send_s) or 0.0,
        output_tokens=record.output_tokens,
        mean_gap_ms=_known_ms(record.tpot_s),
        worst_gap_ms=_known_ms(None if record.tpot_s is None else met.worst_gap_s),
        preemptions=answer.preemptions,
        outcome=outcome,
        finish_reason=finish,
        missed=_missed(record),
        never=answer.never,
    )


def _missed(record: RequestRecord) -> tuple[str, ...]:
    return () if record.miss is None else _MISSED[record.miss]


def _verdict(met: Met, answer: Answer, forecast: Forecast | None) -> Verdict:
    """As the ledger of a server has it."""
    refused = answer.end in (End.REJECTED, End.TURNED_AWAY)
    expected_s = met.arrival.arrival_s + (math.nan if forecast is None else forecast.ttft_s)
    return verdict_of(refused, met.started_s, due_s(met.arrival), expected_s)


def _others(met: Met, arrivals: Iterable[Arrival], stride: int) -> tuple[Other, ...]:
    origin_s = met.arrival.arrival_s
    return tuple(
        Other(
            other.index % stride,
            other.slo_class,
            other.prompt_tokens,
            round((other.arrival_s - origin_s) * 1e3, 3),
            _ms(due_s(other) - origin_s),
        )
        for other in arrivals
    )


def _name(arrival: Arrival, stride: int) -> str:
    number, tries = arrival.index % stride, arrival.index // stride + 1
    return f"request {number}" + (f", try {tries}" if tries > 1 else "")


def _known_ms(seconds: float | None) -> float | None:
    return None if seconds is None else _ms(seconds)


def _ms(seconds: float) -> float | None:
    """To a thousandth; None for what has no end or never came."""
    return round(seconds * 1e3, 3) if math.isfinite(seconds) else None
