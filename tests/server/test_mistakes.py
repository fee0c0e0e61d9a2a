"""Is a mistake told in one sentence, before vLLM is imported?"""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from scorpio.cli.serve import POLICIES
from scorpio.core.registry import policy_names
from scorpio.server.accounts.slo_config import read_slo_config
from scorpio.server.launch.mistakes import OWN, ServeError, check_early, vllm_flags
from scorpio.server.launch.serve import _run_dir
from scorpio.settings import SettingsError, load_settings
from scorpio.versions import SUPPORTED_VLLM, minor

# argparse's own loader of vLLM: were it reached, the test would fail by this error.
PROGRAM = """
import sys
sys.modules["vllm"] = None
from scorpio.cli.app import main
main()
"""


def told(*arguments: str) -> tuple[int, str]:
    """Exit code and stderr of `scorpio ...` in a process that cannot import vLLM."""
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stderr


def test_one_line_without_vllm(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "slo.toml").write_text("[classes.chat]\nttft = 4\n")
    for arguments, sentence in (
        (("tiny", "--portt", "1"), "scorpio: unknown option --portt: did you mean --port?\n"),
        (("./nomodel",), "scorpio: model './nomodel': no such directory\n"),
        (
            ("tiny", "--run-dir", str(tmp_path / "file")),
            f"scorpio: --run-dir {tmp_path}/file: File exists\n",
        ),
        (
            ("tiny", "--slo-config", str(tmp_path / "slo.toml"), "--port", "0"),
            f"scorpio: {tmp_path}/slo.toml: line 2: classes.chat.ttft: unknown; "
            "valid: ttft_ms, tpot_ms, e2el_ms, on_miss, value, target, fallback, fallback_share\n",
        ),
    ):
        assert told("serve", *arguments) == (2, sentence)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--slo_config", "x"], "unknown option --slo_config: did you mean --slo-config?"),
        (
            ["--max-modle-len", "64"],
            "unknown option --max-modle-len: did you mean --max-model-len?",
        ),
        (["--tensor-parallel=2", "--zzz=1"], "unknown option --zzz: see `scorpio serve --help`"),
        (["--port", "eighty"], "--port eighty: not a number"),
        (["--port=70000"], "--port 70000: must be 0 to 65535"),
        (["--host", "192.0.2.1", "--port", "0"], "192.0.2.1, port 0: Cannot assign"),
    ],
)
def test_wrong_options(argv: list[str], sentence: str) -> None:
    with pytest.raises(ServeError) as raised:
        check_early("tiny", argv)
    assert str(raised.value).startswith(sentence)


@pytest.mark.parametrize(
    "argv",
    [
        ["--port", "0", "--max_model_len", "64", "--compilation-config.mode", "0"],
        ["--port=0", "--no-enable-prefix-caching", "--enable-lora", "-tp", "2"],
        ["--config", "server.yaml", "--port", "nonsense is vLLM's to find"],
        ["--port", "0", "--max-model", "64"],  # the beginning of a name, as argparse takes it
        ["--port", "0", "--", "--anything"],
    ],
)
def test_what_vllm_takes_is_left_to_it(argv: list[str]) -> None:
    check_early("tiny", argv)


def test_a_port_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with pytest.raises(ServeError, match=f"127.0.0.1, port {port}: in use by another server"):
            check_early("tiny", ["--host", "127.0.0.1", "--port", port])


def test_models(tmp_path: Path) -> None:
    for name in ("smollm2", "Qwen/Qwen2.5-7B-Instruct", "gpt2"):
        check_early(name, ["--port", "0"])
    with pytest.raises(ServeError, match=r"there is no config\.json or params\.json in it"):
        check_early(str(tmp_path), [])
    (tmp_path / "config.json").touch()
    check_early(str(tmp_path), ["--port", "0"])
    with pytest.raises(ServeError, match="neither a directory, nor an id of Hugging Face"):
        check_early("Qwen//x", [])


def test_options_are_those_of_the_installed_vllm() -> None:
    """If not: python -m tests.server.flags"""
    import vllm

    from scorpio.server.vllm_api import server_options

    assert vllm_flags(minor(vllm.__version__)) == frozenset(server_options())
    assert all(vllm_flags(one) for one in SUPPORTED_VLLM)
    assert vllm_flags("9.9") == frozenset().union(*(vllm_flags(one) for one in SUPPORTED_VLLM))


def test_our_options_are_those_of_the_command() -> None:
    _, shown = subprocess.getstatusoutput(f"{sys.executable} -m scorpio serve --help")
    assert {word for word in shown.split() if word.startswith("--")} - {"--help", "--port"} == set(
        OWN
    )
    assert ", ".join(policy_names()) == POLICIES


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (
            {"classes": {"c": {"ttft_ms": "500"}}},
            "scorpio.classes.c.ttft_ms: Input should be a valid n",
        ),
        ({"most_waiting": "9"}, "scorpio.most_waiting: Input should be a valid integer"),
        ({"stall_s": True}, "scorpio.stall_s: Input should be a valid number"),
        ({"polcy": "fcfs"}, "scorpio.polcy: unknown; valid: policy, policy_options, "),
        ({"policy": "nope"}, "scorpio.policy: unknown policy 'nope'; valid: edf, "),
        (
            {"unsupported": "ignore"},
            "scorpio.unsupported: Input should be 'refuse' or 'passthrough'",
        ),
    ],
)
def test_settings(table: dict[str, object], sentence: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings({"scorpio": table})
    assert str(raised.value).startswith(sentence)


def test_whole_numbers_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "slo.toml").write_text("[classes.chat]\nttft_ms = 500\nvalue = 4\n")
    assert read_slo_config(tmp_path / "slo.toml")["classes"] == {
        "chat": {"ttft_ms": 500, "value": 4}
    }


def test_what_killed_servers_left_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead, other = tmp_path / f"scorpio-run-{gone.pid}-abc", tmp_path / "scorpio-run-of-others"
    alive = tmp_path / "scorpio-run-1-abc"
    for folder in (dead, other, alive):
        folder.mkdir()
    with _run_dir(None, []) as mine:
        assert sorted(tmp_path.iterdir()) == sorted([other, alive, mine])
    assert sorted(tmp_path.iterdir()) == sorted([other, alive])
