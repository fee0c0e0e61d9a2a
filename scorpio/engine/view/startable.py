"""Could vLLM start this waiting request in this step? What its own loop would say, unchanged.

vLLM pops a request that cannot start, finds out, and puts it back: a plan that counts on such a
one spends its step on nothing. Line references are to vllm/v1/core/sched/scheduler.py (0.32.0).
"""

from __future__ import annotations

from vllm.v1.request import Request, RequestStatus

_NEVER_NOW = (RequestStatus.WAITING_FOR_REMOTE_KVS, RequestStatus.WAITING_FOR_STREAMING_REQ)


def cannot_start(request: Request) -> bool:
    """Its grammar is being compiled (or failed), its KV or its next input is on the way, or an
    output from before its preemption is still to come (:929, :935)."""
    if request.status in _NEVER_NOW:
        return True
    if request.status == RequestStatus.WAITING_FOR_STRUCTURED_OUTPUT_GRAMMAR:
        grammar = _grammar(request)
        return grammar is None or isinstance(grammar, Exception)
    return request.num_stale_output_tokens > 0 and not request.drop_stale_output


def must_be_seen(request: Request) -> bool:
    """Its grammar failed: vLLM must come across it, or its client is never told (:3196)."""
    waits = request.status == RequestStatus.WAITING_FOR_STRUCTURED_OUTPUT_GRAMMAR
    return waits and isinstance(_grammar(request), Exception)


def can_continue(request: Request, current_step: int, max_model_len: int) -> bool:
    """A running one: would the step that comes next compute a token of it (:663, :688, :720)?"""
    if request.next_decode_eligible_step > current_step + 1:
        return False
    placeholders, computed = request.num_output_placeholders, request.num_computed_tokens
    most_tokens = request.num_prompt_tokens + request.max_tokens
    if placeholders > 0 and computed + 2 - placeholders >= most_tokens:
        return False  # its last token is in flight
    left = request.num_tokens_with_spec + placeholders - computed
    return left > 0 and computed + 1 < max_model_len


def _grammar(request: Request) -> object:
    asked = request.structured_output_request
    return None if asked is None else asked.grammar
