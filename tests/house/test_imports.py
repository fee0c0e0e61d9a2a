"""Can each module be read alone? No import circle, and no private name of another module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PRODUCT = ("scorpio", "predictors", "workloads")
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for top in PRODUCT
    for path in sorted((ROOT / top).rglob("*.py"))
}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def imported(module: str) -> Iterator[tuple[str, str]]:
    """(module, name) of each of our own names that a module takes, wherever it does."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PRODUCT:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield (whole, "") if whole in MODULES else (node.module or "", alias.name)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name in MODULES)


def test_no_circle() -> None:
    arrows = {module: {other for other, _ in imported(module)} for module in MODULES}
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        pytest.fail(f"import circle: {' <- '.join(error.args[1])}")


@pytest.mark.parametrize("module", MODULES)
def test_no_private_name_of_another_module(module: str) -> None:
    taken = list(imported(module))
    private = [f"{other}.{name}" for other, name in taken if name.startswith("_")]
    private += [other for other, _ in taken if other.rpartition(".")[2].startswith("_")]
    modules = {other.rpartition(".")[2] for other, name in taken if not name}
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            where, name = node.value.id, node.attr
            private += [f"{where}.{name}"] if where in modules and name.startswith("_") else []
    assert not [name for name in private if "__" not in name]
