"""Which routes of vLLM generate tokens, and where does each carry our per-request values?
Which route does a path mean?

Read off vllm/entrypoints/**/api_router.py of all supported versions. Whatever is not listed here is
none of our business and passes through the middleware untouched.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.types import Scope

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
    "/v1/decisions": Endpoint(None),  # from 0.33 on
}


def routed(scope: Scope) -> Scope:
    """The scope with a `root_path` that is really the front of its path, else with none.

    Starlette cuts `root_path` off only where a "/" follows it; vLLM's API-key check cuts it off
    wherever it stands. With `--root-path /` (or `/v`) the two saw different paths, and requests
    passed both the check and us. Cut once here, all that is behind us sees the same.
    """
    root: str = scope.get("root_path", "")
    if not root or scope["path"] == root or scope["path"].startswith(root.rstrip("/") + "/"):
        cut = root.rstrip("/")
        return scope if cut == root else {**scope, "root_path": cut}
    return {**scope, "root_path": ""} if scope["path"].startswith(root) else scope


def route_path(scope: Scope) -> str:
    """The path that Starlette will look up, for a scope that is `routed`."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))
