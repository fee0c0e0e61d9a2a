"""Does `scorpio serve --shadow` tell a wrong word in a line, and hand on a right one?"""

from __future__ import annotations

from typing import Any

import pytest
from typer.testing import CliRunner

from scorpio.cli.app import app
from scorpio.fleet.settings import FleetSettings
from scorpio.settings import SettingsError, load_settings


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, words)
    return result.exit_code, result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--shadow", "nope"), "unknown policy 'nope'; valid: edf, fairbatching, fcfs"),
        (("--shadow", "scorpio"), "--shadow: shadow 'scorpio' is the policy that serves"),
        (("--policy", "edf", "--shadow", "edf"), "shadow 'edf' is the policy that serves"),
        (("--shadow", "fcfs"), "'fcfs' refuses and holds none"),
        (("--shadow-option", "kappa=1"), "name the policy that they are of"),
        (("--shadow", "sjf", "--shadow-option", "x"), "shadow option 'x' must be NAME=NUMBER"),
        (("--shadow", "edf", "--shadow-option", "x=1"), "edf has no option x; valid: none"),
    ],
)
def test_a_wrong_word_is_one_line(words: tuple[str, ...], said: str) -> None:
    code, stderr = run("serve", "tiny", *words)
    assert code == 2
    assert said in stderr
    assert len(stderr.splitlines()) == 1


def test_it_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr("scorpio.server.launch.serve.serve", lambda *_, **told: seen.update(told))
    words = ("--policy", "fcfs", "--shadow", "scorpio", "--shadow-option", "patience_s=5")
    assert run("serve", "tiny", *words) == (0, "")
    assert (seen["policy"], seen["policy_options"]) == ("fcfs", {})
    assert (seen["shadow"], seen["shadow_options"]) == ("scorpio", {"patience_s": 5.0})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"shadow": "nope"}, "scorpio.shadow: unknown policy 'nope'"),
        ({"shadow": "scorpio"}, "shadow 'scorpio' is the policy that serves"),
        ({"shadow_options": {"kappa": 1.0}}, "shadow_options: name the policy"),
        ({"shadow": "edf", "shadow_options": {"x": 1.0}}, "shadow_options: edf has no option x"),
        ({"shadow": "edf", "shadow_most_share": 0}, "scorpio.shadow_most_share: "),
    ],
)
def test_so_is_a_wrong_setting_of_a_plain_vllm_serve(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load_settings({"scorpio": settings})


def test_other_options_of_the_same_policy_are_another_policy() -> None:
    told = {"policy": "scorpio", "shadow": "scorpio", "shadow_options": {"patience_s": 5.0}}
    assert load_settings({"scorpio": told}).shadow_options == {"patience_s": 5.0}


def test_each_replica_of_a_fleet_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[FleetSettings] = []
    monkeypatch.setattr(
        "scorpio.fleet.command.serve_fleet", lambda settings, *_: told.append(settings)
    )
    words = ("--policy", "fcfs", "--shadow", "scorpio", "--shadow-option", "patience_s=5")
    assert run("serve", "tiny", "--replicas", "2", "--port", "0", *words)[0] == 0
    assert told[0].serve_args == (
        *(
            "--policy",
            "fcfs",
            "--shadow",
            "scorpio",
            "--profile-mismatch",
            "refuse",
            "--profile",
            "off",
        ),
        "--shadow-option=patience_s=5",
    )
