"""What is the smallest case that still breaks this promise? Features off, then requests away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.simulation.case import Case, Outcome, run_case

MAX_RUNS = 300
_LAST_LINES = 40


def shrink(case: Case, run: Callable[[Case], Outcome] = run_case) -> tuple[Case, int]:
    """(a case that breaks the same promise with as little as possible, runs it took)."""
    wanted, runs = run(case).number, 1
    if not wanted:
        raise ValueError(f"seed {case.seed} breaks no promise")

    def fails(smaller: Case) -> bool:
        nonlocal runs
        runs += 1
        return runs <= MAX_RUNS and run(smaller).number == wanted

    for feature in sorted(case.swarm().features):
        without = replace(case, off=case.off | {feature})
        case = without if fails(without) else case
    return _fewer_requests(case, fails), min(runs, MAX_RUNS)


def _fewer_requests(case: Case, fails: Callable[[Case], bool]) -> Case:
    """Delta debugging: leave out halves, then quarters, then one at a time."""
    kept = sorted(case.keep if case.keep is not None else range(case.swarm().requests))
    size = len(kept) // 2
    while size:
        start = 0
        while start < len(kept):
            fewer = replace(case, keep=frozenset(kept[:start] + kept[start + size :]))
            if fails(fewer):
                case, kept = fewer, sorted(fewer.keep or ())
            else:
                start += size
        size //= 2
    return case


def page(case: Case, runs: int) -> str:
    """A shrunk case for people: engine, requests, the last steps, and how to run it again."""
    swarm, outcome = case.swarm(), run_case(case, keep_log=True)
    lines = [
        f"seed {case.seed}: {outcome.violation}",
        f"policy {swarm.policy}, features: {', '.join(sorted(swarm.features)) or 'none'}",
        f"{swarm.spec}",
        f"a step takes {swarm.step.step_s(1, 0.0):.4f} s, profile x{swarm.profile_factor:.2f}"
        if swarm.profile
        else f"a step takes {swarm.step.step_s(1, 0.0):.4f} s, no profile",
        f"{outcome.requests} requests, {outcome.steps} steps, digest {outcome.digest}",
        "",
    ]
    lines += [
        f"  {c.request_id} at {c.arrival_s:.3f} s: {c.prompt_tokens} + {c.output_tokens}"
        f" (max {c.max_tokens}) {dict(c.xargs)}" + _oddities(c)
        for c in case.calls()[:30]
    ]
    lines += ["", *(line[:200] for line in outcome.lines[-_LAST_LINES:])]
    lines += ["", f"again (after {runs} runs): {command(case)}"]
    return "\n".join(lines)


def command(case: Case) -> str:
    """The command that runs a case again."""
    parts = [f"python -m tests.simulation replay {case.seed}"]
    if case.off:
        parts.append(f"--off {','.join(sorted(case.off))}")
    if case.keep is not None:
        parts.append(f"--keep {','.join(map(str, sorted(case.keep)))}")
    return " ".join(parts)


def _oddities(call: object) -> str:
    names = ("late_s", "grammar_s", "grammar_fails", "adapter", "parts", "prefix_ids")
    found = {name: value for name in names if (value := getattr(call, name))}
    return f" {found}" if found else ""
