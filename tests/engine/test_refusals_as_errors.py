"""Front ends without our middleware: is a refusal an error there, where vLLM can say one?"""

from __future__ import annotations

from typing import Any

import pytest

from scorpio.core.plan import Rejection, RejectReason, StepPlan
from scorpio.engine.features import UnsupportedConfigError
from scorpio.engine.virtual.requests import EngineCoreOutput, FinishReason
from tests.engine.driver import Engine, Scripted

AS_ERRORS = {"policy": "fcfs", "refusals_as_errors": True}
has_errors = "error" in EngineCoreOutput.__struct_fields__


def refused(
    scorpio: dict[str, Any], retry_after_s: float | None = None, never: bool = False
) -> Any:
    engine = Engine(scorpio=scorpio)
    engine.add("a")
    rejection = Rejection("a", RejectReason.TTFT_INFEASIBLE, None, retry_after_s, never)
    engine.scorpio.use_policy(Scripted(StepPlan(reject=[rejection])))
    engine.step()
    engine.drain()
    engine.assert_drained()
    (answer,) = engine.outputs["a"]
    return answer


@pytest.mark.skipif(not has_errors, reason="this vLLM has no error of a request (0.33 has)")
@pytest.mark.parametrize(
    ("retry_after_s", "never", "sentence"),
    [
        (1.5, False, "retry after 1.5 s"),
        (None, False, "under this load no time to come back can be promised"),
        (None, True, "not even an idle engine could keep the SLO"),
    ],
)
def test_it_is_an_error_of_the_engine(
    retry_after_s: float | None, never: bool, sentence: str
) -> None:
    answer = refused(AS_ERRORS, retry_after_s, never)
    assert answer.finish_reason is FinishReason.ERROR
    assert answer.error.message == f"refused: ttft_infeasible, {sentence} (request a)"
    assert answer.error.retryable is not never
    kind = type(answer.error.to_exception()).__name__
    assert kind == ("GenerationError" if never else "RetryableRequestError")


def test_by_default_it_is_an_abort_that_the_middleware_reads() -> None:
    answer = refused({"policy": "fcfs"}, 1.5)
    assert answer.finish_reason is FinishReason.ABORT
    assert answer.stop_reason.startswith("scorpio:ttft_infeasible")
    assert getattr(answer, "error", None) is None


@pytest.mark.skipif(has_errors, reason="this vLLM has errors of a request")
def test_a_vllm_that_cannot_say_so_is_named() -> None:
    with pytest.raises(UnsupportedConfigError, match=r"needs vLLM 0\.33"):
        Engine(scorpio=AS_ERRORS)
