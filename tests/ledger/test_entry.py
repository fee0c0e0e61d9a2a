"""Is a line read back as what was written, and is a bad one told from a good one?"""

from __future__ import annotations

import json
from typing import Any

import pytest

from scorpio.ledger.entry import entry_of
from tests.ledger.made import entry, refused


@pytest.mark.parametrize("made", [entry(), refused(), entry(missed=("ttft", "e2e"), blocks=())])
def test_a_line_is_read_back(made: Any) -> None:
    line = made.to_line()
    assert line.endswith("}\n")
    assert line.count("\n") == 1
    assert entry_of(line) == made
    assert entry_of(line.replace('{"id"', '{"later":1,"id"')) == made


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("id", 7),
        ("id", None),
        ("prompt_tokens", "7"),
        ("prompt_tokens", True),
        ("prompt_tokens", 1.5),
        ("arrived_unix_s", "now"),
        ("arrived_unix_s", 1e999),
        ("slo_ttft_ms", "500"),
        ("blocks", ["a"]),
        ("blocks", [True]),
        ("missed", "ttft"),
    ],
)
def test_another_kind_of_value_is_no_line(key: str, value: Any) -> None:
    raw = json.loads(entry().to_line()) | {key: value}
    with pytest.raises(ValueError, match=key):
        entry_of(json.dumps(raw))
    del raw[key]
    if key != "slo_ttft_ms":  # None and absent say the same
        with pytest.raises(ValueError, match=key):
            entry_of(json.dumps(raw))


@pytest.mark.parametrize("line", ["", "[]", "7", "{}", '{"half', "null"])
def test_what_is_no_object_is_no_line(line: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        entry_of(line)
