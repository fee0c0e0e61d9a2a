"""Does a wrong word on the command line cost one clear line, exit 2, and nothing on disk?"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from scorpio.cli.app import app
from scorpio.cli.errors import UsageError, exit_code
from scorpio.cli.parse import listed, one_of, option_values, parse_rate, parse_seed
from workloads.errors import UnknownName

REPLAY = ["replay", "--url", "http://127.0.0.1:9"]
TWIN = ["compare", "--engine", "twin", "--gpu", "a100-llama-3.1-8b", "--policy", "fcfs"]
PLAN = ["plan", "--trace", "cpu-demo", "--gpu", "a100-llama-3.1-8b"]
OPTION = ("serve", "tiny", "--policy-option")
LIVE = ["compare", "--engine", "live", "--model", "tiny", "--trace", "cpu-demo"]


def run(*arguments: str) -> tuple[int, str]:
    """Exit code and stderr."""
    result = CliRunner().invoke(app, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((*REPLAY, "--trace", "nope"), "valid: azure-code-synth, azure-conv"),
        ((*REPLAY, "--trace", "cpu-demo", "--mix", "nope"), "valid: artefact-3, cpu"),
        ((*REPLAY, "--trace", "cpu-demo", "--rate-scale", "0"), "rate scale must be"),
        ((*REPLAY, "--trace", "cpu-demo", "--rows", "9:2"), "rows must be A:B"),
        ((*TWIN, "--trace", "nope"), "valid: azure-code-synth, azure-conv"),
        ((*TWIN, "--trace", "cpu-demo", "--mix", "nope"), "valid: artefact-3, cpu"),
        ((*TWIN, "--trace", "cpu-demo", "--rate-scale", "1,x"), "rate scale 'x' is not valid"),
        ((*TWIN, "--trace", "cpu-demo", "--rate-scale", "1,1"), "rate scale is named twice"),
        ((*TWIN, "--trace", "cpu-demo", "--seed", "-1"), "seed '-1' is not valid"),
        ((*TWIN, "--trace", "cpu-demo", "--lengths", "x"), "--lengths: length hint 'x'"),
        ((*TWIN, "--trace", "cpu-demo", "--policy", "fcfs,nope"), "unknown policy 'nope'; valid:"),
        ((*TWIN, "--trace", "cpu-demo", "--gpu", "nope"), "valid: 24gb-llama-3.1-8b, a100"),
        (("compare", "--trace", "cpu-demo", "--policy", "fcfs"), "--gpu: name one of 24gb"),
        ((*TWIN, "--trace", "cpu-demo", "--engine", "x"), "unknown engine 'x'; valid: both, "),
        ((*LIVE, "--policy", "nope"), "unknown policy 'nope'; valid: edf, fairbatching, fcfs"),
        ((*LIVE, "--policy", "fcfs", "--mix", "nope"), "valid: artefact-3, cpu"),
        ((*PLAN, "--policy", "nope"), "unknown policy 'nope'; valid: edf, fairbatching, fcfs"),
        ((*PLAN, "--target", "1.5"), "target '1.5' must be a share in (0, 1), as 0.95, or a"),
        ((*PLAN, "--rate-scale", "1,2"), "a plan is for one rate scale"),
        ((*PLAN, "--max-replicas", "0"), "max_replicas must be >= 1"),
        (("figures", "nope"), "unknown figure 'nope'; valid: cumulative, guards, load, overhead"),
        (("figures", "--seed", "x"), "seed 'x' is not valid"),
        (("demo", "--policy", "nope"), "unknown policy 'nope'; valid: edf, fairbatching, fcfs"),
        (("demo", "--policy", "fcfs,fcfs"), "policy is named twice"),
    ],
)
def test_wrong_names(tmp_path: Path, arguments: tuple[str, ...], reason: str) -> None:
    out = tmp_path / "out"
    code, stderr = run(*arguments, "--out", str(out))
    assert code == 2
    assert reason in stderr
    assert stderr.startswith("scorpio: ")
    assert len(stderr.strip().splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--trace", "nope", "--policy", "fcfs"), "unknown trace or file 'nope'"),
        (("--mix", "nope"), "unknown mix 'nope'"),
        (("--gpu", "nope"), "nope"),
        (
            ("--policy", "nope"),
            "valid: edf, fairbatching, fcfs, fcfs+adaptive-long-prefill",
        ),
        (("--lengths", "nope"), "--lengths: length hint 'nope'"),
        (("--out", "/proc/nowhere"), "--out: /proc cannot be written"),
        (("--out", "/etc/hostname/x"), "--out: /etc/hostname is a file"),
    ],
)
def test_what_is_wrong_is_told_before_vllm_is_loaded(
    tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    """In a process of its own: no module of vLLM is there when it ends."""
    words = [*TWIN, "--trace", "cpu-demo", "--out", str(tmp_path / "out"), *arguments]
    code = (
        "import sys\nfrom scorpio.cli.app import main\n"
        f"sys.argv = ['scorpio', *{words!r}]\n"
        "try:\n    main()\nfinally:\n    assert 'vllm' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, "AssertionError" in done.stderr) == (2, False)
    assert reason in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("serve", "tiny", "--policy", "nope"), "unknown policy 'nope'; valid: edf, fairb"),
        (("serve", "tiny", "--policy-option", "kappa"), "'kappa' must be NAME=NUMBER"),
        ((*OPTION, "patience=1"), "scorpio has no option patience; valid: light_share"),
        ((*OPTION, "patience_s=-1"), "scorpio option patience_s must be in [0"),
        ((*OPTION, "patience_s=nan"), "scorpio option patience_s must be in [0"),
        ((*OPTION, "kappa=1", "--policy", "fcfs"), "fcfs has no option kappa; valid: none"),
        ((*OPTION, "patience_s=1", "--policy-option", "patience_s=2"), "is given twice"),
        (("serve", "tiny", "--profile-mismatch", "x"), "valid: refuse, warn"),
        (("serve", "tiny", "--slo-config", "/no/such.toml"), "/no/such.toml: cannot read"),
        (("serve", "tiny", "--latency", "/no/such.json"), "/no/such.json: cannot read"),
        (("profile", "--url", "http://127.0.0.1:9"), "--url and --run-dir go together"),
    ],
)
def test_wrong_arguments_without_out(arguments: tuple[str, ...], reason: str) -> None:
    code, stderr = run(*arguments)
    assert code == 2
    assert reason in stderr


def test_a_malformed_trace_is_named_by_file_and_line(tmp_path: Path) -> None:
    trace = tmp_path / "bad.jsonl"
    trace.write_text('{"timestamp": 0, "input_length": 3, "output_length": 2}\n{"timestamp": 1}\n')
    code, stderr = run(*REPLAY, *of(trace), "--out", str(tmp_path / "out"))
    assert code == 2
    assert f"{trace}, line 2: input_length" in stderr
    assert not (tmp_path / "out").exists()


def of(trace: Path) -> list[str]:
    return ["--trace", str(trace), "--mix", "six"]


@pytest.mark.parametrize("command", [TWIN, PLAN[:1] + PLAN[3:], REPLAY])
def test_slos_of_a_log_are_never_made_up(tmp_path: Path, command: list[str]) -> None:
    trace, out = seconds_trace(tmp_path), tmp_path / "out"
    code, stderr = run(*command, "--trace", str(trace), "--out", str(out))
    assert code == 2
    assert f"--mix: which SLOs do the requests of {trace} have? trace = " in stderr
    assert "FILE.toml" in stderr
    assert not out.exists()
    code, stderr = run(*command, *of(trace), "--out", str(out), "--map", "prompts=x")
    assert code == 2
    assert "'prompts=x' must be NAME=COLUMN; names: arrival, prompt, output, tenant" in stderr


def seconds_trace(tmp_path: Path) -> Path:
    """A request a second, stated in seconds, one of them failed."""
    trace = tmp_path / "seconds.jsonl"
    sizes = '"input_length": 40, "output_length"'
    lines = [f'{{"timestamp": {t}.0, {sizes}: {0 if t == 4 else 3}}}\n' for t in range(20)]
    trace.write_text("".join(lines))
    return trace


@pytest.mark.parametrize("command", [TWIN, PLAN[:1] + PLAN[3:], REPLAY])
def test_a_doubtful_unit_is_asked_for_by_every_command(tmp_path: Path, command: list[str]) -> None:
    trace, out = seconds_trace(tmp_path), tmp_path / "out"
    code, stderr = run(*command, *of(trace), "--out", str(out))
    assert code == 2
    assert "say --time-unit s" in stderr
    assert "docs/traces.md" in stderr
    assert not out.exists()
    code, stderr = run(*command, "--trace", "cpu-demo", "--out", str(out), "--block-tokens", "16")
    assert code == 2
    assert "'cpu-demo' says its own units" in stderr


def test_what_was_read_is_told(tmp_path: Path) -> None:
    trace = seconds_trace(tmp_path)
    wanted = (*of(trace), "--time-unit", "s", "--rows", "0:10")
    _, stderr = run(*REPLAY, *wanted, "--out", str(tmp_path / "out"))
    assert "(mooncake): 9 used, 1 failed dropped; 9 s, 1 requests/s; times are s" in stderr


def test_convert(tmp_path: Path) -> None:
    trace, out = seconds_trace(tmp_path), tmp_path / "out.jsonl"
    assert run("convert", str(trace), str(out))[0] == 2
    assert not out.exists()
    result = CliRunner().invoke(app, ["convert", str(trace), str(out), "--time-unit", "s"])
    assert result.exit_code == 0
    assert "19 used, 1 failed dropped" in result.stdout
    last = json.loads(out.read_text().splitlines()[-1])
    assert (last["timestamp"], last["input_length"], last["output_length"]) == (19000, 40, 3)
    assert run("convert", str(tmp_path / "absent"), str(out))[0] == 2


def test_no_server_is_a_failure_and_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, stderr = run(*REPLAY, "--trace", "cpu-demo", "--rows", "0:5", "--out", str(out))
    assert code == 1
    assert "no server at http://127.0.0.1:9" in stderr
    assert not out.exists()


def test_serve_passes_on_what_it_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def fake_serve(model: str, vllm_args: list[str], **options: Any) -> None:
        seen.update(options, model=model, vllm_args=vllm_args)

    monkeypatch.setattr("scorpio.server.launch.serve.serve", fake_serve)
    vllm = ["--port", "8001", "-tp", "2", "--no-enable-prefix-caching", "--max-model-len=1k"]
    code, _ = run(
        *("serve", "tiny", *vllm[:4], "--policy", "scorpio-paper"),
        *("--policy-option", "kappa=1.2", *vllm[4:]),
    )
    assert code == 0
    assert seen["model"] == "tiny"
    assert seen["vllm_args"] == vllm
    assert seen["policy"] == "scorpio-paper"
    assert seen["policy_options"] == {"kappa": 1.2}
    assert seen["slo_config"] is None


def fresh(arguments: list[str], heavy: set[str]) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own; it ends by saying which of these modules were loaded."""
    script = (
        "import sys; from scorpio.cli.app import app\n"
        f"try: app({arguments!r})\n"
        "except SystemExit as end: code = end.code\n"
        f"print('CODE', code, 'HEAVY', sorted({heavy!r} & set(sys.modules)))"
    )
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )


def test_wrong_options_are_told_before_anything_heavy_is_loaded() -> None:
    """vLLM takes half a minute; not even the server's own modules are needed."""
    heavy = {"vllm", "torch", "pandas", "starlette", "scorpio.server.launch.serve"}
    done = fresh(["serve", "tiny", "--policy-option", "nope=1"], heavy)
    assert "CODE 2 HEAVY []" in done.stdout
    assert "scorpio has no option nope; valid: " in done.stderr


def test_options_of_a_policy_that_vllms_arguments_may_name_wait_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("scorpio.server.launch.serve.serve", lambda *_, **__: None)
    config = '{"scorpio": {"policy": "scorpio-paper"}}'
    assert run(*OPTION, "kappa=1.2", "--additional-config", config) == (0, "")


def test_bugs_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: Any, **_options: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("scorpio.server.launch.serve.serve", broken)
    result = CliRunner().invoke(app, ["serve", "tiny"])
    assert isinstance(result.exception, ZeroDivisionError)


def test_ctrl_c_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_arguments: Any, **_options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("scorpio.server.launch.serve.serve", interrupted)
    assert run("serve", "tiny") == (130, "scorpio: stopped by the user\n")


def test_help_imports_nothing_heavy() -> None:
    heavy = {"vllm", "torch", "pandas", "numpy", "scipy", "matplotlib", "aiohttp"}
    done = fresh(["--help"], heavy)
    assert "HEAVY []" in done.stdout
    for command in ("serve", "replay", "compare", "profile", "demo"):
        assert command in done.stdout


def test_words() -> None:
    assert listed("rate scale", "0.5, 2", parse_rate) == [0.5, 2.0]
    assert listed("seed", "0,1", parse_seed) == [0, 1]
    for text in ("", "0", "-1", "nan", "inf", "1,,2", "x"):
        with pytest.raises(UsageError, match="is not valid"):
            listed("rate scale", text, parse_rate)
    with pytest.raises(UsageError, match="unknown engine 'x'; valid: live, twin"):
        one_of("engine", "x", ("twin", "live"))
    assert option_values(["a=1", "b=2.5"]) == {"a": 1.0, "b": 2.5}
    with pytest.raises(UsageError, match="NAME=NUMBER"):
        option_values(["=1"])


def test_exit_codes() -> None:
    assert exit_code(UnknownName("mix", "x", ["y"])) == 2
    assert exit_code(UsageError("x")) == 2
    assert exit_code(ValueError("a bug")) is None


def test_version_names_what_a_bug_report_needs() -> None:
    result = CliRunner().invoke(app, ["version"])
    assert re.fullmatch(
        r"scorpio \d+\.\d+\.\d+, vllm(-cpu)? 0\.\d+\.\d+\S*, Python 3\.\d+\.\d+\n", result.stdout
    )
