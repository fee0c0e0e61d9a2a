"""Which tests make which mutants differ, and what does each cost? Asked once a test, then kept.

The tests run in this process with probes in core and engine. `seed N` is a case of the simulation.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.mutate.mutants import Mutant
from tests.simulation.mutate.probes import PROBES, Finder, instrumented

TESTS = ("tests/core", "tests/engine", "tests/conformance")
SEEDS = range(12)
# Our judge counts processor time itself: on a busy machine a slow test is no hang.
ARGUMENTS = ["-q", "-s", "-p", "no:cacheprovider", "-m", "not engine", "-o", "timeout=0",
             "-W", "ignore::pytest.PytestAssertRewriteWarning"]  # fmt: skip
IMPORT = "import"
_CHEAP_S = 0.2


@dataclass(frozen=True, slots=True)
class Reach:
    """test: its id. digest: of its file; a test that was edited is asked again."""

    test: str
    digest: str
    cpu_s: float
    hits: frozenset[str]

    @property
    def mark(self) -> str:
        """Another one once the test was edited."""
        return f"{self.test} {self.digest}"


def preload() -> None:
    """What takes long to import and is not ours; the same examples in every run."""
    import hypothesis
    import vllm.v1.core.sched.async_scheduler
    import vllm.v1.structured_output  # noqa: F401

    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
    hypothesis.settings.register_profile(
        "mutants", derandomize=True, database=None, deadline=None, phases=phases
    )
    hypothesis.settings.load_profile("mutants")


def read_reach(path: Path) -> dict[str, Reach]:
    """By test; the last answer counts."""
    lines = path.read_text().splitlines() if path.exists() else []
    found = {}
    for line in lines:
        row = json.loads(line)
        found[row["test"]] = Reach(**row | {"hits": frozenset(row["hits"])})
    return found


def ask(path: Path, mutants: Sequence[Mutant], tests: Sequence[str] = TESTS) -> None:
    """Run every one of these that has not been asked yet, and add its answer to the file."""
    by_path = {p: list(ms) for p, ms in groupby(sorted(mutants, key=_path), key=_path)}
    trees = {ms[0].module: instrumented(p, ms) for p, ms in by_path.items()}
    Finder(trees, by_path).install()
    asker = _Asker(path, whole=tests == TESTS)
    pytest.main([*ARGUMENTS, *tests], plugins=[asker])
    for seed in SEEDS if tests == TESTS else ():
        with asker.asked(f"seed {seed}", digest="") as wanted:
            if wanted:
                asker.failed = bool(run_seed(seed))


def _path(mutant: Mutant) -> str:
    return mutant.path


class _Asker:
    """As a plug-in of pytest: what was hit while a test ran, and while all were imported."""

    def __init__(self, path: Path, whole: bool) -> None:
        self._path, self._known, self._whole = path, read_reach(path), whole
        self.failed = False  # without any mutant: such a test judges nothing

    @contextmanager
    def asked(self, test: str, digest: str) -> Iterator[bool]:
        known = self._known.get(test)
        if known is not None and known.digest == digest:
            yield False
            return
        PROBES.hits.clear()
        self.failed = False
        started = time.process_time()
        yield True
        if self.failed:
            return
        self._add(Reach(test, digest, time.process_time() - started, frozenset(PROBES.hits)))

    def _add(self, reach: Reach) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(reach) | {"hits": sorted(reach.hits)}) + "\n")

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if self._whole:
            self._add(Reach(IMPORT, "", 0.0, frozenset(PROBES.hits)))
        session.items[:] = [i for i in session.items if self._is_new(i)]

    def _is_new(self, item: pytest.Item) -> bool:
        known = self._known.get(item.nodeid)
        return known is None or known.digest != digest_of(item.path)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        with self.asked(item.nodeid, digest_of(item.path)):
            before = item.session.testsfailed
            result = yield
            self.failed = item.session.testsfailed > before
            return result


def digest_of(path: Path) -> str:
    """Of a test's file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def run_seed(seed: int) -> str:
    """The violation that a case of the simulation ends with; "" = none."""
    from tests.simulation.case import Case, run_case

    loggers = [logging.getLogger(name) for name in ("vllm", "vllm.scorpio")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        return run_case(Case(seed)).violation
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def order(mutant: Mutant, tests: Iterable[Reach]) -> list[Reach]:
    """Its own module's that cost next to nothing, then all others; the cheapest first."""
    own = f"test_{Path(mutant.path).stem}.py"
    return sorted(tests, key=lambda t: (own not in t.test or t.cpu_s > _CHEAP_S, t.cpu_s, t.test))
