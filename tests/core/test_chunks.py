"""Where does vLLM end a chunk of a prompt, and what is it given instead of nothing?"""

from __future__ import annotations

import pytest

from scorpio.core.chunks import chunk_in_blocks, rounded


@pytest.mark.parametrize(
    ("start", "left", "most", "beside", "apart", "part"),
    [
        (0, 1000, 300, 0, True, 256),  # down to a boundary of 64
        (0, 1000, 50, 0, True, 50),  # the whole step is shorter than a block
        (0, 1000, 50, 13, True, 50),
        (0, 1000, 50, 14, True, 0),
        (0, 1000, 1000, 0, True, 960),  # the rest of a prompt is a chunk of its own,
        (0, 1000, 1000, 0, False, 1000),  # or not
        (960, 40, 40, 30, True, 40),  # the end of a prompt needs no boundary
        (0, 64, 64, 0, True, 64),
        (10, 1000, 500, 0, False, 54),  # from the middle of a block to its end
        (10, 1000, 53, 20, False, 0),
        (10, 30, 30, 60, False, 30),
    ],
)
def test_chunk(start: int, left: int, most: int, beside: int, apart: bool, part: int) -> None:
    assert chunk_in_blocks(start, left, most, beside, 64, apart) == part


@pytest.mark.parametrize(
    ("start", "left", "most", "beside", "room", "given"),
    [
        (0, 1000, 50, 20, 500, 43),  # a step just shorter than a block has nearly as much
        (0, 1000, 50, 60, 500, 64),  # less than half: to the boundary
        (30, 1000, 20, 62, 500, 34),
        (0, 1000, 50, 60, 60, 3),  # the engine has no room for more
        (0, 1000, 50, 70, 60, 0),
        (30, 10, 5, 70, 500, 10),  # to the end of the prompt
    ],
)
def test_rounded(start: int, left: int, most: int, beside: int, room: int, given: int) -> None:
    assert rounded(start, left, most, beside, 64, room) == given
