"""What does a prompt share with others? For each 512 tokens a salted hash of all up to there.

vLLM has the hashes already: a chain, each of a block and of all before it. Every 512 tokens one of
them is taken (Mooncake's granularity, in which traces are written), and the last one for the part
that is left: with the prompt's length in it, so that it is shared with equal prompts only. They are
hashed again with the ledger's salt: vLLM's start from a fixed seed, so of those a guessed prompt
could be tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

SHARED_TOKENS = 512
MOST_BLOCKS = 256  # of one prompt: 131,072 tokens
Picked = tuple[tuple[int, bytes], ...]  # (tokens up to there, vLLM's hash of them)


def picked(hashes: Sequence[Any], prompt_tokens: int, block_tokens: int) -> Picked:
    """Those to keep of a request's block hashes; none where prefix caching is off."""
    known = min(len(hashes), prompt_tokens // block_tokens)
    found: list[tuple[int, bytes]] = []
    for tokens in range(SHARED_TOKENS, prompt_tokens + 1, SHARED_TOKENS):
        row = -(-tokens // block_tokens) - 1
        if row >= known or len(found) == MOST_BLOCKS:
            break
        found.append((tokens, bytes(hashes[row])))
    named = len(found) * SHARED_TOKENS
    is_rest = len(found) < MOST_BLOCKS and prompt_tokens - named < SHARED_TOKENS
    if is_rest and known * block_tokens > named:  # less than one block is hashed nowhere
        found.append((prompt_tokens, bytes(hashes[known - 1])))
    return tuple(found)


def salted(blocks: Picked, salt: bytes) -> tuple[int, ...]:
    """The names that the ledger has for them: numbers below 2^52, which any JSON reader keeps."""
    return tuple(
        int.from_bytes(blake2b(tokens.to_bytes(8) + name, digest_size=7, key=salt).digest()) >> 4
        for tokens, name in blocks
    )
