"""Which command line does `scorpio serve` stand for? (vLLM's real parser; nothing is started.)"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from predictors.latency.artifact import (
    ProfileFile,
    cached_profile_path,
    this_machine,
    write_profile,
)
from scorpio.core.latency import UNMEASURED
from scorpio.models.cache import cache_dir
from scorpio.server.launch import serve as serve_module
from scorpio.server.launch.auto_profile import AutoProfile
from scorpio.server.launch.mistakes import ServeError
from scorpio.server.launch.serve_args import (
    MIDDLEWARE,
    SCHEDULER,
    build_args,
    default_env,
    describe_defaults,
)
from scorpio.server.vllm_api import own_key

pytestmark = pytest.mark.timeout(300)  # the first import of vLLM is slow


def build(*argv: str, cpu: bool = True, **scorpio: Any) -> Any:
    return build_args("tiny", "/models/tiny", argv, scorpio, cpu)


def test_ours_are_added() -> None:
    args = build(policy="fcfs")
    assert (args.model, args.served_model_name) == ("/models/tiny", ["tiny"])
    assert (args.scheduler_cls, args.middleware) == (SCHEDULER, [MIDDLEWARE])
    assert args.additional_config == {"scorpio": {"policy": "fcfs"}}
    assert (args.dtype, args.enforce_eager) == ("float32", True)
    assert describe_defaults(args, {"A": "1"}, cpu=True) == "dtype=float32 enforce_eager=True A=1"


def test_the_user_wins() -> None:
    args = build(
        "--dtype=bfloat16",
        "--no-enforce-eager",
        "--served-model-name",
        "a",
        "b",
        "--middleware",
        "my.Thing",
        "--port",
        "9001",
    )
    assert (args.dtype, args.enforce_eager, args.port) == ("bfloat16", False, 9001)
    assert args.served_model_name == ["a", "b"]
    assert args.middleware == ["my.Thing", MIDDLEWARE]
    assert describe_defaults(args, {}, cpu=True) == ""


def test_the_users_yaml_wins_over_our_defaults(tmp_path: Path) -> None:
    file = tmp_path / "vllm.yaml"
    file.write_text("dtype: bfloat16\nport: 9002\n")
    args = build("--config", str(file))
    assert (args.dtype, args.port, args.enforce_eager) == ("bfloat16", 9002, True)


def test_a_gpu_build_gets_no_cpu_defaults() -> None:
    args = build(cpu=False)
    assert (args.dtype, args.enforce_eager) == ("auto", False)
    assert describe_defaults(args, {}, cpu=False) == ""


def test_additional_config_is_merged() -> None:
    user = {"other": {"x": 1}, "scorpio": {"breaker_limit": 5, "policy": "scorpio-paper"}}
    args = build("--additional-config", json.dumps(user), policy="fcfs")
    wanted = {"other": {"x": 1}, "scorpio": {"breaker_limit": 5, "policy": "fcfs"}}
    assert args.additional_config == wanted
    dotted = build("--additional-config.scorpio.breaker_limit", "7")
    assert dotted.additional_config == {"scorpio": {"breaker_limit": 7}}


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--scheduler-cls", "my.Sched"], "--scheduler-cls my.Sched"),
        (["--scheduler_cls=my.Sched"], "--scheduler-cls my.Sched"),
        (["--model", "other"], "--model other"),
        (["other"], "'other'"),
        (["--headless"], "--headless"),
        (["--grpc"], "--grpc"),
        (["--api-server-count", "0"], "--api-server-count 0"),
        (["--api-server-count", "2", "--enable-elastic-ep"], "--enable-elastic-ep"),
        (["--additional-config", '{"scorpio": 5}'], "must be an object"),
        (["--additional-config", '{"scorpio": {"polcy": "fcfs"}}'], "scorpio.polcy"),
    ],
)
def test_contradictions_are_one_clear_line(argv: list[str], said: str) -> None:
    with pytest.raises(ServeError) as caught:
        build(*argv)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_saying_the_same_again_is_no_contradiction() -> None:
    args = build(
        "--scheduler-cls", SCHEDULER, "--middleware", MIDDLEWARE, "--model", "/models/tiny"
    )
    assert (args.scheduler_cls, args.middleware) == (SCHEDULER, [MIDDLEWARE])


def test_unknown_arguments_are_vllms_to_refuse(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        build("--no-such-thing")
    assert caught.value.code == 2
    assert "--no-such-thing" in capsys.readouterr().err


def test_environment_defaults(tmp_path: Path) -> None:
    environ = {"VLLM_CPU_KVCACHE_SPACE": "9"}
    chosen = default_env(str(tmp_path), True, environ)
    assert chosen == {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    assert environ == chosen | {"VLLM_CPU_KVCACHE_SPACE": "9"}
    assert default_env("org/model", False, {}) == {}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """What would have been started; caches in a directory of the test's own."""
    runs: list[Any] = []
    monkeypatch.setattr(serve_module, "run_openai_server", runs.append)
    monkeypatch.setenv("SCORPIO_CACHE", str(tmp_path / "cache"))
    for name in ("VLLM_CPU_KVCACHE_SPACE", "HF_HUB_OFFLINE", "VLLM_NO_USAGE_STATS"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    return runs


def test_serve_wires_everything(started: list[Any], tmp_path: Path) -> None:
    said: list[str] = []
    slo = tmp_path / "slo.toml"
    slo.write_text("[classes.a]\nttft_ms = 5\n")
    serve_module.serve(
        "tiny",
        ["--port", "9003"],
        policy="scorpio-paper",
        policy_options={"kappa": 1.2},
        slo_config=slo,
        say=said.append,
    )
    (args,) = started
    ours = args.additional_config["scorpio"]
    run_dir = Path(ours.pop("run_dir"))
    assert ours == {
        "policy": "scorpio-paper",
        "policy_options": {"kappa": 1.2},
        "classes": {"a": {"ttft_ms": 5}},
        "slo_config": str(slo.resolve()),
    }
    assert Path(args.model).is_dir()
    assert not run_dir.exists()  # a fresh one, removed at the end
    assert any("scorpio profile" in line for line in said)


def _write_profile(path: Path) -> None:
    write_profile(path, ProfileFile(UNMEASURED, "tiny", this_machine(), "0.32.0", "now"))


def test_latency_profile_given_or_cached(started: list[Any], tmp_path: Path) -> None:
    given, run_dir = tmp_path / "latency.json", tmp_path / "run"
    _write_profile(given)
    said: list[str] = []
    serve_module.serve("tiny", latency=given, run_dir=run_dir, say=said.append)
    cached = cached_profile_path(cache_dir(), "tiny", this_machine())
    _write_profile(cached)
    serve_module.serve("tiny", run_dir=run_dir, say=said.append)
    for args in started:
        ours = args.additional_config["scorpio"]
        assert ours["latency"] == UNMEASURED.to_dict()
        assert ours["run_dir"] == str(run_dir)
    assert run_dir.is_dir()  # the user's own is kept
    assert any(str(cached) in line for line in said)


@pytest.mark.parametrize("key", [(), ("--api-key", "k")])
def test_what_was_measured_beside_requests_is_the_next_starts(
    started: list[Any], monkeypatch: pytest.MonkeyPatch, key: tuple[str, ...]
) -> None:
    begun: list[AutoProfile] = []
    monkeypatch.setattr(AutoProfile, "start", lambda self: begun.append(self))
    said: list[str] = []
    serve_module.serve("tiny", key, profile="auto", say=said.append)
    (measuring,) = begun
    assert "latency" not in started[-1].additional_config["scorpio"]
    assert measuring.key == own_key(started[-1])
    _write_profile(measuring.out)  # as `scorpio profile --out` does
    serve_module.serve("tiny", key, profile="auto", say=said.append)
    assert begun == [measuring]
    assert started[-1].additional_config["scorpio"]["latency"] == UNMEASURED.to_dict()
    assert any(str(measuring.out) in line for line in said)
    assert not any(measuring.key in line for line in [*said, repr(measuring)])


def _profile_of(path: Path, **facts: object) -> Path:
    engine = {"architecture": "LlamaForCausalLM", "layers": 2, "dtype": "float32", **facts}
    content = ProfileFile(UNMEASURED, "tiny", this_machine(), "0.32.0", "now", {}, engine)
    write_profile(path, content)
    return path


def test_a_profile_of_another_model_is_refused(started: list[Any], tmp_path: Path) -> None:
    said: list[str] = []
    other = _profile_of(tmp_path / "other.json", layers=30, dtype="bfloat16")
    wanted = r"another model: layers: 30, here 2; dtype: bfloat16, here float32.*--profile-mismatch"
    with pytest.raises(ServeError, match=wanted) as caught:
        serve_module.serve("tiny", latency=other, say=said.append)
    assert "\n" not in str(caught.value)
    assert started == []
    serve_module.serve("tiny", latency=other, profile_mismatch="warn", say=said.append)
    assert "latency" in started[-1].additional_config["scorpio"]
    assert any("layers: 30, here 2" in line for line in said)
    _profile_of(cached_profile_path(cache_dir(), "tiny", this_machine()), layers=30)
    serve_module.serve("tiny", say=said.append)  # not asked for: not used
    assert "latency" not in started[-1].additional_config["scorpio"]
    assert said[-2].endswith("not used")


def test_other_differences_are_named(started: list[Any], tmp_path: Path) -> None:
    said: list[str] = []
    limits = _profile_of(tmp_path / "limits.json", max_num_seqs=7)
    serve_module.serve("tiny", ["--max-num-seqs", "8"], latency=limits, say=said.append)
    assert any("another engine" in line and "max_num_seqs: 7, here 8" in line for line in said)
    said.clear()
    same = _profile_of(tmp_path / "same.json", max_num_seqs=8)
    serve_module.serve("tiny", ["--max-num-seqs", "8"], latency=same, say=said.append)
    assert not any("same.json" in line for line in said)
    old = tmp_path / "old.json"
    _write_profile(old)
    serve_module.serve("tiny", latency=old, say=said.append)
    assert any("does not say which model" in line for line in said)
    assert len(started) == 3


def test_stale_control_files_are_removed(started: list[Any], tmp_path: Path) -> None:
    from scorpio import channel

    channel.write_control(tmp_path, "fcfs")
    channel.write_status(tmp_path, {"policy": "fcfs"})
    serve_module.serve("tiny", run_dir=tmp_path, say=lambda _: None)
    assert channel.read_control(tmp_path) is None
    assert channel.read_status(tmp_path) is None


@pytest.mark.parametrize("field", ["latency", "slo_config"])
def test_unreadable_files(started: list[Any], tmp_path: Path, field: str) -> None:
    call: Callable[..., None] = serve_module.serve
    with pytest.raises(ServeError, match=r"none\.json: cannot read"):
        call("tiny", **{field: tmp_path / "none.json"}, say=lambda _: None)
    assert started == []
