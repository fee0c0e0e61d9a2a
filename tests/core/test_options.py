"""Does each policy take the options of docs/policy.md, with these defaults and limits?"""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from scorpio.core.options import Option, parse_options
from scorpio.core.policies.paper.options import PaperOptions
from scorpio.core.policies.rivals import sjf
from scorpio.core.policies.rivals.mooncake import policy as mooncake
from scorpio.core.policies.rivals.qoserve import policy as qoserve
from scorpio.core.policies.scorpio import policy as scorpio
from scorpio.core.registry import check_policy, policy_names

TABLES = {
    "scorpio": scorpio.OPTIONS,
    "sjf": sjf.OPTIONS,
    "mooncake": mooncake.OPTIONS,
    "qoserve": qoserve.OPTIONS,
}
PAGE = Path(__file__).parents[2] / "docs" / "policy.md"
# The page tells no limits of `scorpio`'s: who goes beyond is told them.
SCORPIO = {
    "light_share": (0.0, 1.0),
    "light_debt": (0.0, 10.0),
    "pace_reserve": (0.0, 0.9),
    "catch_up": (0.1, 1.0),
    "max_step_s": (0.001, 60.0),
    "borrow_queue_s": (0.0, 60.0),
    "tenant_share": (0.0, 100.0),
    "tenant_room": (1.0, 100.0),
    "patience_s": (0.1, 86_400.0),
}


def documented(policy: str) -> dict[str, tuple[float, str]]:
    """Default and range of each option, as the section of the policy has them in its table."""
    section = PAGE.read_text().split(f"\n## `{policy}`\n")[1].split("\n## ")[0]
    rows = section.split("\n| option | default | ")[1].split("\n\n")[0].splitlines()[2:]
    found = {}
    for names, defaults, limits, *_ in (row.removeprefix("| ").split(" | ") for row in rows):
        numbers = [float(number) for number in defaults.split(",")]
        for place, name in enumerate(names.replace("`", "").split(", ")):
            found[name] = (numbers[min(place, len(numbers) - 1)], limits)
    return found


def limits_of(text: str) -> tuple[float, float] | None:
    """`0 to 3600` or `0 or 1` as numbers; None: the column says something else."""
    try:
        low, high = (float(part) for part in text.replace(" or ", " to ").split(" to "))
    except ValueError:
        return None
    return low, high


@pytest.mark.parametrize("policy", sorted(TABLES))
def test_defaults_are_those_of_the_page(policy: str) -> None:
    told = documented(policy)
    for name, option in TABLES[policy].items():
        assert option.default == told[name][0], name


def test_defaults_of_the_paper_are_those_of_the_page() -> None:
    told = documented("scorpio-paper")
    options = PaperOptions()
    assert len(told) == 6
    for name, (default, _) in told.items():
        assert getattr(options, name) == default


def all_limits() -> list[tuple[str, str, float, float]]:
    found = [("scorpio", name, low, high) for name, (low, high) in SCORPIO.items()]
    found.append(("sjf", "ageing_tokens_per_s", 0.001, 1e6))
    for policy in ("mooncake", "qoserve", "scorpio-paper"):
        for name, (_, text) in documented(policy).items():
            if limits := limits_of(text):
                found.append((policy, name, *limits))
    return found


def test_every_option_has_limits_here() -> None:
    named = {(policy, name) for policy, name, _, _ in all_limits()}
    assert {(p, name) for p, table in TABLES.items() for name in table} <= named


@pytest.mark.parametrize(("policy", "name", "low", "high"), all_limits())
def test_an_option_is_taken_up_to_its_limits_and_no_further(
    policy: str, name: str, low: float, high: float
) -> None:
    for value in (low, high):
        check_policy(policy, {name: value})
    for value in (low - 1e-6, high * 1.001, math.nan):
        with pytest.raises(ValueError, match=f"option {name} must be"):
            check_policy(policy, {name: value})


@pytest.mark.parametrize("policy", ["scorpio-paper"])
@pytest.mark.parametrize("name", ["ttft_guard", "tpot_guard"])
def test_a_switch_is_on_or_off(policy: str, name: str) -> None:
    for value in (0, 1, 0.0, 1.0):
        check_policy(policy, {name: value})
    with pytest.raises(ValueError, match=f"option {name} must be 0 or 1, got 0.5"):
        check_policy(policy, {name: 0.5})


@pytest.mark.parametrize("name", policy_names())
def test_a_policy_without_options_says_so(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} has no option no_such"):
        check_policy(name, {"no_such": 1.0})


def test_options_come_as_numbers() -> None:
    known = {"share": Option(0.5, 0.0, 1.0)}
    assert parse_options("p", known, {}) == {"share": 0.5}
    assert type(parse_options("p", known, {"share": 1})["share"]) is float
    for bad in (True, "0.5", None):
        with pytest.raises(ValueError, match="must be in"):
            parse_options("p", known, {"share": bad})  # type: ignore[dict-item]
