"""Is what is typed for a fleet what each of its parts is told, and a mistake told at once?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from scorpio.cli.app import app
from scorpio.core.routing.registry import ROUTERS
from scorpio.fleet.settings import FallbackSettings, FleetSettings


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[FleetSettings, str | None, int, str]]:
    """What would be started, instead of starting it."""
    found: list[tuple[FleetSettings, str | None, int, str]] = []

    def serve_fleet(
        settings: FleetSettings, host: str | None, port: int, address: str, _: Any
    ) -> None:
        found.append((settings, host, port, address))

    monkeypatch.setattr("scorpio.fleet.command.serve_fleet", serve_fleet)
    return found


def serve(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["serve", "tiny", *words])
    return result.exit_code, result.stderr.strip()


def test_each_part_is_told_its_own(started: list[Any], tmp_path: Path) -> None:
    classes = tmp_path / "slo.toml"
    classes.write_text("[classes.fast]\nttft_ms = 500\n")
    code, said = serve(
        *("--replicas", "3", "--router", "lmetric", "--ray-address", "ray-head:6379"),
        *("--policy", "edf", "--slo-config", str(classes), "--latency", "mine.json"),
        *("--port", "0", "--host=127.0.0.1", "--shutdown-timeout", "20"),
        *("--max-model-len", "512", "--tensor-parallel-size=2", "--run-dir", "runs"),
    )
    assert (code, said) == (0, "")
    ((settings, host, port, address),) = started
    assert (host, port, address) == ("127.0.0.1", 0, "ray-head:6379")
    assert (settings.model, settings.replicas, settings.router) == ("tiny", 3, "lmetric")
    assert (settings.slo_config, settings.drain_s) == (classes, 20.0)
    assert settings.run_dir == Path("runs").absolute()
    assert settings.serve_args == (
        *("--policy", "edf", "--latency", str(Path("mine.json").absolute())),
        *(
            "--profile-mismatch",
            "refuse",
            "--profile",
            "off",
            "--max-model-len",
            "512",
            "--tensor-parallel-size=2",
        ),
    )


def test_without_more_it_is_on_this_machine(started: list[Any]) -> None:
    assert serve("--replicas", "2", "--port", "0") == (0, "")
    ((settings, host, _, address),) = started
    assert (settings.router, settings.slo_config, host, address) == (
        *("promises", None),
        *(None, "local"),
    )


def test_replicas_that_follow_promises(started: list[Any]) -> None:
    words = ("--max-replicas", "8", "--min-replicas", "1", "--target-attainment", "95")
    assert serve("--replicas", "2", *words, "--port", "0") == (0, "")
    ((settings, *_),) = started
    assert (settings.least, settings.replicas, settings.most) == (1, 2, 8)
    assert settings.target_attainment == 0.95


def test_a_fallback(started: list[Any], tmp_path: Path) -> None:
    classes = tmp_path / "slo.toml"
    classes.write_text('[classes.chat]\nttft_ms = 500\nfallback = "tiny-8"\n')
    code, said = serve(
        *("--replicas", "2", "--fallback-model", "smollm2", "--fallback-replicas", "3"),
        *("--fallback-name", "tiny-8", "--fallback-option=--quantization=fp8", "--port", "0"),
        *("--slo-config", str(classes)),
    )
    assert (code, said) == (0, "")
    ((settings, *_),) = started
    assert settings.fallback == FallbackSettings(
        model="smollm2", replicas=3, name="tiny-8", serve_args=("--quantization=fp8",)
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--fallback-model", "smollm2"], "--fallback-model: only with --replicas"),
        (
            ["--replicas", "2", "--fallback-name", "x"],
            "--fallback-name: only with --fallback-model",
        ),
        (
            ["--replicas", "2", "--fallback-model", "tiny"],
            "fallback.name: 'tiny' is the first deployment's, too: give it another one",
        ),
        (
            ["--replicas", "2", "--fallback-model", "./none"],
            "model './none': no such directory",
        ),
        (
            ["--replicas=2", "--fallback-model=smollm2", "--fallback-option=--quantisation=fp8"],
            "unknown option --quantisation: did you mean --quantization?",
        ),
        (["--router", "lmetric"], "--router: only with --replicas"),
        (["--ray-address", "x:1"], "--ray-address: only with --replicas"),
        (["--max-replicas", "4"], "--max-replicas: only with --replicas"),
        (["--replicas", "2", "--min-replicas", "1"], "--min-replicas: only with --max-replicas"),
        (
            ["--replicas", "2", "--max-replicas", "4", "--target-attainment", "0.97"],
            "--target-attainment: 50 to less than 100 %, got 0.97",
        ),
        (
            ["--replicas", "5", "--max-replicas", "4"],
            "min_replicas <= replicas <= max_replicas, got 5, 5, 4",
        ),
        (
            ["--replicas", "2", "--router", "best"],
            f"router: unknown router 'best'; valid: {', '.join(ROUTERS)}",
        ),
        (["--replicas", "2", "--slo-config", "/none.toml"], "/none.toml: "),
        (["--replicas", "2", "--max-model-length", "5"], "unknown option --max-model-length: "),
        (["--replicas", "2", "--port", "70000"], "--port 70000: must be 0 to 65535"),
    ],
)
def test_a_mistake_is_told_before_anything_starts(
    started: list[Any], words: list[str], said: str
) -> None:
    code, told = serve(*words)
    assert code == 2
    assert said in told
    assert "\n" not in told
    assert not started
