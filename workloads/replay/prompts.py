"""Which text stands behind a length? Prompts of an exact token count that share what they should.

Each block is drawn from (seed, its hash id): equal ids give equal blocks, so rows that
share ids share a prefix in the engine's cache, and nothing else is shared by accident. Give every
run against one live server its own `seed`: else the second run finds the first one's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sized
from typing import Protocol

import numpy as np

from workloads.errors import WorkloadError

LOWEST_ID = 100  # control tokens usually have the first ids
_OWN_BLOCK = 1  # stream of blocks that no hash id names
_NAMED_BLOCK = 0
_ATTEMPTS = 64
_FILLER = " a"
# Short common words: one token each, with their space, in most vocabularies.
_WORD_TEXT = (
    "time year people way day man thing woman life child world school state family student "
    "group country problem hand part place case week company system program question work "
    "government number night point home water room mother area money story fact month lot "
    "right study book eye job word business issue side kind head house service friend father "
    "power hour game line end member law car city community name president team minute idea "
    "body information back parent face others level office door health person art war history "
    "party result change morning reason research girl guy moment air teacher force education "
)
_WORDS = tuple(_WORD_TEXT.split())


class Prompted(Protocol):
    """What of a request decides its prompt."""

    @property
    def index(self) -> int: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def hash_ids(self) -> tuple[int, ...]: ...
    @property
    def block_tokens(self) -> int: ...


def prompt_token_ids(
    request: Prompted,
    vocab_size: int,
    seed: int,
    *,
    low: int = LOWEST_ID,
    high: int | None = None,
) -> list[int]:
    """Exactly `request.prompt_tokens` token ids in [low, high), for a token-id prompt.

    Vocabularies keep special tokens at either end: by default the first 100 ids and the last
    3 % are left out.
    """
    high = vocab_size - vocab_size * 3 // 100 if high is None else high
    if not 0 <= low < high <= vocab_size:
        raise WorkloadError(f"token ids need 0 <= low < high <= {vocab_size}, got {low}..{high}")
    blocks = [
        rng.integers(low, high, request.block_tokens)[:tokens]
        for rng, tokens in _blocks(request, seed)
    ]
    ids: list[int] = np.concatenate(blocks).tolist()
    return ids


def prompt_text(request: Prompted, encode: Callable[[str], Sized], seed: int) -> str:
    """Plain words that `encode` (adding no special tokens) turns into exactly that many tokens.

    Raises:
        WorkloadError: the tokenizer cannot make that length from words (tiny test vocabularies).
    """
    parts: list[str] = []
    words: list[str] = []
    for rng, tokens in _blocks(request, seed):
        words = rng.choice(_WORDS, request.block_tokens)[:tokens].tolist()
        parts.append(_fitted("", words, tokens, encode))
    text = "".join(parts)
    if len(encode(text)) == request.prompt_tokens:
        return text
    # A tokenizer that counts across the seams, or adds a space in front: the last block gives way.
    return _fitted("".join(parts[:-1]), words, request.prompt_tokens, encode)


def _fitted(text: str, words: list[str], target: int, encode: Callable[[str], Sized]) -> str:
    """Lengthen `text` by words, less some or plus fillers, until it has `target` tokens."""
    fillers = 0
    for _ in range(_ATTEMPTS):
        candidate = text + "".join(f" {word}" for word in words) + _FILLER * fillers
        over = len(encode(candidate)) - target
        if over == 0:
            return candidate
        if over < 0:
            fillers -= over
        elif fillers:
            fillers = max(0, fillers - over)
        else:
            words = words[: max(0, len(words) - max(1, over // 2))]
    raise WorkloadError(f"no text of exactly {target} tokens with this tokenizer; use token ids")


def _blocks(request: Prompted, seed: int) -> Iterator[tuple[np.random.Generator, int]]:
    """Yield (generator, tokens) of each block, the last one partial; unnamed ones are unique."""
    size = request.block_tokens
    for block, start in enumerate(range(0, request.prompt_tokens, size)):
        if block < len(request.hash_ids):
            key = [seed, _NAMED_BLOCK, request.hash_ids[block]]
        else:
            key = [seed, _OWN_BLOCK, request.index, block]
        yield np.random.default_rng(key), min(size, request.prompt_tokens - start)
