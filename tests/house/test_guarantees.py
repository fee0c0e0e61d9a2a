"""Is every guarantee in docs/guarantees.md tested, and does every citation of one resolve?"""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "guarantees.md"
# | 15 | `bounded-wait` | C | the promise | `tests/a/test_b.py::test_c`, ... |
ROW = re.compile(r"^\| (\d+) \| `([a-z0-9-]+)` \| [CON] \| (.+?) \| (.+?) \|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
CITED = re.compile(r"[Ii]nvariants? ((?:\d+(?:, | and )?)+)")


def _rows() -> list[tuple[int, str, str, str]]:
    return [(int(n), name, says, tests) for n, name, says, tests in ROW.findall(PAGE.read_text())]


@cache
def _functions(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


def test_numbers_and_names_are_unique_and_complete() -> None:
    rows = _rows()
    assert [number for number, *_ in rows] == list(range(1, len(rows) + 1))
    assert len({name for _, name, *_ in rows}) == len(rows)
    assert len(rows) >= 37


def test_each_guarantee_has_a_test_that_exists() -> None:
    for number, name, _, cell in _rows():
        tests = TEST.findall(cell)
        assert tests, f"{number} {name}: no test"
        for file, function in tests:
            path = ROOT / file
            assert path.exists(), f"{number} {name}: {file} does not exist"
            assert function in _functions(path), f"{number} {name}: no {function} in {file}"


def test_each_citation_resolves() -> None:
    known = {number for number, *_ in _rows()}
    files = [
        p
        for d in ("scorpio", "tests", "predictors", "workloads")
        for p in ROOT.glob(f"{d}/**/*.py")
    ]
    unknown = [
        f"{path.relative_to(ROOT)}: {number}"
        for path in files
        for found in CITED.findall(path.read_text())
        for number in re.findall(r"\d+", found)
        if int(number) not in known
    ]
    assert not unknown
