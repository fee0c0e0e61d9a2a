"""Would the tests notice if a line of core or engine were another one? Mutants, one at a time.

    python -m tests.simulation.mutate --sample 600 --seed 1      # goes on where the record ends
    python -m tests.simulation.mutate --report

A mutant is a file with one small change (`<` to `<=`, a constant plus one, a condition negated, a
statement dropped), drawn from all possible ones by the seed. It is judged by the unit tests of its
module, the conformance suite and a few seeds of the simulation, in that order, in a process of its
own that is forked once vLLM is loaded. The record is JSON lines; survivors are listed.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import json
import os
import random
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RECORD = Path("out/simulation/mutants.jsonl")
PACKAGES = ("scorpio/core", "scorpio/engine")
# A mutant that loops for ever is killed, too: by processor time, or it hangs.
_CPU_LIMIT_S, _LIMIT_S = 300, 1500
_PYTEST = ("-x", "-q", "-p", "no:cacheprovider", "-m", "not engine",
           "-W", "ignore::pytest.PytestAssertRewriteWarning")  # fmt: skip
_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.And: ast.Or,
    ast.Or: ast.And,
}  # fmt: skip


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


def mutants(path: Path) -> Iterator[Mutant]:
    """All that a file has."""
    tree = ast.parse(path.read_text())
    for index, node in enumerate(ast.walk(tree)):
        line = getattr(node, "lineno", 0)
        if change := _change(node):
            yield Mutant(str(path), line, index, change)


def _change(node: ast.AST) -> str:
    if isinstance(node, ast.Compare | ast.BinOp | ast.BoolOp | ast.AugAssign):
        old = node.ops[0] if isinstance(node, ast.Compare) else node.op
        new = _SWAPS.get(type(old))
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


def mutate(mutant: Mutant) -> str:
    """The changed source."""
    tree = ast.parse(Path(mutant.path).read_text())
    node: Any = list(ast.walk(tree))[mutant.index]
    kind = type(node)
    if kind is ast.Compare:
        node.ops[0] = _SWAPS[type(node.ops[0])]()
    elif kind in (ast.BinOp, ast.BoolOp, ast.AugAssign):
        node.op = _SWAPS[type(node.op)]()
    elif kind in (ast.If, ast.While, ast.IfExp):
        node.test = ast.UnaryOp(ast.Not(), node.test)
    elif kind is ast.UnaryOp:
        _becomes(tree, node, node.operand)
    elif kind is ast.Constant:
        node.value = not node.value if type(node.value) is bool else node.value + 1
    else:
        node.value = ast.Constant(None)
    return ast.unparse(ast.fix_missing_locations(tree))


def _becomes(tree: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, field, new)
            elif isinstance(value, list):
                value[:] = [new if item is old else item for item in value]


def sample(seed: int, count: int) -> list[Mutant]:
    """The same ones for the same seed and tree."""
    found = [m for package in PACKAGES for path in sorted(Path(package).rglob("*.py"))
             for m in mutants(path)]  # fmt: skip
    return random.Random(seed).sample(found, min(count, len(found)))


# -- judging -------------------------------------------------------------------------------------


def judge(mutant: Mutant) -> str:
    """What killed it; "" = it survived."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        signal.alarm(_LIMIT_S)
        resource.setrlimit(resource.RLIMIT_CPU, (_CPU_LIMIT_S, _CPU_LIMIT_S))
        verdict = _judge_here(mutant)
        os.write(writer, verdict.encode()[:1000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answers:
        verdict = answers.read()
    _, status = os.waitpid(child, 0)
    return verdict if status == 0 else "it did not end"


def _judge_here(mutant: Mutant) -> str:
    try:
        _import_mutated(mutant)
        return _tests(mutant) or _simulation()
    except BaseException as error:
        return f"{type(error).__name__}: {error}"


class _Finder:
    """Gives the mutated source to the one module; nothing is written to the tree."""

    def __init__(self, module: str, path: str, source: str) -> None:
        self._module, self._path, self._source = module, path, source

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        import importlib.util

        if name != self._module:
            return None
        loader: Any = self
        return importlib.util.spec_from_loader(name, loader, origin=self._path)

    def create_module(self, spec: object) -> None:
        return None

    def exec_module(self, module: object) -> None:
        exec(compile(self._source, self._path, "exec"), vars(module))


def _import_mutated(mutant: Mutant) -> None:
    finder: Any = _Finder(mutant.module, mutant.path, mutate(mutant))
    sys.meta_path.insert(0, finder)


def _tests(mutant: Mutant) -> str:
    """Its own unit tests first, then all of its package and the conformance suite."""
    import pytest

    package = mutant.path.split("/")[1]
    own = Path("tests") / package / f"test_{Path(mutant.path).stem}.py"
    quick = ["tests/conformance", f"tests/{package}"]
    for paths in ([str(own)] if own.exists() else [], quick):
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = pytest.main([*_PYTEST, *paths]) if paths else 0
        if code != 0:
            lines = [x for x in said.getvalue().splitlines() if x.startswith(("FAILED", "ERROR"))]
            return lines[0] if lines else f"pytest ended with {code}"
    return ""


def _simulation() -> str:
    from tests.simulation.case import Case, run_case
    from tests.simulation.pool import quiet

    quiet()
    for seed in range(12):
        if violation := run_case(Case(seed)).violation:
            return f"simulation, seed {seed}: {violation}"
    return ""


# -- the record ----------------------------------------------------------------------------------


def main(arguments: list[str]) -> int:
    """Judge the sample, going on where the record ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutate")
    parser.add_argument("--sample", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at-most", type=int, default=1 << 30, help="mutants in this run")
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--report", action="store_true")
    args = parser.parse_args(arguments)
    done = _read(args.record)
    if not args.report:
        wanted = [m for m in sample(args.seed, args.sample) if _key(asdict(m)) not in done]
        _preload()
        for mutant in wanted[: args.at_most]:
            started = time.monotonic()
            verdict = judge(mutant)
            row = {**asdict(mutant), "killed_by": verdict, "took_s": time.monotonic() - started}
            args.record.parent.mkdir(parents=True, exist_ok=True)
            with args.record.open("a") as file:
                file.write(json.dumps(row) + "\n")
            done[_key(row)] = row
            print(
                f"{mutant.path}:{mutant.line} {mutant.change}: {verdict or 'SURVIVED'}", flush=True
            )
    print(report(list(done.values())))
    return 0


def report(rows: list[dict[str, object]]) -> str:
    """Kill rate by package, and who survived."""
    total, killed = Counter[str](), Counter[str]()
    for row in rows:
        package = "/".join(str(row["path"]).split("/")[:2])
        total[package] += 1
        killed[package] += bool(row["killed_by"])
    lines = [
        f"{p}: {killed[p]} of {n} killed ({100 * killed[p] / n:.1f} %)" for p, n in total.items()
    ]
    alive = [r for r in rows if not r["killed_by"]]
    return "\n".join([*lines, *(f"survived: {r['path']}:{r['line']} {r['change']}" for r in alive)])


def _read(path: Path) -> dict[str, dict[str, object]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {_key(row): row for row in rows}


def _key(row: dict[str, object]) -> str:
    return f"{row['path']}:{row['index']}:{row['change']}"


def _preload() -> None:
    """What takes long to import and is not ours: every mutant's process starts with it."""
    import hypothesis  # noqa: F401
    import pytest  # noqa: F401
    import vllm.v1.core.sched.async_scheduler
    import vllm.v1.structured_output  # noqa: F401


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
