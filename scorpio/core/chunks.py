"""Where may a chunk of a prompt end? With Mamba layers and prefix caching: at a block's boundary.

vLLM keeps the state of such layers as it is at the ends of chunks, and what is kept must lie on a
boundary of blocks (`mamba_cache_mode` "align", vLLM's default with prefix caching). So it cuts a
chunk down to the last boundary in it, and where layers cannot keep what they had on their way once
more at the last boundary of the prompt. A chunk that reaches no boundary is computed as it is
while the whole step is shorter than a block; else it is cut down to nothing. A block may have
hundreds of tokens, and a plan asks for less.
"""

from __future__ import annotations


def chunk_in_blocks(
    start: int, left: int, most: int, beside: int, block: int, tail_apart: bool
) -> int:
    """Of a prompt that stands at `start` and has `left` tokens to go: how many does vLLM compute in
    a step that has room for `most` of them (one at least), beside so many other tokens?
    tail_apart: see `EngineLimits`."""
    end, whole = start + most, start + left
    stops = [(whole - 1) // block * block] if tail_apart else []
    if start % block:
        stops.append(_next_boundary(start, block))
    if end < whole:
        last = end // block * block
        if last > start:
            end = last
        elif beside + most >= block:
            return 0
    return min([stop for stop in stops if start < stop < end], default=end) - start


def rounded(start: int, left: int, most: int, beside: int, block: int, room: int) -> int:
    """What to give a chunk that vLLM would cut to nothing: as much as it can have in a step that is
    just shorter than a block, where that is no less than half of what was meant; else it goes
    to the boundary. room: the most that the engine could give it."""
    short = min(block - 1 - beside, room, left)
    up = min(_next_boundary(start, block) - start, left)
    if up > room or 2 * short >= most:
        return max(short, 0)
    return up


def _next_boundary(start: int, block: int) -> int:
    return (start // block + 1) * block
