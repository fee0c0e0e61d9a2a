"""Would the next step compute a token of a running request? As vLLM's `schedule` asks."""

from __future__ import annotations

from typing import Any

import pytest
from vllm.v1.request import RequestStatus

from scorpio.engine.view.startable import can_continue, cannot_start
from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.requests import Request, RequestFactory

STEP, LONGEST = 7, 4096


def running(computed: int, placeholders: int = 0, output: int = 0, eligible: int = 0) -> Request:
    """Of 10 prompt tokens and at most 4 more."""
    request = RequestFactory(EngineSpec()).make("r", 0.0, 10, 4, {})
    request.append_output_token_ids([1] * output)
    request.status = RequestStatus.RUNNING
    request.num_computed_tokens = computed
    request.num_output_placeholders = placeholders
    request.next_decode_eligible_step = eligible
    return request


@pytest.mark.parametrize(
    ("what", "can"),
    [
        ({"computed": 6}, True),  # its prompt is not computed
        ({"computed": 10, "output": 1}, True),
        ({"computed": 10}, False),  # its first token is being sampled
        ({"computed": 10, "placeholders": 1}, True),  # it is known that one comes
        ({"computed": 12, "placeholders": 1, "output": 2}, True),
        ({"computed": 13, "placeholders": 1, "output": 3}, False),  # the last one is in flight
        ({"computed": 10, "output": 1, "eligible": STEP + 1}, True),
        ({"computed": 10, "output": 1, "eligible": STEP + 2}, False),
    ],
)
def test_what_goes_on(what: dict[str, Any], can: bool) -> None:
    assert can_continue(running(**what), STEP, LONGEST) is can


@pytest.mark.parametrize(("longest", "can"), [(12, True), (11, False)])
def test_nothing_is_computed_beyond_the_longest_context(longest: int, can: bool) -> None:
    assert can_continue(running(10, output=1), STEP, longest) is can


def test_a_grammar_that_is_there_holds_nothing_up() -> None:
    request: Any = running(0)
    assert not cannot_start(request)
    request.status = RequestStatus.WAITING_FOR_STRUCTURED_OUTPUT_GRAMMAR
    assert cannot_start(request)
