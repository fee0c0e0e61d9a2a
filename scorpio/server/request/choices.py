"""How many answers does one body ask for?"""

from __future__ import annotations

import math
from collections.abc import Mapping

from scorpio.core.slo import SloError

_COUNTS = ("n", "best_of")
_BATCHES = ("prompt", "prompt_embeds", "messages")


def check_choices(body: Mapping[str, object], most: int) -> None:
    """Raises SloError naming `n` or `best_of` when it is above `most`."""
    for field, holder in _holders(body):
        if _count(holder.get(field)) > most:
            raise SloError(field, f"this server gives at most {most} choices")


def cannot_be_refused(body: Mapping[str, object]) -> bool:
    """True when a refusal could only be told in part, or not at all: several prompts, a batch of
    conversations and beam search are engine requests that know nothing of each other, `background`
    answers before it has run. (The choices of one prompt are refused together or not at all.)"""
    if body.get("use_beam_search") or body.get("background"):
        return True
    return any(_batch_size(body.get(name)) > 1 for name in _BATCHES)


def parts(body: Mapping[str, object]) -> int:
    """Engine requests that vLLM makes of a body whose choices were checked."""
    # JSON lets -Infinity through, which is no whole number; vLLM answers 400 to all below 1.
    counts = (int(max(_count(holder.get(field)), 1)) for field, holder in _holders(body))
    return max(counts) * max(_batch_size(body.get(name)) for name in _BATCHES)


def _batch_size(value: object) -> int:
    # A list of ints is one prompt of token ids; a list of objects is one conversation.
    is_batch = isinstance(value, list) and value and isinstance(value[0], (str, list))
    return len(value) if isinstance(value, list) and is_batch else 1


def _count(value: object) -> float:
    # vLLM's pydantic models also take "2" and 2.0.
    if not isinstance(value, (int, float, str)):
        return 1
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return 1
    return 1 if math.isnan(number) else number


def _holders(body: Mapping[str, object]) -> list[tuple[str, Mapping[str, object]]]:
    """Each count with the object it stands in: /inference/v1/generate has `sampling_params`."""
    params = body.get("sampling_params")
    places = [body, params] if isinstance(params, Mapping) else [body]
    return [(field, place) for place in places for field in _COUNTS]
