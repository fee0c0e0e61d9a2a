"""Does the tree keep the sizes it promises? No file over 300 lines, no function over 60."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_LINES, MOST_IN_A_FUNCTION = 300, 60
PRODUCT = ("scorpio", "predictors", "workloads")
FILES = sorted(
    str(p.relative_to(ROOT)) for top in (*PRODUCT, "tests") for p in (ROOT / top).rglob("*.py")
)


@pytest.mark.parametrize("path", FILES)
def test_files_and_functions_are_short(path: str) -> None:
    text = (ROOT / path).read_text()
    assert len(text.splitlines()) <= MOST_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= MOST_IN_A_FUNCTION, node.name


@pytest.mark.parametrize("path", [p for p in FILES if (ROOT / p).stat().st_size])
def test_modules_say_what_they_are_for(path: str) -> None:
    told = ast.get_docstring(ast.parse((ROOT / path).read_text()))
    assert told
    if not path.startswith("tests/") and Path(path).name not in ("__init__.py", "__main__.py"):
        assert "?" in told, "a module opens with the question it answers"
