"""Which tests can notice a mutant at all? Those in which what it changes comes to another value.

One run of the tests answers it for all mutants: each place also computes what the mutant would say
there, on the largest expression around it that has no side effect, and notes that it differs. Up
to that moment the mutant and the code are the same program: a test in which it never comes cannot
kill.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.simulation.mutate.mutants import (
    SWAPS,
    Mutant,
    chain,
    change,
    function_around,
    parents_of,
)

_NAME = "__probes__"
_PURE = {
    "min", "max", "abs", "len", "sum", "int", "float", "round", "sorted", "bool", "any", "all",
    "tuple", "list", "set", "frozenset", "dict", "range", "isinstance", "getattr", "str", "get",
    "items", "values", "keys", "zip", "enumerate", "isfinite", "ceil", "floor", "log", "exp",
    "sqrt", "maximum", "minimum", "array", "cumsum", "zeros", "full", "where", "argsort", "dot",
}  # fmt: skip
_IMPURE = (ast.NamedExpr, ast.Await, ast.Yield, ast.YieldFrom, ast.Starred, ast.Lambda)
# Not values of their own.
_PARTS = (ast.comprehension, ast.keyword, ast.Slice, ast.FormattedValue)
_SCOPES = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class Probes:
    """What differed since `hits` was cleared."""

    def __init__(self) -> None:
        self.hits = set[str]()

    def hit(self, key: str) -> None:
        """It was reached."""
        self.hits.add(key)

    def value(self, key: str, value: Any, other: Callable[[], Any]) -> Any:
        """The value; noted when the mutant's is another."""
        if key not in self.hits:
            try:
                same = _same(value, other())
            except Exception:
                same = False
            if not same:
                self.hits.add(key)
        return value

    def pair(
        self, key: str, old: Callable[[Any, Any], Any], new: Callable[[Any, Any], Any],
        left: Any, right: Any,
    ) -> Any:  # fmt: skip
        """The same for an operator whose operands may be computed once only."""
        return self.value(key, old(left, right), lambda: new(left, right))


def _same(value: Any, other: Any) -> bool:
    if type(value) is not type(other):
        return False
    equal = value == other
    return bool(equal.all()) if hasattr(equal, "all") else bool(equal)


PROBES = Probes()


class _Insert(ast.NodeTransformer):
    """Wraps each expression that has probes; the innermost first."""

    def __init__(self, wraps: dict[ast.AST, list[Callable[[Any], ast.expr]]]) -> None:
        self._wraps = wraps

    def visit(self, node: ast.AST) -> Any:
        wraps = self._wraps.get(node, ())
        new: Any = super().visit(node)
        for wrap in wraps:
            new = wrap(new)
        return new


def instrumented(path: str, mutants: Sequence[Mutant]) -> ast.Module:
    """The file with a probe for each of these mutants."""
    source = Path(path).read_text()
    tree = ast.parse(source)
    nodes, parents = list(ast.walk(tree)), parents_of(tree)
    wraps = dict[ast.AST, list[Callable[[Any], ast.expr]]]()
    for mutant in mutants:
        up = chain(parents, nodes[mutant.index])
        if function_around(up) is not None:
            root, wrap = _probe(source, mutant, up, nodes)
            wraps.setdefault(root, []).append(wrap)
    return ast.fix_missing_locations(_Insert(wraps).visit(tree))


def _probe(
    source: str, mutant: Mutant, up: list[ast.AST], nodes: list[ast.AST]
) -> tuple[ast.AST, Callable[[Any], ast.expr]]:
    """Where the probe goes, and what it makes of the expression there."""
    node, key = up[0], ast.Constant(mutant.key)
    if isinstance(node, ast.Return):
        assert node.value is not None
        return node.value, lambda new: _call("value", key, new, _lambda("", ast.Constant(None)))
    if isinstance(node, ast.expr) and _pure(node):
        root = _largest_pure(up)
        copies = list(ast.walk(ast.parse(source)))
        there: Any = copies[nodes.index(root)]
        holder = ast.Expr(there)
        change(holder, copies[mutant.index])
        return root, lambda new: _call("value", key, new, _lambda("", holder.value))
    if isinstance(node, ast.BinOp) or (isinstance(node, ast.Compare) and len(node.ops) == 1):
        return node, lambda new: _pair(key, new)
    at: ast.AST = node
    if isinstance(node, ast.If | ast.While | ast.IfExp):
        at = node.test
    elif isinstance(node, ast.Expr | ast.AugAssign):
        at = node.value
    return at, lambda new: ast.BoolOp(ast.Or(), [_call("hit", key), new])


def _largest_pure(up: list[ast.AST]) -> ast.AST:
    best = up[0]
    for node in up:
        if isinstance(node, _PARTS) or _has_slice(node):
            continue
        if not isinstance(node, ast.expr) or not _pure(node):
            break
        if not isinstance(node, ast.GeneratorExp):
            best = node
    return best


def _has_slice(node: ast.AST) -> bool:
    return isinstance(node, ast.Tuple) and any(isinstance(n, ast.Slice) for n in node.elts)


def _pure(node: ast.AST) -> bool:
    scoped = any(isinstance(n, _SCOPES) for n in ast.walk(node))
    return not any(
        isinstance(n, _IMPURE)
        or (isinstance(n, ast.Call) and not _names(n.func) <= _PURE)
        or (isinstance(getattr(n, "ctx", None), ast.Store | ast.Del) and not scoped)
        for n in ast.walk(node)
    )  # fmt: skip


def _names(func: ast.expr) -> set[str]:
    if isinstance(func, ast.Name):
        return {func.id}
    if isinstance(func, ast.Attribute):
        return {func.attr}
    return {"?"}


def _pair(key: ast.expr, node: Any) -> ast.expr:
    left, right = ast.Name("_l", ast.Load()), ast.Name("_r", ast.Load())
    old: ast.expr
    new: ast.expr
    if isinstance(node, ast.Compare):
        op: Any = SWAPS[type(node.ops[0])]()
        old, new = ast.Compare(left, node.ops, [right]), ast.Compare(left, [op], [right])
        operands = (node.left, node.comparators[0])
    else:
        op = SWAPS[type(node.op)]()
        old, new = ast.BinOp(left, node.op, right), ast.BinOp(left, op, right)
        operands = (node.left, node.right)
    return _call("pair", key, _lambda("_l _r", old), _lambda("_l _r", new), *operands)


def _call(name: str, *arguments: ast.expr) -> ast.Call:
    func = ast.Attribute(ast.Name(_NAME, ast.Load()), name, ast.Load())
    return ast.Call(func, list(arguments), [])


def _lambda(names: str, body: ast.expr) -> ast.Lambda:
    arguments = [ast.arg(name) for name in names.split()]
    return ast.Lambda(
        ast.arguments(posonlyargs=[], args=arguments, kwonlyargs=[], kw_defaults=[], defaults=[]),
        body,
    )


class Finder:
    """Gives changed trees to the import of these modules; nothing is written to disk."""

    def __init__(self, trees: dict[str, ast.Module], paths: Iterable[str]) -> None:
        self._trees = trees
        self._paths = dict(zip(trees, paths, strict=True))

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        """Ours, or None: the next finder is asked."""
        import importlib.util

        if name not in self._trees:
            return None
        loader: Any = self
        at = Path(self._paths[name]).absolute()
        return importlib.util.spec_from_file_location(name, at, loader=loader)

    def create_module(self, spec: object) -> None:
        """As usual."""

    def exec_module(self, module: Any) -> None:
        """Run the changed tree."""
        vars(module)[_NAME] = PROBES
        exec(compile(self._trees[module.__name__], module.__file__, "exec"), vars(module))

    def install(self) -> None:
        """Before any of the modules is imported, or it would judge nothing."""
        late = [name for name in self._trees if name in sys.modules]
        assert not late, f"imported before they were changed: {late}"
        finder: Any = self
        sys.meta_path.insert(0, finder)
