"""What runs the seeds? As many processes as there are cores, forked once vLLM is loaded."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence

from tests.simulation.case import Case, Outcome, run_case
from tests.simulation.pairs import EVERY, broken_pair
from tests.simulation.record import Portion, this_header
from tests.simulation.swarm import draw

_PAIRED = 3  # runs of a seed that has its pairs, about
WORKERS = len(os.sched_getaffinity(0))


def quiet() -> Callable[[], None]:
    """Failures are injected by the thousand: none of them is news. What ends the silence."""
    logs = [logging.getLogger(name) for name in ("vllm", "vllm.scorpio")]
    levels = [log.level for log in logs]

    def loud() -> None:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)

    for log in logs:
        log.setLevel(logging.CRITICAL)
    return loud


def run_portion(seeds: Sequence[int], workers: int = 1) -> Portion:
    """All of these seeds, in any order; the portion lists violations by seed."""
    head = this_header()
    portion = Portion(seeds[0], commit=head.commit, date=head.date, machine=head.machine)
    if workers == 1:
        for seed in seeds:
            _count(portion, _timed(seed))
    else:
        gc.freeze()  # what is loaded stays: the workers share it
        with multiprocessing.get_context("fork").Pool(workers) as pool:
            for timed in pool.imap_unordered(_timed, sorted(seeds, key=_length, reverse=True)):
                _count(portion, timed)
    portion.violations.sort(key=lambda violation: str(violation["seed"]))
    return portion


def _length(seed: int) -> int:
    """Roughly, in requests. The longest come first, so that no core waits for a long last one."""
    return draw(seed).requests * (_PAIRED if seed % EVERY == 0 else 1)


def _timed(seed: int) -> tuple[Outcome, float]:
    started = time.process_time()
    case = Case(seed)
    outcome = run_case(case)
    if seed % EVERY == 0 and not outcome.violation:
        outcome.violation = broken_pair(case, outcome)
    return outcome, time.process_time() - started


def _count(portion: Portion, timed: tuple[Outcome, float]) -> None:
    outcome, seconds = timed
    portion.add(outcome)
    portion.cpu_s += seconds
