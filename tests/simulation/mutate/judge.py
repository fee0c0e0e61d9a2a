"""Does a test fail when a line is another one? Mutants, one at a time, each in a forked process.

All tests are imported once. A mutant inside a function takes the place of that function's code in
the child; one that the import runs (a default, a decorator) needs a child that imports all anew.
"""

from __future__ import annotations

import ast
import gc
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType

import pytest

from tests.simulation.mutate.mutants import Mutant, chain, function_around, mutated, parents_of
from tests.simulation.mutate.probes import Finder
from tests.simulation.mutate.reach import ARGUMENTS, IMPORT, SEEDS, TESTS, Reach, order, run_seed

# A mutant that loops for ever is killed, too: by processor time, or it hangs, or it fills memory.
_SPARE_CPU_S, _LIMIT_S, _SPARE_BYTES = 4.0, 2400, 4 << 30


# With these a function may need one variable less of those around it: its code does not fit then.
_DROPS = ("call dropped", "None returned")


# They ask all modules at once.
_GENERAL = ("tests/conformance/test_values.py", "tests/core/test_options.py")


Say = Callable[[str], None]
# What killed it, "" = nothing did, and how long that took.
Done = Callable[[Mutant, str, float], None]


def tests_of(mutant: Mutant, reach: dict[str, Reach], fresh: bool) -> list[Reach]:
    """Those that can kill it, in the order in which they are asked. fresh: see `at_import`."""
    asked = (r for r in reach.values() if r.test != IMPORT)
    return order(mutant, (r for r in asked if fresh or mutant.key in r.hits))


def at_import(mutant: Mutant, reach: dict[str, Reach]) -> bool:
    """Run by an import, so that its tests cannot be told apart."""
    tree = ast.parse(Path(mutant.path).read_text())
    up = chain(parents_of(tree), list(ast.walk(tree))[mutant.index])
    if mutant.key in reach[IMPORT].hits or function_around(up) is None:
        return True
    if mutant.change not in _DROPS:
        return False
    old, new = _codes(compile(tree, mutant.path, "exec")), _codes(_compiled(mutant))
    return {k: c.co_freevars for k, c in old.items()} != {k: c.co_freevars for k, c in new.items()}


def within(tests: Sequence[Reach], budget_s: float) -> list[Reach]:
    """As many as the budget pays for; at least one."""
    spent, found = 0.0, list[Reach]()
    for test in tests:
        spent += test.cpu_s
        if found and spent > budget_s:
            break
        found.append(test)
    return found


# -- the two ways --------------------------------------------------------------------------------


def judge_imported(mutant: Mutant, tests: list[Reach], done: Done) -> None:
    """In a child that imports everything itself: first the files that name the module."""
    started = time.monotonic()
    named = [t for t in tests if "::" in t.test and _names(t.test, mutant)]
    general = [t for t in tests if t not in named and t.test.startswith(_GENERAL)]
    rest = [t for t in tests if t not in named and t not in general]

    def child(say: Say) -> None:
        Finder({mutant.module: mutated(mutant)}, [mutant.path]).install()
        for part in (named, general, rest):
            if part:
                runner = _Runner(part, say)
                files = sorted({t.test.split("::")[0] for t in part if "::" in t.test})
                code = pytest.main([*ARGUMENTS, *(files or TESTS)], plugins=[runner])
                if code != 0:
                    say(f"pytest ended with {code!r}")
                    return
        say("")

    done(mutant, _forked(child), time.monotonic() - started)


def _names(test: str, mutant: Mutant) -> bool:
    stem, text = Path(mutant.path).stem, Path(test.split("::")[0]).read_text()
    return mutant.module in text or f"test_{stem}" in test or f"import {stem}" in text


def judge_in_place(mutants: Sequence[tuple[Mutant, list[Reach]]], done: Done) -> None:
    """Each in a child of this process, which imports all tests first."""
    if mutants:
        pytest.main([*ARGUMENTS, *TESTS], plugins=[_Loop(mutants, done)])


class _Loop:
    """As a plug-in of pytest: once all tests are imported, judge these mutants instead."""

    def __init__(self, mutants: Sequence[tuple[Mutant, list[Reach]]], done: Done) -> None:
        self._mutants, self._done = mutants, done

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """All of them."""
        items = {item.nodeid: item for item in session.items}
        _warm()
        functions = _functions()
        gc.freeze()  # shared with the children
        for mutant, tests in self._mutants:
            started = time.monotonic()
            verdict = _forked(partial(_in_place, mutant, tests, items, functions))
            self._done(mutant, verdict, time.monotonic() - started)
        return True


def _in_place(
    mutant: Mutant,
    tests: list[Reach],
    items: dict[str, pytest.Item],
    functions: dict[str, list[FunctionType]],
    say: Say,
) -> None:
    _swap(mutant, functions)
    chosen = [t for t in tests if t.test in items or t.test.startswith("seed")]
    say(_run(chosen, items, say))


def _warm() -> None:
    """vLLM's configurations take a second each: once for all children."""
    from scorpio.engine.virtual.build import EngineSpec, _vllm_config
    from tests.simulation.swarm import draw

    modules = [m for name, m in list(sys.modules.items()) if name.startswith("tests.")]
    specs = {v for module in modules for v in vars(module).values() if isinstance(v, EngineSpec)}
    for spec in [*specs, *(draw(seed).spec for seed in SEEDS)]:
        _vllm_config(spec)


def _functions() -> dict[str, list[FunctionType]]:
    """All functions of core and engine, by file."""
    root, found = str(Path("scorpio").absolute()), dict[str, list[FunctionType]]()
    for function in gc.get_objects():
        if isinstance(function, FunctionType) and function.__code__.co_filename.startswith(root):
            found.setdefault(function.__code__.co_filename, []).append(function)
    return found


def _swap(mutant: Mutant, functions: dict[str, list[FunctionType]]) -> None:
    """The mutant's code for that of every function of its file."""
    if mutant.path == "scorpio/engine/virtual/build.py":
        from scorpio.engine.virtual.build import _vllm_config

        _vllm_config.cache_clear()
    codes = _codes(_compiled(mutant))
    for function in functions.get(str(Path(mutant.path).absolute()), ()):
        code = codes.get((function.__code__.co_qualname, function.__code__.co_firstlineno))
        if code is not None:
            function.__code__ = code


def _compiled(mutant: Mutant) -> CodeType:
    return compile(mutated(mutant), str(Path(mutant.path).absolute()), "exec")


def _codes(code: CodeType) -> dict[tuple[str, int], CodeType]:
    found = {}
    for inner in _walk(code):
        if not inner.co_name.startswith("<"):
            found[inner.co_qualname, inner.co_firstlineno] = inner
    return found


def _walk(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _walk(constant)


# -- in the child --------------------------------------------------------------------------------


class _Runner:
    """As a plug-in of pytest: run these tests in this order and no others."""

    def __init__(self, tests: list[Reach], say: Say) -> None:
        self._tests, self._say = tests, say

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Until one fails: then the child has ended."""
        if session.testsfailed:
            self._say("tests cannot be imported")
        killer = _run(self._tests, {item.nodeid: item for item in session.items}, self._say)
        if killer:
            self._say(killer)
        return True


def _run(tests: list[Reach], items: dict[str, pytest.Item], say: Say) -> str:
    """What kills it; "" = nothing does. Tests that are not collected here are left out."""
    chosen = [items.get(t.test) for t in tests]
    for index, (test, item) in enumerate(zip(tests, chosen, strict=True)):
        signal.signal(signal.SIGPROF, lambda *_, t=test: say(f"{t.test} did not end"))
        signal.setitimer(signal.ITIMER_PROF, _SPARE_CPU_S + 10 * test.cpu_s)
        if item is not None:
            following = next((i for i in chosen[index + 1 :] if i is not None), None)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if item.session.testsfailed:
                return test.test
        elif test.test.startswith("seed"):
            try:
                violation = run_seed(int(test.test.split()[1]))
            except Exception as error:
                violation = f"{type(error).__name__}: {error}"
            if violation:
                return f"{test.test}: {violation[:200]}"
    return ""


def _forked(child: Callable[[Say], None]) -> str:
    """What the child says first; nothing: it died, and with it the mutant."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        _child(child, writer)
    os.close(writer)
    with os.fdopen(reader) as answers:
        said = answers.read()
    _, status = os.waitpid(pid, 0)
    return said[1:] if said else f"it did not end ({status})"


def _child(child: Callable[[Say], None], writer: int) -> None:
    def say(words: str) -> None:
        os.write(writer, f"={words}".encode()[:1000])
        os._exit(0)

    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_LIMIT_S)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + _SPARE_BYTES, hard))
    try:
        child(say)
    except BaseException as error:
        say(f"{type(error).__name__}: {error}")
    say("")
