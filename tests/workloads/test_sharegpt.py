"""Are ShareGPT files read up to where they were cut off, and filtered as the bench does?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workloads.errors import TraceError
from workloads.sharegpt import conversations, kept, lengths

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
