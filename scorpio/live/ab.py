"""Which policy serves this load better, on one and the same running server?

One server start serves all runs: a start costs a minute and two starts are never quite alike. The
order alternates (A B, B A, ...), so a drift of the machine hits both alike. All runs of a seed send
the same lengths at the same times; the prompts' text differs from run to run, or else a later
run would find its prompts in the prefix cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scorpio.live.control.scrape import PREEMPTIONS, sampled, scrape
from scorpio.live.host.priority import raised_priority
from scorpio.live.host.server import LiveServer
from workloads.load import LoadKey
from workloads.replay.prompts import prompt_token_ids
from workloads.replay.request_body import PreparedRequest, RequestStyle, prepare
from workloads.replay.run import replay_to_file
from workloads.request import WorkloadRequest
from workloads.results.run_summary import EngineStats, RunKey, RunSummary
from workloads.results.summary import Comparison

_REQUEST_TIMEOUT_S = 300.0
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Load:
    """A load and its requests, read once."""

    key: LoadKey
    requests: Sequence[WorkloadRequest]


@dataclass(frozen=True, slots=True)
class AbRun:
    """One replay of the plan."""

    load: Load
    policy: str
    repeat: int
    prompt_seed: int


def plan_runs(loads: Sequence[Load], policies: Sequence[str], repeats: int) -> list[AbRun]:
    """All runs in their order: policies forwards and backwards in turn, a new text for each."""
    runs: list[AbRun] = []
    for load in loads:
        for repeat in range(repeats):
            turn = (len(runs) // max(len(policies), 1)) % 2
            for policy in policies if turn == 0 else reversed(policies):
                runs.append(
                    AbRun(load, policy, repeat, prompt_seed=1000 * load.key.seed + len(runs))
                )
    return runs


def run_ab(
    server: LiveServer,
    runs: Sequence[AbRun],
    comparison: Comparison,
    machine: str,
    vocab_size: int,
    say: Say,
) -> list[RunSummary]:
    """Replay every run in order and add its records to `comparison`.

    Raises:
        AdminError: a switch failed. ServerFailedError: the server died.
    """
    summaries = []
    for number, run in enumerate(runs, start=1):
        say(f"run {number} of {len(runs)}: {run.policy}, {len(run.load.requests)} requests")
        summary = _run(server, run, comparison, machine, vocab_size)
        summaries.append(summary)
        say(
            f"run {number} of {len(runs)}: {summary.good} of {summary.sent} good,"
            f" {summary.rejected} rejected, {summary.wall_s:.0f} s"
            + (f"; VOID: {summary.void_reason}" if summary.void else "")
        )
    return summaries


def _run(
    server: LiveServer, run: AbRun, comparison: Comparison, machine: str, vocab_size: int
) -> RunSummary:
    prepared = _prepared(run, server.admin.model(), vocab_size)
    before = server.admin.switch(run.policy)
    preempted = scrape(server.url).get(PREEMPTIONS, 0.0)
    started_s = time.monotonic()
    partial = comparison.out_dir / "running.jsonl"
    with raised_priority(), sampled(server.url) as timeline:
        records = replay_to_file(
            server.url, prepared, partial, timeout_s=_REQUEST_TIMEOUT_S, title=run.policy
        )
    wall_s = time.monotonic() - started_s
    server.process.check_alive()
    after = server.admin.wait_drained()
    stats = EngineStats(
        steps=int(after.get("steps", 0)) - int(before.get("steps", 0)),
        schedule_us=after.get("schedule_us"),
        wall_s=wall_s,
        preemptions=int(scrape(server.url).get(PREEMPTIONS, 0.0) - preempted),
    )
    key = RunKey(
        policy=run.policy, engine="live", gpu=machine, load=run.load.key, repeat=run.repeat
    )
    summary = comparison.add_run(key, records, stats, timeline)
    partial.unlink(missing_ok=True)  # the comparison holds its own copy now
    return summary


def _prepared(run: AbRun, model: str, vocab_size: int) -> list[PreparedRequest]:
    style = RequestStyle(model=model)
    return [
        prepare(request, prompt_token_ids(request, vocab_size, run.prompt_seed), style)
        for request in run.load.requests
    ]
