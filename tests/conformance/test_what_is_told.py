"""Does a refusal tell anything of what the prefix cache holds? (Invariant 35.)"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import pytest

from scorpio.core.plan import Rejection
from scorpio.core.request import RequestView
from scorpio.core.slo import Slo
from scorpio.policy_packages import all_policies
from tests.conformance.snapshots import NOW_S, Row, Scene, limits, policy_for, snapshot

BOUNDS = limits(max_num_seqs=16, token_budget=2048, kv_tokens=100_000)
PROMPT = 8192
CACHED = (0, 512, 4096, PROMPT - 16)


def refusal(name: str, ttft_s: float, tpot_s: float, cached: int, busy: bool) -> Rejection | None:
    """What the last to come is told, behind others that it cannot influence."""
    first = RequestView("queued", 1, NOW_S, 6000, 64, Slo(60.0, 0.2))
    probe = RequestView("probe", 2, NOW_S, PROMPT, 64, Slo(ttft_s, tpot_s))
    probe = replace(probe, cached_tokens=cached)
    decode = RequestView("d", 0, NOW_S - 1.0, 100, 64, Slo(60.0, 0.2))
    running = tuple(
        Row(replace(decode, request_id=f"d{slot}"), slot, False, 150, 50, 1) for slot in range(8)
    )
    scene = Scene(BOUNDS, running if busy else (), ((first, False), (probe, False)))
    policy = policy_for(name, BOUNDS)
    made = policy.plan(NOW_S, snapshot(policy, scene))
    return next((r for r in made.reject if r.request_id == "probe"), None)


@pytest.mark.parametrize("name", all_policies())
@pytest.mark.parametrize("busy", [False, True])
def test_what_is_told_does_not_depend_on_the_cache(name: str, busy: bool) -> None:
    told: dict[tuple[float, float], set[Rejection]] = defaultdict(set)
    for ttft_s in (0.0005, 0.05, 0.2, 0.4, 0.6, 1.0, 2.0):
        for tpot_s in (0.001, 0.2):
            for cached in CACHED:
                refused = refusal(name, ttft_s, tpot_s, cached, busy)
                if refused is not None:
                    told[ttft_s, tpot_s].add(refused)
    for slo, words in told.items():
        assert len(words) == 1, (slo, words)
    if name in ("scorpio", "scorpio-paper", "mooncake"):
        assert told
