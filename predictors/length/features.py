"""What does a request look like to the length model? A sparse bag of n-grams and a dense row.

Deterministic and bounded: the same request gives the same numbers everywhere, and a prompt of a
megabyte costs what one of a kilobyte costs. VERSION changes with anything in here or in hashing.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from predictors.length.hashing import distinct, excerpt, ngram_buckets, text_hash
from predictors.length.request import LengthRequest
from scorpio.core.arrays import FloatArray, IntArray

VERSION: Final = 1

CUES: Final = (
    "write", "essay", "article", "blog", "story", "code", "function", "python", "sql", "list",
    "table", "explain", "summar", "translate", "rewrite", "paraphrase", "short", "brief",
    "detailed", "step by step", "one word", "one sentence", "yes or no", "only", "what is", "who",
    "why", "how", "difference", "examples", "ideas", "outline", "plan", "email", "letter", "title",
    "classify", "answer", "continue", "as many", "act as", "i want you", "you are", "just say",
    "can you", "help", "next", "wait", "prompt", "create", "generate", "html", "error", "script",
)  # fmt: skip
# digits, capitals, bytes of non-ASCII characters, white space
_KINDS = tuple(
    bytes(range(first, last)) for first, last in ((48, 58), (65, 91), (128, 256), (0, 33))
)
_MARKS = ("?", "!", ":", "\n", "```", "|", "{", '"', "- ", "1.")
_AMOUNT = re.compile(
    r"(\d{1,5})\s?-?(word|sentence|paragraph|line|page|char|token|bullet|item|point)"
)
_DIGIT = re.compile("[0-9]")
_NUMBER = re.compile(r"(?<![\d.])(\d{1,4})(?![\d.])")
_PER_UNIT = {"word": 1.3, "sentence": 25.0, "paragraph": 120.0, "line": 14.0, "page": 600.0,
             "char": 0.25, "token": 1.0, "bullet": 30.0, "item": 30.0, "point": 30.0}  # fmt: skip

DENSE_NAMES: Final = (
    "log_prompt_tokens", "log_chars", "log_words", "chars_per_token", "digit_share",
    "upper_share", "non_ascii_share", "space_share", "ends_with_question", "ends_with_colon",
    "ends_open", "starts_upper", "log_asked_tokens", "log_small_number", "log_max_tokens",
    "temperature", "log_turn", "log_system_chars",
    *(f"mark_{i}" for i in range(len(_MARKS))),
    *(f"cue_{i}" for i in range(len(CUES))),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Features:
    """buckets: distinct n-gram buckets, ascending; counts: how often each; dense: DENSE_NAMES."""

    buckets: IntArray
    counts: IntArray
    dense: FloatArray


@lru_cache(maxsize=1024)
def _fact(kind: str, value: str) -> int:
    return text_hash(f"{kind}:{value}")


def _facts(request: LengthRequest) -> tuple[int, ...]:
    named = (("model", request.model), ("tenant", request.tenant), ("system", request.system))
    return tuple(_fact(kind, value[:2048]) for kind, value in named if value)


def _asked_tokens(lowered: str) -> tuple[float, float]:
    """Tokens the prompt asks for in numbers, and the first small number in it (0 = none)."""
    if not _DIGIT.search(lowered):
        return 0.0, 0.0
    asked = _AMOUNT.search(lowered)
    number = _NUMBER.search(lowered)
    return (
        float(asked.group(1)) * _PER_UNIT[asked.group(2)] if asked else 0.0,
        float(number.group(1)) if number else 0.0,
    )


def extract(request: LengthRequest) -> Features:
    """All features of one request."""
    raw = excerpt(request.prompt)
    found, words = ngram_buckets(raw, _facts(request))
    buckets, counts = distinct(found)
    text = raw.decode("utf-8", errors="replace")
    lowered = text.lower()
    asked, number = _asked_tokens(lowered)
    size = max(len(raw), 1)
    last = text.rstrip()[-1:]
    log1p = math.log1p
    values = [
        log1p(request.prompt_tokens),
        log1p(len(request.prompt)),
        log1p(words),
        min(len(request.prompt) / max(request.prompt_tokens, 1), 16.0),
        *(1.0 - len(raw.translate(None, kind)) / size for kind in _KINDS),
        last == "?",
        last == ":",
        last.isalnum(),
        text[:1].isupper(),
        log1p(asked),
        log1p(number),
        log1p(request.max_tokens),
        min(request.temperature, 10.0),
        math.log(request.turn),
        log1p(len(request.system)),
    ]
    values += [log1p(text.count(mark)) for mark in _MARKS]
    values += [cue in lowered for cue in CUES]
    return Features(buckets, counts, np.array(values, dtype=np.float64))
