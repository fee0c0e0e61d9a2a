"""How could a line of core or engine be another one? All small changes, and a sample by seed.

A mutant is a file with one small change: `<` to `<=`, a constant plus one, a condition negated, a
call dropped.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

PACKAGES = ("scorpio/core", "scorpio/engine")
SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.And: ast.Or,
    ast.Or: ast.And,
}  # fmt: skip
DEFS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A change of one node: the `index`-th of `ast.walk` in `path`."""

    path: str
    line: int
    index: int
    change: str

    @property
    def module(self) -> str:
        """As it is imported."""
        return self.path.removesuffix(".py").replace("/", ".")

    @property
    def key(self) -> str:
        """Tells it from all others of the same tree."""
        return f"{self.path}:{self.index}:{self.change}"


def mutants(path: Path) -> Iterator[Mutant]:
    """All that a file has."""
    tree = ast.parse(path.read_text())
    for index, node in enumerate(ast.walk(tree)):
        line = getattr(node, "lineno", 0)
        if change := _change(node):
            yield Mutant(str(path), line, index, change)


def sample(seed: int, count: int) -> list[Mutant]:
    """The same ones for the same seed and tree."""
    found = [m for package in PACKAGES for path in sorted(Path(package).rglob("*.py"))
             for m in mutants(path)]  # fmt: skip
    return random.Random(seed).sample(found, min(count, len(found)))


def _change(node: ast.AST) -> str:
    if isinstance(node, ast.Compare | ast.BinOp | ast.BoolOp | ast.AugAssign):
        old = node.ops[0] if isinstance(node, ast.Compare) else node.op
        new = SWAPS.get(type(old))
        return f"{type(old).__name__} -> {new.__name__}" if new is not None else ""
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        return "condition negated"
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return "not dropped"
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return f"{node.value!r} -> one more"
    if isinstance(node, ast.Constant) and type(node.value) is bool:
        return f"{node.value} -> {not node.value}"
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        return "call dropped"
    if isinstance(node, ast.Return) and node.value is not None:
        return "None returned"
    return ""


def mutated(mutant: Mutant) -> ast.Module:
    """The changed file."""
    tree = ast.parse(_source(mutant.path))
    change(tree, list(ast.walk(tree))[mutant.index])
    return ast.fix_missing_locations(tree)


def change(tree: ast.AST, node: Any) -> None:
    """Change the node where it stands."""
    kind = type(node)
    if kind is ast.Compare:
        node.ops[0] = SWAPS[type(node.ops[0])]()
    elif kind in (ast.BinOp, ast.BoolOp, ast.AugAssign):
        node.op = SWAPS[type(node.op)]()
    elif kind in (ast.If, ast.While, ast.IfExp):
        node.test = ast.UnaryOp(ast.Not(), node.test)
    elif kind is ast.UnaryOp:
        _becomes(tree, node, node.operand)
    elif kind is ast.Constant:
        node.value = not node.value if type(node.value) is bool else node.value + 1
    else:
        node.value = ast.Constant(None)


def _becomes(tree: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, field, new)
            elif isinstance(value, list):
                value[:] = [new if item is old else item for item in value]


@lru_cache(maxsize=128)
def _source(path: str) -> str:
    return Path(path).read_text()


def parents_of(tree: ast.AST) -> dict[ast.AST, ast.AST]:
    """Each node's parent. (`ast` shares one `Load` among all names: those have several.)"""
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def chain(parents: dict[ast.AST, ast.AST], node: ast.AST) -> list[ast.AST]:
    """The node, its parent, and so on up to the module."""
    found = [node]
    while found[-1] in parents:
        found.append(parents[found[-1]])
    return found


def function_around(up: list[ast.AST]) -> ast.AST | None:
    """The outermost function whose BODY has the node; None: it is run by the import."""
    around = None
    for child, node in pairwise(up):
        if isinstance(node, DEFS) and child in node.body:
            around = node
    return around


def place(mutant: Mutant) -> tuple[str, str]:
    """Where it is and what it changes, in words that stay when lines move."""
    tree = ast.parse(_source(mutant.path))
    node = list(ast.walk(tree))[mutant.index]
    up = chain(parents_of(tree), node)
    where = ".".join(n.name for n in reversed(up) if isinstance(n, (*DEFS, ast.ClassDef)))
    statement = next(n for n in up if isinstance(n, ast.stmt))
    return where, ast.unparse(statement).splitlines()[0]
