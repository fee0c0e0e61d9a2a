"""Does the ledger say what became of a request, exactly, and can it harm none?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scorpio import channel
from scorpio.core.plan import Forecast, Rejection, RejectReason, StepPlan
from scorpio.engine.ledger import book
from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.requests import abort
from scorpio.ledger.entry import Entry
from scorpio.ledger.files import read_ledger
from scorpio.ledger.ids import ledger_id
from tests.engine.driver import Engine, Scripted

CLASSES = {"chat": {"ttft_ms": 100, "tpot_ms": 30}}
CANARY = "canary-5f1c"


def engine_in(run_dir: Path, /, spec: EngineSpec | None = None, **settings: Any) -> Engine:
    told = {"policy": "fcfs", "run_dir": str(run_dir), "classes": CLASSES}
    return Engine(spec, scorpio=told | settings)


def entries(engine: Engine, run_dir: Path) -> dict[str, Entry]:
    engine.scorpio.ledger.flush()
    book = read_ledger(run_dir)
    hashed = {ledger_id(name, *book.salts): name for name in engine.outputs}
    return {hashed[entry.id]: entry for entry in book.entries if entry.id in hashed}


def test_a_served_request(tmp_path: Path) -> None:
    """Steps of 20 ms, one of 70 ms between its tokens."""
    engine = engine_in(tmp_path)
    engine.scorpio.use_policy(
        Scripted(StepPlan(stock=True, forecasts=(Forecast("a", 0.03, 0.02),)))
    )
    engine.add("a", 32, 4, slo_class="chat", predicted_output_tokens=7)
    for seconds in (0.02, 0.02, 0.07, 0.02):
        engine.step(seconds)
    entry = entries(engine, tmp_path)["a"]
    assert (entry.prompt_tokens, entry.max_tokens, entry.predicted_tokens) == (32, 4, 7.0)
    assert (entry.slo_ttft_ms, entry.slo_tpot_ms, entry.slo_e2el_ms) == (100.0, 30.0, None)
    assert (entry.slo_class, entry.on_miss, entry.tenant) == ("chat", "reject", "")
    assert (entry.verdict, entry.reason, entry.policy) == ("admitted", "", "scripted")
    assert (entry.forecast_ttft_ms, entry.forecast_tpot_ms) == (30.0, 20.0)
    assert (entry.started_ms, entry.first_token_ms, entry.ended_ms) == (0.0, 20.0, 130.0)
    assert (entry.mean_gap_ms, entry.worst_gap_ms) == (36.667, 70.0)
    assert (entry.output_tokens, entry.preemptions, entry.cached_tokens) == (4, 0, 0)
    assert (entry.outcome, entry.finish_reason, entry.missed) == ("finished", "stop", ("tpot",))


def test_what_a_request_met_and_why_it_waited(tmp_path: Path) -> None:
    """One seat: b and c wait for it; c's deadline is before b's."""
    engine = engine_in(tmp_path, EngineSpec(max_num_seqs=1, pipeline_depth=1))
    engine.add("a", 32, 3)
    engine.step()
    engine.add("b", 40, 2, slo_ttft_ms=5000)
    engine.add("c", 50, 1, slo_ttft_ms=15)
    engine.add("d", 60, 1, slo_ttft_ms=9000)
    engine.drain()
    found = entries(engine, tmp_path)
    b, c, d = (found[name] for name in "bcd")
    assert (b.waiting, b.waiting_tokens, b.running, b.due_before) == (0, 0, 1, 0)
    assert (c.waiting, c.waiting_tokens, c.due_before, c.due_before_tokens) == (1, 40, 0, 0)
    assert (d.waiting, d.waiting_tokens, d.due_before, d.due_before_tokens) == (2, 90, 2, 90)
    assert (b.starts, b.steps, b.step_tokens, b.started_ms) == (0, 2, 2, 20.0)
    assert (d.starts, d.steps, d.step_tokens, d.started_ms) == (2, 5, 2 + 41 + 50, 50.0)
    assert (b.verdict, b.missed) == ("admitted", ())
    assert (c.verdict, c.missed) == ("degraded", ("ttft",))  # it started when it was late


def test_a_refused_request_and_those_whose_clients_left(tmp_path: Path) -> None:
    engine = engine_in(tmp_path)
    policy = Scripted(StepPlan(admit=("busy",)))
    engine.scorpio.use_policy(policy)
    engine.add("busy", 16, 50)
    engine.add("leaves", 32, 9)
    engine.add("refused", 64, 9, slo_ttft_ms=500)
    engine.add("served", 16, 9)
    engine.step(0.01)
    abort(engine.scheduler, "leaves")
    policy.answer = StepPlan(
        admit=("served",), reject=(Rejection("refused", RejectReason.TTFT_INFEASIBLE, 0.9, 2.4),)
    )
    engine.step(0.03)
    abort(engine.scheduler, "served")
    found = entries(engine, tmp_path)
    refused, leaves, served = (found[name] for name in ("refused", "leaves", "served"))
    assert (refused.verdict, refused.reason) == ("refused", "ttft_infeasible")
    assert (refused.outcome, refused.finish_reason) == ("rejected", "abort")
    assert (refused.attainable_ttft_ms, refused.retry_after_ms) == (900.0, 2400.0)
    assert (refused.started_ms, refused.first_token_ms, refused.ended_ms) == (None, None, 10.0)
    assert (leaves.verdict, leaves.outcome, leaves.started_ms) == ("none", "aborted", None)
    assert (served.verdict, served.outcome, served.output_tokens) == ("admitted", "aborted", 1)
    assert (served.first_token_ms, served.missed) == (40.0, ())


def test_one_turned_away_by_a_cap_is_in_it(tmp_path: Path) -> None:
    engine = engine_in(tmp_path, policy="scorpio", most_waiting=1)
    engine.add("a")
    engine.add("b")
    engine.drain()
    assert entries(engine, tmp_path)["b"].reason == "queue_full"


def test_preemptions_and_prefix_hits_are_counted(tmp_path: Path) -> None:
    spec = EngineSpec(num_blocks=8, pipeline_depth=1, enable_prefix_caching=True)
    engine = engine_in(tmp_path, spec)
    engine.add("a", 48, 60)
    engine.add("b", 48, 60)
    engine.drain()
    found = entries(engine, tmp_path)
    assert max(entry.preemptions for entry in found.values()) > 0
    assert {entry.output_tokens for entry in found.values()} == {60}
    engine = engine_in(tmp_path / "..", EngineSpec(pipeline_depth=1, enable_prefix_caching=True))
    for name in ("c", "d"):
        request = engine.factory.make(name, 0.0, 64, 2, {}, prefix_ids=(7,))
        engine.runner.expect(name, 1, 64, 2)
        engine.outputs[name] = []
        engine.scheduler.add_request(request)
        engine.drain()
    found = entries(engine, tmp_path / "..")
    assert (found["c"].cached_tokens, found["d"].cached_tokens) == (0, 48)


def test_nothing_of_a_client_is_in_it(tmp_path: Path) -> None:
    engine = engine_in(tmp_path, EngineSpec(pipeline_depth=1, enable_prefix_caching=True))
    words = {"slo_tenant": f"{CANARY}-key/{CANARY}-user", f"{CANARY}-name": CANARY}
    engine.add(f"chatcmpl-{CANARY} id", 600, 4, mine=f"{CANARY}-xarg", **words)
    (request,) = engine.scheduler.requests.values()
    hashes = [bytes(block) for block in request.block_hashes]
    engine.drain()
    (entry,) = entries(engine, tmp_path).values()
    assert entry.tenant
    assert len(entry.blocks) == 2
    assert len(hashes) == 37
    for file in tmp_path.iterdir():
        text = file.read_text()
        assert CANARY not in text
        assert not [h for h in hashes if h.hex()[:8] in text or str(int.from_bytes(h)) in text]


def test_files_are_for_our_user_alone(tmp_path: Path) -> None:
    engine = engine_in(tmp_path)
    (tmp_path / channel.LEDGER).touch(0o644)
    engine.add("a")
    engine.drain()
    entries(engine, tmp_path)
    modes = {f.name: f.stat().st_mode & 0o777 for f in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("ledger.jsonl", "ledger.salt", "status.json"), 0o600)


@pytest.mark.parametrize("settings", [{"ledger_mib": 0}, {"run_dir": None}])
def test_off_means_that_nothing_is_noted(tmp_path: Path, settings: dict[str, Any]) -> None:
    engine = engine_in(tmp_path, **settings)
    engine.add("a")
    engine.step()
    assert engine.scorpio.ledger.ids == set()
    engine.drain()
    engine.scorpio.ledger.flush()
    assert engine.scorpio.ledger._writer is None  # no thread either
    assert not list(tmp_path.glob("ledger*"))


def test_a_broken_ledger_is_a_fault_of_monitoring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    engine = engine_in(tmp_path, policy="scorpio")
    engine.add("a", 32, 3)
    engine.step()
    for name in ("arrived", "scheduled", "forecast", "outputs_came", "refusing", "ended", "close"):
        monkeypatch.setattr(book.Ledger, name, broken)
    engine.add("b", 32, 3)
    engine.drain()
    assert engine.tokens("b")
    engine.scheduler.shutdown()
    faults = engine.scorpio.telemetry.faults
    assert faults.counts["policy"] == 0
    assert faults.counts["monitoring"] >= 6


def test_nothing_is_kept_of_one_that_is_gone(tmp_path: Path) -> None:
    engine = engine_in(tmp_path, EngineSpec(max_num_seqs=2, pipeline_depth=2))
    for number in range(5):
        engine.add(f"r{number}", 32, 3)
        engine.step()
    abort(engine.scheduler, "r4")
    engine.drain()
    assert engine.scorpio.ledger.ids == set()
    engine.assert_drained()
    assert len(entries(engine, tmp_path)) == 5


def test_the_end_of_the_engine_writes_what_is_left(tmp_path: Path) -> None:
    engine = engine_in(tmp_path)
    engine.add("a")
    engine.drain()
    engine.scheduler.shutdown()
    assert len(read_ledger(tmp_path).entries) == 1
    status = engine.scorpio._state()
    assert (status["ledger_lines"], status["ledger_dropped"]) == (1, 0)
