"""Does each policy take the options of its page, with the defaults and limits told there?"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from scorpio.core.options import Options, option
from scorpio.core.policies.paper.options import PaperOptions
from scorpio.core.policies.rivals.fairbatching.policy import FairBatchingOptions
from scorpio.core.policies.rivals.mooncake.policy import MooncakeOptions
from scorpio.core.policies.rivals.qoserve.policy import QoserveOptions
from scorpio.core.policies.rivals.sjf import SjfOptions
from scorpio.core.policies.rivals.slidingserve.policy import SlidingServeOptions
from scorpio.core.policies.scorpio.options import ScorpioOptions
from scorpio.core.registry import check_policy, policy_names

DEFAULTS = {
    name: asdict(options)
    for name, options in {
        "scorpio": ScorpioOptions(),
        "sjf": SjfOptions(),
        "mooncake": MooncakeOptions(),
        "qoserve": QoserveOptions(),
        "qoserve+reject": QoserveOptions(),
        "fairbatching": FairBatchingOptions(),
        "slidingserve": SlidingServeOptions(),
        "scorpio-paper": PaperOptions(),
    }.items()
}
PAGES = Path(__file__).parents[2] / "docs" / "policies"


def documented(policy: str) -> dict[str, tuple[float, str]]:
    """Default and range of each option, as the page of the policy has them in its table."""
    page = (PAGES / f"{policy}.md").read_text()
    rows = page.split("\n| option | default | range | ")[1].split("\n\n")[0].splitlines()[2:]
    found = {}
    for names, defaults, limits, *_ in (row.removeprefix("| ").split(" | ") for row in rows):
        numbers = [float(number) for number in defaults.split(",")]
        for place, name in enumerate(names.replace("`", "").split(", ")):
            found[name] = (numbers[min(place, len(numbers) - 1)], limits)
    return found


def limits_of(text: str) -> tuple[float, float]:
    """`0 to 3600` or `0 or 1` as numbers."""
    low, high = (float(part) for part in text.replace(" or ", " to ").split(" to "))
    return low, high


@pytest.mark.parametrize("policy", sorted(DEFAULTS))
def test_the_page_has_every_option_and_its_default(policy: str) -> None:
    told = {name: default for name, (default, _) in documented(policy).items()}
    assert told == DEFAULTS[policy]


@pytest.mark.parametrize("policy", sorted(set(policy_names()) - set(DEFAULTS)))
def test_the_page_of_a_policy_without_options_says_so(policy: str) -> None:
    page = {"edf": "priority-edf"}.get(policy, policy)
    assert "\n**Options.** None.\n" in (PAGES / f"{page}.md").read_text()


@pytest.mark.parametrize(
    ("policy", "name", "low", "high"),
    [
        (policy, name, *limits_of(text))
        for policy in DEFAULTS
        for name, (_, text) in documented(policy).items()
    ],
)
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
    with pytest.raises(ValueError, match=f"{re.escape(name)} has no option no_such"):
        check_policy(name, {"no_such": 1.0})


@dataclass(frozen=True, slots=True)
class OneShare(Options):
    share: float = option(0.5, 0.0, 1.0)


def test_options_are_numbers_in_their_range() -> None:
    assert OneShare.parse("p", {}) == OneShare(0.5)
    assert OneShare.parse("p", {"share": 1}).share == 1.0
    for bad in (True, "0.5", None, 1.5):
        with pytest.raises(ValueError, match=r"^p option share must be in \[0.0, 1.0\], got"):
            OneShare.parse("p", {"share": bad})  # type: ignore[dict-item]
        with pytest.raises(ValueError, match=r"^option share must be in"):
            OneShare(bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="p has no option shore; valid: share"):
        OneShare.parse("p", {"shore": 0.5})
