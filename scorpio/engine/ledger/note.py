"""What is noted of a request while it lives? Its side of the ledger's line, filled as it goes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scorpio import __version__
from scorpio.core.plan import Forecast, Rejection
from scorpio.core.request import RequestView
from scorpio.engine.ledger.blocks import Picked, salted
from scorpio.ledger.entry import Entry, ShadowWord, Verdict, verdict_of
from scorpio.ledger.ids import hashed, ledger_id

_NAN = math.nan


@dataclass(slots=True)
class Note:
    """Times are those of the serving clock, NaN before they come. The fields are an `Entry`'s;
    steps, starts and step_tokens are the engine's counts when it came, then what they grew by."""

    view: RequestView
    arrived_unix_s: float
    blocks: Picked
    label: str  # of its class
    waiting: int
    waiting_tokens: int
    running: int
    due_before: int
    due_before_tokens: int
    starts: int
    steps: int
    step_tokens: int
    policy: str = ""
    rejection: Rejection | None = None
    forecast: Forecast | None = None
    started_s: float = _NAN
    cached_tokens: int = 0
    first_token_s: float = _NAN
    last_token_s: float = _NAN
    worst_gap_s: float = 0.0
    ended_s: float = _NAN
    output_tokens: int = 0
    preemptions: int = 0
    outcome: str = ""
    finish_reason: str = ""
    missed: tuple[str, ...] = ()
    shadow: ShadowWord | None = None

    def last_came(self, now_s: float) -> None:
        """Its last token, which may be the first."""
        if math.isnan(self.last_token_s):
            self.first_token_s = now_s
        else:
            self.worst_gap_s = max(self.worst_gap_s, now_s - self.last_token_s)
        self.last_token_s = now_s


def entry_from(note: Note, engine: int, salt: bytes) -> Entry:
    """The line of a request that has ended. A forecast of nothing is none: its engine was never
    measured."""
    view, told, forecast = note.view, note.rejection, note.forecast

    def after_ms(time_s: float) -> float | None:
        return _ms(time_s - view.arrival_s)

    gaps = note.output_tokens - 1
    has_gaps = gaps > 0 and not math.isnan(note.first_token_s)
    return Entry(
        id=ledger_id(view.request_id, salt),
        engine=engine,
        arrived_unix_s=round(note.arrived_unix_s, 6),
        prompt_tokens=view.prompt_tokens,
        max_tokens=view.max_tokens,
        predicted_tokens=_rounded(view.predicted_output_tokens),
        slo_class=note.label,
        slo_ttft_ms=_ms(view.slo.ttft_s),
        slo_tpot_ms=_ms(view.slo.tpot_s),
        slo_e2el_ms=_ms(view.slo.e2e_s),
        on_miss=view.slo.on_miss.value,
        tenant=hashed(view.tenant, salt),
        waiting=note.waiting,
        waiting_tokens=note.waiting_tokens,
        running=note.running,
        due_before=note.due_before,
        due_before_tokens=note.due_before_tokens,
        policy=note.policy,
        version=__version__,
        verdict=_verdict(note).value,
        reason="" if told is None else told.reason.value,
        forecast_ttft_ms=None if forecast is None else _ms(forecast.ttft_s) or None,
        forecast_tpot_ms=None if forecast is None else _ms(forecast.tpot_s) or None,
        attainable_ttft_ms=None if told is None else _ms(told.attainable_ttft_s),
        retry_after_ms=None if told is None else _ms(told.retry_after_s),
        started_ms=after_ms(note.started_s),
        starts=note.starts,
        steps=note.steps,
        step_tokens=note.step_tokens,
        cached_tokens=note.cached_tokens,
        first_token_ms=after_ms(note.first_token_s),
        ended_ms=after_ms(note.ended_s) or 0.0,
        output_tokens=note.output_tokens,
        mean_gap_ms=_ms((note.last_token_s - note.first_token_s) / gaps) if has_gaps else None,
        worst_gap_ms=_ms(note.worst_gap_s) if has_gaps else None,
        preemptions=note.preemptions,
        outcome=note.outcome,
        finish_reason=note.finish_reason,
        missed=note.missed,
        blocks=salted(note.blocks, salt),
        never=told is not None and told.never,
        shadow=note.shadow,
    )


def _verdict(note: Note) -> Verdict:
    view = note.view
    ttft_s = math.nan if note.forecast is None else note.forecast.ttft_s
    refused, expected_s = note.rejection is not None, view.arrival_s + ttft_s
    return verdict_of(refused, note.started_s, view.deadline_s, expected_s)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else _rounded(seconds * 1000.0)


def _rounded(value: float) -> float | None:
    """To a thousandth; None for what is not known or has no end."""
    return round(value, 3) if math.isfinite(value) else None
