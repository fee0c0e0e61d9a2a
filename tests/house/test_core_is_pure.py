"""Does scorpio.core import only what a pure function may need? By an allow-list."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import scorpio.core

_IMPURE = {
    "time", "datetime", "random", "secrets", "uuid", "os", "io", "pathlib", "shutil", "tempfile",
    "logging", "asyncio", "threading", "multiprocessing", "concurrent", "subprocess", "signal",
    "socket", "select",
}  # fmt: skip
_ALLOWED = (set(sys.stdlib_module_names) - _IMPURE) | {"numpy"}
_FILES = sorted(Path(scorpio.core.__file__).parent.rglob("*.py"))
_CALLS = {"open", "print", "input", "exec", "eval"}


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.name)
def test_imports_are_on_the_allow_list(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: relative import"
            names = [node.module or ""]
        for name in names:
            ours = name == "scorpio.core" or name.startswith("scorpio.core.")
            assert ours or name.split(".")[0] in _ALLOWED, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", _FILES, ids=lambda path: path.name)
def test_no_io_and_no_global_state(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, ast.Global), f"{path.name}:{node.lineno}: global"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in _CALLS, f"{path.name}:{node.lineno}: {node.func.id}()"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
            assert node.value.attr != "random", f"{path.name}:{node.lineno}: numpy.random"
