"""Two API processes of one server, without a vLLM: limits hold over both, and both say the same."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from predictors.length.coverage import CoverageMonitor
from predictors.length.ladder import LengthLadder
from predictors.length.quantiles import LEVELS
from scorpio import channel
from scorpio.core.routing.quote import Quote, Span
from scorpio.core.slo import Slo
from scorpio.server.accounts.in_flight import Caps, InFlight, OverQuotaError, QueueFullError
from scorpio.server.accounts.reload import follow, reload_file
from scorpio.server.quote.desk import QuoteDesk
from scorpio.server.request.lengths import LengthService
from scorpio.server.shared import Shared
from tests.server.keyed import ACME, Keyed, bearer, slo_file
from tests.server.test_tenant_limits import chat_of, clock

QUOTE, SLO = Quote(100, Span(0.1, 0.2), Span(0.01, 0.02), 0), Slo(0.2, 0.02)
BOTH = ((0, 2), (1, 2))
ADMIN = bearer("sesame")


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORPIO_ADMIN_TOKEN", "sesame")


def two(tmp_path: Path, text: str = "", **more: Any) -> tuple[Keyed, Keyed]:
    """With one SLO file and one run directory."""
    first, second = (Keyed(tmp_path, text or slo_file(), api_process=at, **more) for at in BOTH)
    assert first.context.shared.rank + 1 == second.context.shared.rank
    return first, second


async def status(keyed: Keyed) -> Any:
    return (await keyed.call("GET", "/scorpio/status")).json()


def test_slots_are_counted_over_both(tmp_path: Path) -> None:
    caps = Caps(5, 3, 1000, 1000)
    first, second = (InFlight(caps, Shared(str(tmp_path), *at)) for at in BOTH)
    with first.slot("key-0") as a, second.slot("key-0") as b, second.slot("t", 1) as c:
        first.take(a, 2)
        second.take(b, 1)
        with pytest.raises(QueueFullError):  # of the key
            second.take(b, 2)
        assert first.of_account("key-0") == second.of_account("key-0") == 3
        second.take(c, 1)
        with first.slot("t", 1) as d, pytest.raises(OverQuotaError):
            first.take(d, 1)
        with first.slot("") as e:
            first.take(e, 1)
            with pytest.raises(QueueFullError):  # of all
                first.take(e, 2)
    assert first.of_account("key-0") == second.of_account("t") == 0
    assert (first.requests, second.requests, dict(first.by_account)) == (0, 0, {})


async def test_a_rate_is_of_both_together(tmp_path: Path) -> None:
    text = slo_file("rate_tokens_per_s = 10\nburst_tokens = 100")
    first, second = two(tmp_path, text, length=30)
    clocks = [clock(keyed) for keyed in (first, second)]
    assert (await chat_of(first, 50)).status == 200
    assert (await chat_of(second, 50)).status == 200
    for keyed in (first, second):
        refused = await chat_of(keyed, 50)
        assert refused.headers["x-scorpio-reject-reason"] == "over_rate"
        assert refused.headers["retry-after-ms"] == "6100"
    shown = [await status(keyed) for keyed in (first, second)]
    assert shown[0]["tenants"] == shown[1]["tenants"]
    assert shown[0]["tenants"]["acme"] == {
        **{"in_flight": 0, "tight": 0, "prompt_tokens": 100, "output_tokens": 60},
        "bucket_tokens": -60,
    }
    for now in clocks:
        now[0] = 6.2
    assert (await chat_of(second, 50)).status == 200


async def reloaded(both: tuple[Keyed, Keyed], text: str) -> None:
    both[0].file.write_text(text)
    await reload_file(both[0].context)
    await follow(both[1].context)


@pytest.mark.parametrize("tenant_stays", [False, True])
async def test_what_a_tenant_used_stays_used_when_it_or_its_rate_is_gone_for_a_while(
    tmp_path: Path, tenant_stays: bool
) -> None:
    text = slo_file("rate_tokens_per_s = 10\nburst_tokens = 100")
    without = slo_file() if tenant_stays else text.replace("[tenants.acme]", "[tenants.gamma]")
    both = two(tmp_path, text, length=30)
    clocks = [clock(keyed) for keyed in both]
    for _ in range(2):
        assert (await chat_of(both[0], 50)).status == 200
    for other in (without, text):
        await reloaded(both, other)
    shown = [(await status(keyed))["tenants"]["acme"] for keyed in both]
    use = {"in_flight": 0, "tight": 0, "prompt_tokens": 100, "output_tokens": 60}
    assert shown == [use | {"bucket_tokens": -60}] * 2
    for keyed in both:
        assert (await chat_of(keyed, 50)).headers["retry-after-ms"] == "6100"
    for now in clocks:
        now[0] = 6.2
    assert (await chat_of(both[1], 50)).status == 200
    shown = [(await status(keyed))["tenants"]["acme"] for keyed in both]
    use = {"in_flight": 0, "tight": 0, "prompt_tokens": 150, "output_tokens": 90}
    assert shown == [use | {"bucket_tokens": -78}] * 2


async def test_a_tenant_that_comes_back_has_its_requests_in_flight(tmp_path: Path) -> None:
    text = slo_file("most_tight = 1", top="tight_ttft_ms = 1000")
    both = two(tmp_path, text)
    both[0].engine.hold = asyncio.Event()
    tight: Any = {"vllm_xargs": {"slo_class": "interactive"}}
    held = asyncio.create_task(both[0].chat(ACME, **tight))
    while not both[0].engine.params:
        await asyncio.sleep(0)
    for other in (text.replace("[tenants.acme]", "[tenants.gamma]"), text):
        await reloaded(both, other)
    assert [(await keyed.chat(ACME, **tight)).status for keyed in both] == [429, 429]
    both[0].engine.hold.set()
    assert (await held).status == 200
    assert [(await keyed.chat(ACME, **tight)).status for keyed in both] == [200, 200]


async def test_a_rate_counts_for_all_from_the_first_that_knows_it(tmp_path: Path) -> None:
    """Of two processes one reads a new file up to a second later."""
    both = two(tmp_path, slo_file())
    both[0].file.write_text(slo_file("rate_tokens_per_s = 1\nburst_tokens = 100"))
    await reload_file(both[0].context)
    clock(both[0])
    assert (await chat_of(both[0], 150)).status == 200
    await follow(both[1].context)
    clock(both[1])
    assert [(await chat_of(keyed, 1)).status for keyed in both] == [429, 429]


async def test_what_was_used_elsewhere_over_a_long_time_is_no_debt(tmp_path: Path) -> None:
    text = slo_file("rate_tokens_per_s = 10\nburst_tokens = 100")
    both = two(tmp_path, text, answers=201)
    clocks = [clock(keyed) for keyed in both]
    for second in range(200):
        for now in clocks:
            now[0] = float(second)
        assert (await chat_of(both[0], 9)).status == 200  # and one of the answer
        both[1].context.tell_others()  # twice a second, if it has work or not
    assert (await status(both[1]))["tenants"]["acme"]["bucket_tokens"] == 90
    assert (await chat_of(both[1], 50)).status == 200


async def test_a_status_charges_nothing(tmp_path: Path) -> None:
    both = two(tmp_path, slo_file("rate_tokens_per_s = 10\nburst_tokens = 100"))
    for keyed in both:
        clock(keyed)
    assert (await chat_of(both[0], 50)).status == 200
    use = both[1].context.uses.by_name["acme"]
    assert (await status(both[1]))["tenants"]["acme"]["bucket_tokens"] == 49
    assert use.bucket.tokens(0.0) == 100.0
    use.follow(0.0)
    assert use.bucket.tokens(0.0) == 49.0


async def test_tight_requests_are_of_both_together(tmp_path: Path) -> None:
    text = slo_file("most_tight = 1", top="tight_ttft_ms = 1000")
    first, second = two(tmp_path, text)
    first.engine.hold = asyncio.Event()
    tight: Any = {"vllm_xargs": {"slo_class": "interactive"}}
    held = asyncio.create_task(first.chat(ACME, **tight))
    while not first.engine.params:
        await asyncio.sleep(0)
    assert (await second.chat(ACME, **tight)).status == 429
    assert (await second.chat(ACME, vllm_xargs={"slo_class": "batch"})).status == 200
    shown = [(await status(keyed))["tenants"]["acme"] for keyed in (first, second)]
    assert shown[0] == shown[1]
    assert (shown[0]["tight"], shown[0]["in_flight"]) == (1, 1)
    first.engine.hold.set()
    assert (await held).status == 200
    assert (await second.chat(ACME, **tight)).status == 200


async def test_a_silence_that_one_hears_is_told_by_both(tmp_path: Path) -> None:
    first, second = two(tmp_path)
    first.engine.unfinished, second.engine.unfinished = 2, 1
    first.context.silence.silent_s = 999.5
    for keyed in (first, second):
        keyed.context.tell_others()
    replies = [await keyed.call("GET", "/scorpio/health") for keyed in (first, second)]
    assert [reply.status for reply in replies] == [503, 503]
    assert replies[0].json() == replies[1].json()
    assert replies[0].json() == {"status": "stalled", "unfinished": 3, "silent_s": 999.5}


async def test_what_one_heard_goes_with_it(tmp_path: Path) -> None:
    """Told to end alone, while it waited for the engine."""
    first, second = two(tmp_path)
    second.engine.unfinished, second.context.silence.silent_s = 1, 999.5
    second.context.tell_others()
    assert first.context.stalled
    second.context.leave()
    assert (first.context.silent_s, first.context.unfinished) == (0.0, 0)


def test_a_coverage_that_begins_anew_is_not_the_old_one(tmp_path: Path) -> None:
    monitors = [CoverageMonitor(), CoverageMonitor()]
    services = [
        LengthService(LengthLadder(None, None, monitor), "m", shared=Shared(str(tmp_path), *at))
        for monitor, at in zip(monitors, BOTH, strict=True)
    ]
    wrong, right = np.full(len(LEVELS), 1.0), np.linspace(1.0, 1000.0, len(LEVELS))
    monitors[0].add(right, 10, 0)
    for _ in range(63):
        monitors[1].add(wrong, 500, 0)
    services[1].share()
    assert services[0].state()["coverage"]["q0.9"] == 0.0
    monitors[1].add(wrong, 500, 0)  # it is demoted: a window of outcomes that is empty
    services[1].share()
    states = [service.state()["coverage"] for service in services]
    assert states[0] == states[1] == monitors[0].coverage()


async def test_lengths_are_told_together(tmp_path: Path) -> None:
    first, second = two(tmp_path, length=2)
    for keyed, count in ((first, 3), (second, 1)):
        for _ in range(count):
            assert (await chat_of(keyed, 5)).status == 200
        keyed.context.tell_others()
    shown = [keyed.context.lengths.state() for keyed in (first, second)]
    assert shown[0].pop("prediction_s").keys() == shown[1].pop("prediction_s").keys()
    assert shown[0] == shown[1]
    assert (shown[0]["observed"], shown[0]["predictions"]) == (4, 4)
    assert sum(shown[0]["answers"].values()) == 4


def test_a_quote_is_taken_once(tmp_path: Path) -> None:
    (tmp_path / channel.LEDGER_SALT).write_text("00" * 32)
    desks = [
        QuoteDesk(dict, str(tmp_path), lambda: 1000.0, Shared(str(tmp_path), *at)) for at in BOTH
    ]
    token = desks[0].token(QUOTE, "acme")
    assert desks[1].taken(token, "acme", SLO) is not None
    assert desks[0].taken(token, "acme", SLO) is None
    desks[1].came(QUOTE, 0.0)
    assert desks[0].state() == desks[1].state()
    assert sum(desks[0].state().values()) == 1


def test_quotes_of_both_have_one_secret(tmp_path: Path) -> None:
    two(tmp_path, config={"ledger_mib": 0})
    assert (tmp_path / "run" / channel.LEDGER_SALT).exists()


def test_one_process_makes_no_file(tmp_path: Path) -> None:
    keyed = Keyed(tmp_path, slo_file())
    assert keyed.context.shared.count == 1
    assert list(keyed.run_dir.iterdir()) == []
    assert keyed.context.uses.state().keys() == {"acme", "beta"}
