"""Is a package with a broken policy, or a taken name, named, and does it stop nothing else?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scorpio.core.registry import STOCK_SETTINGS, policy_names
from scorpio.twin.systems import system_names
from tests.packages.installing import NAME, python, write_package

KINDS = """
from scorpio.core.options import Options
from scorpio.core.registry import PolicyKind

def fails(given, options):
    raise ZeroDivisionError("no speed")

class Other:
    name = "else"

MAKES_NOTHING = PolicyKind(Options, fails)
OTHER_NAME = PolicyKind(Options, lambda given, options: Other())
CLASS = Other
"""
POLICIES = {
    "gone": "no_such_module:POLICY",
    "fails": "odd:MAKES_NOTHING",
    "misnamed": "odd:OTHER_NAME",
    "class": "odd:CLASS",
    "fcfs": "odd:MAKES_NOTHING",
    "fcfs-tuned": "odd:MAKES_NOTHING",
    NAME: "odd:MAKES_NOTHING",
}
REASONS = {
    "gone": "policy 'gone' of odd 1.0 (no_such_module:POLICY) cannot be loaded:"
    " ModuleNotFoundError: No module named 'no_such_module'",
    "fails": "policy 'fails' of odd 1.0 (odd:MAKES_NOTHING) cannot be made: ZeroDivisionError: no",
    "misnamed": "policy 'misnamed' of odd 1.0 (odd:OTHER_NAME) calls itself 'else'",
    "class": "policy 'class' of odd 1.0 (odd:CLASS) must be a scorpio.core.registry.PolicyKind,"
    " got type",
    NAME: f"policy '{NAME}' is offered twice: by ",
}
ASKED = """
import json, sys
from scorpio.twin.systems import check_system, system_names
told = {"names": system_names()}
assert "odd" not in sys.modules and "short_first" not in sys.modules
for name in system_names():
    try:
        check_system(name, {})
    except ValueError as error:
        told[name] = str(error)
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("odd")
    write_package(target, "odd", POLICIES, KINDS)
    return target


def test_each_is_named_and_the_others_are_there(odd: Path, example: Path) -> None:
    done = python("-c", ASKED, targets=(example, odd))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert set(told.pop("names")) == {*system_names(), *POLICIES}
    assert set(told) == set(REASONS)
    for name, reason in REASONS.items():
        assert told[name].startswith(reason), told[name]
    assert "short-first 1.0 (short_first:POLICY)" in told[NAME]
    assert "and by odd 1.0" in told[NAME]


@pytest.mark.parametrize("name", ["fcfs", "fcfs-tuned"])
def test_names_of_ours_go_on_meaning_ours(odd: Path, name: str) -> None:
    """`fcfs` is the way back to stock vLLM, whatever is installed."""
    asked = f"from scorpio.twin.systems import check_system\ncheck_system({name!r}, {{}})"
    done = python("-c", asked, targets=(odd,))
    assert done.returncode == 0, done.stderr
    left_out = f"policy '{name}' of odd 1.0 (odd:MAKES_NOTHING) is left out: the name is Scorpio's"
    assert left_out in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("serve", "tiny"),
        ("compare", "--trace", "cpu-demo", "--gpu", "a100-llama-3.1-8b", "--out", "OUT"),
        ("plan", "--trace", "cpu-demo", "--gpu", "a100-llama-3.1-8b", "--out", "OUT"),
    ],
)
def test_a_command_tells_it_in_a_line(odd: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    out = tmp_path / "out"
    words = [str(out) if word == "OUT" else word for word in command]
    done = python("-m", "scorpio", *words, "--policy", "gone", targets=(odd,))
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1] == f"scorpio: {REASONS['gone']}"
    assert not out.exists()


def test_names_of_settings_are_those_of_the_twin() -> None:
    assert set(system_names()) - set(policy_names()) == STOCK_SETTINGS
