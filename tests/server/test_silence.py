"""Is silence told from slowness, idleness and a process that stood still itself?"""

from __future__ import annotations

from scorpio.server.state.silence import Silence

STALL_S = 15.0


def listen(silence: Silence, signs: list[int], start_s: float = 0.0, busy: bool = True) -> float:
    """One look every half second; returns the time of the last."""
    now_s = start_s
    for sign in signs:
        now_s += 0.5
        silence.look(now_s, busy, sign)
    return now_s


def test_silence_is_counted_from_the_last_sign() -> None:
    silence = Silence()
    listen(silence, [1, 2, 3] + [4] * 7)
    assert silence.silent_s == 3.0
    assert silence.frozen(STALL_S)


def test_an_idle_engine_is_never_silent() -> None:
    silence = Silence()
    listen(silence, [1] * 100, busy=False)
    assert silence.silent_s == 0.0
    listen(silence, [1] * 2, start_s=50.0)  # nor is its past held against it
    assert silence.silent_s == 1.0


def test_a_slow_engine_is_not_frozen() -> None:
    """Steps of 2.5 s: three times that is silence, never more than the stall."""
    silence = Silence()
    end_s = listen(silence, [1] * 6 + [2] * 6 + [3] * 6 + [4] * 12)
    assert silence.silent_s == 5.5
    assert not silence.frozen(STALL_S)
    listen(silence, [4] * 5, end_s)
    assert silence.frozen(STALL_S)
    assert silence.frozen(5.0)


def test_a_long_silence_is_forgotten() -> None:
    silence = Silence()
    end_s = listen(silence, [1] * 100 + list(range(2, 60)))
    listen(silence, [60] * 6, end_s)
    assert silence.frozen(STALL_S)


def test_time_in_which_this_process_stood_still_does_not_count() -> None:
    silence = Silence()
    now_s = listen(silence, [1, 1])
    silence.look(now_s + 3600.0, True, 1)
    silence.look(now_s - 5.0, True, 1)
    assert silence.silent_s == 1.5
