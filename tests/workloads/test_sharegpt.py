"""Are ShareGPT files read up to where they were cut off, and filtered as the bench does?"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from workloads.errors import TraceError
from workloads.traces.sharegpt import conversations, kept, lengths

ITEMS = [
    {
        "id": "a_0",
        "conversations": [
            {"from": "human", "value": "w " * 5},
            {"from": "gpt", "value": "w " * 9},
        ],
    },
    {"id": "b_0", "conversations": [{"from": "human", "value": "alone"}]},
    {"id": "c_0", "conversations": []},
    {
        "id": "d_0",
        "conversations": [{"from": "human", "value": "w w"}, {"from": "gpt", "value": "w " * 9}],
    },
]


def test_lengths_of_what_passes(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text(json.dumps(ITEMS, indent=1))
    assert lengths(path, lambda text: len(text.split())) == [(5, 9)]
    assert len(list(conversations(path))) == 2


@pytest.mark.parametrize(
    "turns",
    [
        [("human", "w w"), ("gpt", "a a")],
        [("system", "be brief"), ("human", "w w"), ("gpt", "a a"), ("human", "x"), ("gpt", "y")],
        [("gpt", "carried over"), ("human", "w w"), ("gpt", "a a")],
        [("human", "unanswered"), ("human", "w w"), ("gpt", "a a")],
        [("user", "w w"), ("assistant", "a a")],
    ],
)
@pytest.mark.parametrize(
    "keys", [("conversations", "from", "value"), ("messages", "role", "content")]
)
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_turns_are_told_by_their_roles(
    tmp_path: Path,
    turns: list[tuple[str, str]],
    keys: tuple[str, str, str],
    start: bytes,
    pack: Callable[[bytes], bytes],
) -> None:
    listed, role, text = keys
    item = {"id": "x", listed: [{role: who, text: words} for who, words in turns]}
    path = tmp_path / "s.json"
    path.write_bytes(pack(start + json.dumps([item]).encode()))
    assert list(conversations(path)) == [("w w", "a a")]


def test_a_file_cut_off_is_read_up_to_there(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_text(json.dumps(ITEMS)[:-20])
    assert len(list(conversations(path))) == 1


@pytest.mark.parametrize("text", ["", "{}", "no list", "[", "[" * 100_000])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(text)
    with pytest.raises(TraceError, match="JSON list of conversations"):
        list(conversations(path))


@pytest.mark.parametrize(
    ("prompt", "output", "passes"),
    [
        (4, 4, True),
        (3, 9, False),
        (9, 3, False),
        (1024, 1024, True),
        (1025, 4, False),
        (1024, 1025, False),
    ],
)
def test_the_filter(prompt: int, output: int, passes: bool) -> None:
    assert kept(prompt, output) is passes
