"""Which routes of vLLM 0.32 generate tokens, and where does each carry our per-request values?

Read off vllm/entrypoints/**/api_router.py. Whatever is not listed here is none of our business
and passes through the middleware untouched.
"""

from __future__ import annotations

from dataclasses import dataclass

OPENAI_XARGS = ("vllm_xargs",)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One generating route.

    xargs_path: where `vllm_xargs` live in its JSON body; None = the route has no such field, so
        it can carry no SLO of its own and is never rejected (`slo_on_miss=wait`).
    anthropic_errors: errors are `{"type": "error", "error": {...}}`.
    """

    xargs_path: tuple[str, ...] | None = OPENAI_XARGS
    anthropic_errors: bool = False


ENDPOINTS: dict[str, Endpoint] = {
    "/v1/completions": Endpoint(),
    "/v1/chat/completions": Endpoint(),
    "/v1/chat/completions/batch": Endpoint(),  # extra fields reach each conversation's request
    "/v1/responses": Endpoint(),
    "/v1/messages": Endpoint(anthropic_errors=True),
    "/invocations": Endpoint(),  # SageMaker: a chat or completion body
    "/inference/v1/generate": Endpoint(("sampling_params", "extra_args")),
    # Several engine requests per call (or multipart bodies) and no `vllm_xargs`:
    "/generative_scoring": Endpoint(None),
    "/v1/systemone": Endpoint(None),
    "/v1/audio/transcriptions": Endpoint(None),
    "/v1/audio/translations": Endpoint(None),
    "/cohere/v2/chat": Endpoint(None),
}
