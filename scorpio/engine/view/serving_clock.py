"""How long could requests have been served? A clock that stands still while the engine does.

All times of requests (arrival, deadline, first token) are on it: what waits while an operator has
paused the engine or put it to sleep, or while the process was stopped, has not waited.
"""

from __future__ import annotations

from collections.abc import Callable

MAX_TRANSIT_S = 60.0
# vLLM comes by at every step. No step that it may hope for is so much longer than the longest of
# late, and the time between two steps is the host's alone: then the process did not run.
_STOPPED_S = 5.0
_STEPS = 20.0
# Nor does it stop at each call: an engine whose steps are so long is slow. (How long they are is
# not known before one has been timed, and what was taken for a stop is not.)
_AGAIN, _FADE = 2.0, 0.99


class ServingClock:
    """`read`: the clock that always runs."""

    def __init__(self, read: Callable[[], float]) -> None:
        self._read = read
        self._lost_s = 0.0
        self._paused_s: float | None = None  # since when
        self._seen_s = 0.0
        self._worked = False
        self._gap_s = 0.0  # the longest of late, faded at each call
        self._stop = (0.0, 0.0)  # the last one, from and to, as `read` has it

    def now_s(self) -> float:
        """The time."""
        return self._raw_s() - self._lost_s

    def called(self, work: bool, longest_step_s: float) -> bool:
        """vLLM calls; work: is there any at hand now? True: the engine was stopped since it last
        called, though there was work then."""
        now_s = self._read()
        gap_s = now_s - self._seen_s
        usual_s = max(_STOPPED_S, _STEPS * longest_step_s, _AGAIN * self._gap_s)
        stopped = self._worked and work and gap_s > usual_s
        self._gap_s = max(_FADE * self._gap_s, gap_s if self._worked and work else 0.0)
        if stopped and self._paused_s is None:
            self._lose(self._seen_s, now_s)
        self._seen_s, self._worked = now_s, work
        return stopped

    def pause(self) -> None:
        """The engine starts no request until `resume`."""
        if self._paused_s is None:
            self._paused_s = self._read()

    def resume(self) -> None:
        """It does again."""
        if self._paused_s is not None:
            self._lose(self._paused_s, self._read())
            self._paused_s = None
            self._worked = False

    @property
    def paused(self) -> bool:
        """Between `pause` and `resume`."""
        return self._paused_s is not None

    def arrival_s(self, transit_s: float) -> float:
        """When a request arrived that has been on its way for `transit_s` of wall-clock time. That
        clock may have been stepped: clamped, it moves no deadline far."""
        now_s = self._read()
        sent_s = now_s - min(max(0.0, transit_s), MAX_TRANSIT_S)  # (NaN: 0)
        overlap_s = min(now_s, self._stop[1]) - max(sent_s, self._stop[0])
        waited_s = now_s - sent_s - max(overlap_s, 0.0)
        if self._paused_s is not None:
            waited_s = max(self._paused_s - sent_s, 0.0)
        return self.now_s() - waited_s

    def _raw_s(self) -> float:
        return self._read() if self._paused_s is None else self._paused_s

    def _lose(self, from_s: float, to_s: float) -> None:
        self._lost_s += to_s - from_s
        self._stop = (from_s, to_s)
