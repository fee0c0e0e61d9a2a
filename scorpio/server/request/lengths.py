"""How long will this answer be, and how long was it? The ladder between HTTP and the engine client.

Asked at `EngineClient.generate`: there the prompt is tokenised and the limits are final, and what
is put into `extra_args` comes after everything a client could write, so the engine's predictions
are always the server's own. Nothing in here may fail a request: an error counts, and the request
goes on without a prediction (the engine then reckons with max_tokens).
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from predictors.length.artifact import LengthArtifactError
from predictors.length.coverage import WATCHED
from predictors.length.ladder import LengthLadder, LengthPrediction, Source
from predictors.length.quantiles import LEVELS
from predictors.length.request import LengthRequest
from predictors.length.shipped import open_model
from scorpio.core.slo import XARG_PREDICTED, XARG_QUANTILES, XARG_TENANT
from scorpio.server.request.prompt_text import NO_TEXT, PromptText
from scorpio.server.shared import Shared
from scorpio.server.vllm_api import is_delta
from scorpio.settings import ScorpioSettings, SettingsError
from scorpio.window import Window

WIRED: Final = tuple(LEVELS.index(level) for level in (0.1, 0.5, 0.9))
# Of several API processes: the worst, and for all else the sum.
_TOGETHER: Final[Mapping[str, Callable[[list[float]], float]]] = {
    "trained": max,
    "demoted": max,
    "broken": max,
    "histograms": max,
    "prediction_s": max,
}
_COVERAGE: Final = "lengths coverage"
_ENDED: Final = ("stop", "length")  # by itself or at its limit: only these tell a length


@dataclass(frozen=True, slots=True)
class Asked:
    """A prediction that waits for its outcome; delta: outputs hold their new tokens only."""

    request: LengthRequest
    prediction: LengthPrediction
    delta: bool


class LengthService:
    """One per API process, which learns from its own requests; `tell` and `watch` are its two
    ends."""

    def __init__(
        self,
        ladder: LengthLadder,
        model: str,
        clock: Callable[[], float] = time.perf_counter,
        shared: Shared | None = None,
    ) -> None:
        self._ladder = ladder
        self._shared = shared or Shared()
        self._model = model
        self._clock = clock
        self._seconds = Window()
        self._failures = 0

    def tell(
        self, params: Any, prompt: Any, text: PromptText = NO_TEXT, lora: Any = None
    ) -> Asked | None:
        """Put the prediction into `params.extra_args`, in place of whatever is there.

        None when there is nothing to learn either: the length is fixed by the request itself, or
        the prediction failed.
        """
        started_s = self._clock()
        extra = dict(params.extra_args or {})
        stated = [extra.pop(name, None) for name in (XARG_PREDICTED, XARG_QUANTILES)]
        asked = None
        try:
            asked = self._ask(params, prompt, text, lora, extra)
        except Exception:
            self._failures += 1
        if asked is not None and asked.prediction.source is not Source.MAX_TOKENS:
            tokens = asked.prediction.quantiles_tokens
            extra[XARG_PREDICTED] = max(asked.prediction.mean_tokens, 1.0)
            extra[XARG_QUANTILES] = [tokens[column] for column in WIRED]
        if asked is not None or any(value is not None for value in stated):
            params.extra_args = extra or None
        self._seconds.add(self._clock() - started_s)
        return asked

    def _ask(
        self, params: Any, prompt: Any, text: PromptText, lora: Any, extra: dict[str, Any]
    ) -> Asked | None:
        limit = int(params.max_tokens or 0)
        if params.ignore_eos or limit == 1:
            return None
        tenant = extra.get(XARG_TENANT)
        request = LengthRequest(
            prompt=text.prompt,
            prompt_tokens=prompt_count(prompt),
            max_tokens=limit,
            temperature=float(params.temperature),
            system=text.system,
            turn=text.turn,
            model=self._model if lora is None else str(lora.lora_name),
            tenant=tenant if isinstance(tenant, str) else "",
        )
        return Asked(request, self._ladder.predict(request), is_delta(params))

    async def watch(
        self, stream: AsyncGenerator[Any, None], asked: Asked
    ) -> AsyncGenerator[Any, None]:
        """The same outputs; lengths of answers that end properly are learned."""
        counts: dict[int, int] = {}
        async with aclosing(stream):
            async for output in stream:
                try:
                    self._note(asked, output, counts)
                except Exception:
                    self._failures += 1
                yield output

    def _note(self, asked: Asked, output: Any, counts: dict[int, int]) -> None:
        for choice in output.outputs:
            before = counts.get(choice.index, 0) if asked.delta else 0
            counts[choice.index] = before + len(choice.token_ids)
            if choice.finish_reason in _ENDED:
                self._ladder.observe(asked.request, asked.prediction, counts[choice.index])

    def state(self) -> dict[str, Any]:
        """What a metrics page shows: the ladder's state, our failures, seconds per prediction; of
        all API processes."""
        own = self._own_state()
        self._put(own)
        found = {key: self._together(key, value) for key, value in own.items()}
        return found | {"coverage": self._coverage(own["coverage"])}

    def share(self) -> None:
        """Tell the other API processes."""
        self._put(self._own_state())

    def _own_state(self) -> dict[str, Any]:
        seconds = self._seconds.quantiles(digits=12)
        return self._ladder.state() | {
            "server_failures": self._failures,
            "predictions": self._seconds.added,
            "prediction_s": {"0.5": seconds["p50"], "0.99": seconds["p99"]},
        }

    def _put(self, own: dict[str, Any]) -> None:
        for key, value in own.items():
            named = value if isinstance(value, dict) else {"": value}
            for name, number in named.items():
                self._shared.put(f"lengths {key} {name}", float(number))
        for name in set(WATCHED) - set(own["coverage"]):  # it begins anew
            self._shared.put(f"{_COVERAGE} {name}", math.nan)

    def _together(self, key: str, own: Any, name: str = "") -> Any:
        if isinstance(own, dict):
            return {name: self._together(key, number, name) for name, number in own.items()}
        others = self._shared.each(f"lengths {key} {name}")
        return _TOGETHER.get(key, sum)([own, *others]) if others else own

    def _coverage(self, own: dict[str, float]) -> dict[str, float]:
        """The least of those processes that know any."""
        known = {
            name: [*([own[name]] if name in own else ()), *self._shared.each(f"{_COVERAGE} {name}")]
            for name in WATCHED
        }
        told = {n: [s for s in shares if not math.isnan(s)] for n, shares in known.items()}
        return {name: min(shares) for name, shares in told.items() if shares}


def length_service(
    settings: ScorpioSettings, model: str, shared: Shared | None = None
) -> LengthService:
    """The service of a server; without a configured model it starts with empty histograms. shared:
    with its other API processes.

    Raises:
        SettingsError: the configured model cannot be used.
    """
    if settings.length_model is None:
        return LengthService(LengthLadder(), model, shared=shared)
    try:
        trained = open_model(settings.length_model)
    except LengthArtifactError as error:
        raise SettingsError(f"scorpio.length_model: {error}") from None
    return LengthService(LengthLadder(trained), model, shared=shared)


def prompt_count(prompt: Any) -> int:
    """Tokens of an engine input as vLLM's handlers make it; 0 when it holds none."""
    ids = prompt.get("prompt_token_ids") if isinstance(prompt, dict) else None
    return len(ids) if ids is not None else 0
