"""All planted bugs."""

from __future__ import annotations

from tests.simulation.planted import in_promises, in_scheduler, in_vllm
from tests.simulation.planted.planting import Bug, bug_class

# RemembersTheDead is for a scheduler that remembers none: ours has bugs of its own for that.
_IN_VLLM = (
    *(cls for cls, _ in in_vllm.BUGS if cls is not in_vllm.RemembersTheDead),
    in_vllm.HoldsPrefillChunk,
    in_vllm.NeverAdmits,
    in_vllm.AbortKeepsRequest,
)
BUGS: dict[str, Bug] = {
    bug.name: bug
    for bug in (
        *(Bug(cls.__name__, "vLLM", scheduler=bug_class(cls)) for cls in _IN_VLLM),
        *in_scheduler.BUGS,
        *in_promises.BUGS,
    )
}

# A seed that shows each, and no promise broken on it without the bug. All others show on seed 0.
SEEDS: dict[str, int] = dict.fromkeys(BUGS, 0) | {
    "refusals are never told": 1,
    "the gate stays shut": 1,
    "rows of yesterday": 31,
    "adapters have no places": 82,
    "the wall clock is believed": 4,
    "a skip lasts for ever": 9,
    "steps are not filled": 8,
    "any request can start": 12,
    "no request is overdue": -8,
    "half the credit": 18,
    "credits are kept": 18,
    "the published guard lets all in": 73,
    "any target will do": -9,
    "the first holds up the queue": -9,
    "shares are not looked at": -7,
    "no SLO counts as one": 7,
    "choices are refused one by one": 3,
    "a disk error is the policy's": 7,
    "a disk error ends the status": 7,
    "the breaker never closes": 49,
    "prompts are cut that may not be": 605,
    "ended before it is worded": 3,
    "any key is believed": 12,
    "far steps are ignored": 80,
    "no caps": 108,
    "all are told the same time": 19,
    "writers take no turns": 1,
    "refused sessions are forgotten": 13,
    "a session has one answer": 19,
    "the next input is cut": 972,
    "sessions take places": 1287,
    "a session is lost": 1025,
    "a session forgets": 1025,
    "nothing is out of reach": -2,
    "a broken promise leads": -3,
    "a pause counts as waiting": -4,
    "beginnings count in full": -5,
    "an idle engine refuses": -6,
}
