"""Settings, run-time switching, status, and failing closed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import vllm

from scorpio import channel
from scorpio.core.latency import LatencyProfile, StepModel, decode_from_step, prefill_from_step
from scorpio.engine import seams
from scorpio.engine.control import POLL_PERIOD_S, PolicySwitch
from scorpio.engine.virtual.build import EngineSpec
from scorpio.settings import SettingsError, load_settings
from tests.conformance.snapshots import limits
from tests.engine.driver import Engine, Scripted


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"polcy": "fcfs"}, "polcy"),
        ({"policy": "nonsense"}, "valid:"),
        ({"breaker_limit": 0}, "breaker_limit"),
        ({"policy_options": {"patience": 1}}, "policy_options: scorpio has no option patience"),
        ({"policy_options": {"patience_s": -1}}, "patience_s must be in"),
        ({"policy": "fcfs", "policy_options": {"patience_s": 1}}, "fcfs has no option"),
        ({"rejection_status": 500}, "rejection_status"),
        ({"classes": {"chat": {"ttft_ms": -1}}}, "classes.chat.ttft_ms"),
        ({"classes": {"chat": {"ttft_ms": float("nan")}}}, "classes.chat.ttft_ms"),
        ({"classes": {"chat": {"speed": 1}}}, "classes.chat.speed"),
        ({"default_class": "chat"}, "default_class"),
        ({"latency": {"decode": {}}}, "latency"),
        (["policy"], "must be a table"),
    ],
)
def test_bad_settings_name_the_field(config: Any, named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        load_settings({"scorpio": config})


def test_another_vllm_fails_closed_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "__version__", "0.31.0")
    with pytest.raises(seams.IncompatibleVllmError, match="install"):
        Engine()


def test_changed_signature_fails_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(seams.METHODS, "schedule", ("self", "something_else"))
    with pytest.raises(seams.IncompatibleVllmError, match=r"Scheduler\.schedule"):
        Engine()


def test_missing_attributes_fail_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seams, "ATTRIBUTES", (*seams.ATTRIBUTES, "gone"))
    with pytest.raises(seams.IncompatibleVllmError, match=r"Scheduler\.gone"):
        Engine()
    monkeypatch.setattr(seams, "REQUEST_ATTRIBUTES", ("lost",))
    with pytest.raises(seams.IncompatibleVllmError, match=r"Request\.lost"):
        Engine()


def test_the_default_policy() -> None:
    assert load_settings({}).policy == "scorpio"


def test_policy_is_switched_and_visible(tmp_path: Path) -> None:
    engine = Engine(scorpio={"policy": "fcfs", "run_dir": str(tmp_path)})
    engine.add("a", output=50)
    engine.step()
    status = channel.read_status(tmp_path)
    assert status is not None
    assert (status["policy"], status["control_seq"]) == ("fcfs", 0)
    assert status["policy_options"] == {}
    seq = channel.write_control(tmp_path, "scorpio-paper", {"kappa": 1.5})
    engine.step(1.0)
    engine.step()
    status = channel.read_status(tmp_path)
    assert status is not None
    assert (status["policy"], status["control_seq"]) == ("scorpio-paper", seq)
    assert status["policy_options"] == {"kappa": 1.5}
    channel.write_control(tmp_path, "nonsense", {"kappa": 9.0})
    engine.step(1.0)
    engine.step()
    status = channel.read_status(tmp_path)
    assert status is not None
    assert (status["policy"], status["policy_options"]) == ("scorpio-paper", {"kappa": 1.5})
    assert "valid:" in status["control_error"]
    engine.drain()
    status = channel.read_status(tmp_path)
    assert status is not None
    assert (status["running"], status["waiting"]) == (0, 0)
    assert status["finished_by_state"] == {"finished": 1}


def test_steps_are_recorded_only_while_asked(tmp_path: Path) -> None:
    engine = Engine(scorpio={"policy": "fcfs", "run_dir": str(tmp_path)})
    engine.add("a", prompt=40, output=30)
    channel.write_control(tmp_path, "fcfs", record_steps=True)
    for _ in range(10):
        engine.step(0.02)
    channel.write_control(tmp_path, "fcfs")
    engine.step(1.0)
    engine.step()
    engine.drain()
    rows = [json.loads(line) for line in (tmp_path / channel.STEPS).read_text().splitlines()]
    assert [r["prefill_tokens"] for r in rows] == [40] + [0] * (len(rows) - 1)
    assert [r["decode_context_tokens"] for r in rows[1:3]] == [40, 41]
    assert 9 <= len(rows) <= 11
    assert all(r["duration_s"] == pytest.approx(0.02) for r in rows[:9])


def test_steps_are_timed_output_to_output_under_async_scheduling() -> None:
    engine = Engine(EngineSpec(pipeline_depth=2))
    policy = Scripted()
    engine.scorpio.use_policy(policy)
    engine.add("a", prompt=40, output=10)
    engine.add("b", prompt=24, output=10)
    engine.drain()
    assert policy.samples[0].prefill_tokens == 64
    assert policy.samples[0].prefill_sq_tokens == 40 * 40 + 24 * 24
    assert [s.num_decodes for s in policy.samples[1:4]] == [2, 2, 2]
    assert [s.decode_context_tokens for s in policy.samples[1:3]] == [64, 66]
    # Each step costs one tick; only the first is seen from its own scheduling on.
    assert [s.duration_s for s in policy.samples[1:5]] == pytest.approx([0.01] * 4)


def test_unwritable_run_dir_does_not_stop_the_engine(tmp_path: Path) -> None:
    engine = Engine(scorpio={"policy": "fcfs", "run_dir": str(tmp_path / "gone")})
    engine.add("a")
    engine.drain()
    assert len(engine.tokens("a")) == 4


def test_another_wish_under_a_number_already_seen_is_carried_out(tmp_path: Path) -> None:
    """To write control.json by hand the last number need not be known."""
    engine = Engine(scorpio={"policy": "scorpio", "run_dir": str(tmp_path)})
    path = tmp_path / channel.CONTROL
    for policy in ("sjf", "fcfs"):
        path.write_text(json.dumps({"policy": policy, "options": {}, "seq": 1}))
        engine.add(policy, output=2)
        engine.drain()
        status = channel.read_status(tmp_path)
        assert status is not None
        assert (status["policy"], status["control_seq"]) == (policy, 1)


def test_a_wish_that_is_written_again_builds_no_new_policy(tmp_path: Path) -> None:
    """Its state (speed, lengths, shares) would be lost."""
    switch = PolicySwitch(load_settings({"scorpio": {"run_dir": str(tmp_path)}}), limits())
    assert switch.poll(0.0, idle=True) is False
    path, wish = tmp_path / channel.CONTROL, {"policy": "scorpio", "options": {}, "seq": 1}
    path.write_text(json.dumps(wish))
    assert switch.poll(POLL_PERIOD_S / 2, idle=False) is False  # not so soon
    assert switch.poll(POLL_PERIOD_S / 2, idle=True) is True
    policy = switch.policy
    for content in (json.dumps(wish, indent=1), "{torn", json.dumps(wish)):
        path.write_text(content)
        assert switch.poll(0.2, idle=True) is False
    assert switch.policy is policy
    path.write_text(json.dumps(wish | {"seq": 2}))
    assert switch.poll(0.2 + POLL_PERIOD_S / 2, idle=False) is False
    assert switch.poll(0.3 + POLL_PERIOD_S, idle=False) is True


def test_without_a_folder_there_is_no_switch() -> None:
    assert PolicySwitch(load_settings({}), limits()).poll(0.0, idle=True) is False


def test_changed_lookups_fail_closed_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    path, wanted = next(iter(seams.LOOKUPS.items()))
    monkeypatch.setitem(seams.LOOKUPS, path, ("self", "other"))
    with pytest.raises(seams.IncompatibleVllmError) as changed:
        Engine()
    assert f"KVCacheManager.{path}{wanted} (needs ('self', 'other'))" in str(changed.value)
    monkeypatch.setitem(seams.LOOKUPS, path, wanted)
    monkeypatch.setitem(seams.LOOKUPS, "no_such.thing", ())
    with pytest.raises(seams.IncompatibleVllmError, match=r"no_such\.thing is gone"):
        Engine()


def test_a_latency_profile_comes_with_a_wish_and_stays(tmp_path: Path) -> None:
    engine = Engine(scorpio={"policy": "scorpio", "run_dir": str(tmp_path)})
    engine.add("a", output=50)
    engine.step()
    step = StepModel(0.01, 1e-5, 5e-5, 384.0, 1e-10, 1e-10, 1e-8)
    measured = LatencyProfile(decode_from_step(step), prefill_from_step(step), step, "measured")
    told = [_status(tmp_path)["latency_source"]]
    wishes: tuple[tuple[str, dict[str, Any] | None], ...] = (
        ("scorpio", measured.to_dict()),
        ("sjf", None),
        ("sjf", {"step": {}}),
    )
    for policy, latency in wishes:
        channel.write_control(tmp_path, policy, latency=latency)
        engine.step(1.0)
        engine.step()
        told.append(_status(tmp_path)["latency_source"])
    assert told == ["none", "measured", "measured", "measured"]
    assert "`decode` is missing" in _status(tmp_path)["control_error"]


def _status(run_dir: Path) -> dict[str, Any]:
    status = channel.read_status(run_dir)
    assert status is not None
    return status
