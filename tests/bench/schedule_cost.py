"""What does Scorpio add to one `schedule()` call? One minute for each policy.

Two real vLLM schedulers in one process hold the same state: R running decodes and W waiting
requests that do not fit. Steps alternate between them; "ratio" is Scorpio's snapshot + plan +
apply as a share of stock `schedule()`, median of the step-by-step ratios with a 95 % bootstrap
interval, "without snapshot" the same less the reading of vLLM's state. "whole" is Scorpio's
`schedule()`, vLLM's part included, over the stock one: that part is shorter when our snapshot has
just brought the requests into the cache. Waiting prompts are short enough for all to be in time, so
the state stays put; the rows called flood are a queue of which nearly all must be refused, as many
a step as the policy likes.
Nothing here is a test: timings never fail anything.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Sequence

import numpy as np

from scorpio.core.latency import LatencyProfile, StepModel, decode_from_step, prefill_from_step
from scorpio.core.snapshot import Snapshot
from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.requests import AsyncScheduler
from scorpio.studies.study import Rows, shown, table
from tests.engine.driver import Engine

# Small enough that 256 decodes meet 30 ms: the state stays put while it is timed.
_STEP = StepModel(0.010, 1e-5, 5e-5, 384.0, 1e-10, 1e-10, 1e-8)
_PROFILE = LatencyProfile(decode_from_step(_STEP), prefill_from_step(_STEP), _STEP, "bench")
RUNNING = 256
# requests waiting, tokens of each prompt
QUEUES = ((0, 0), (1_000, 40), (10_000, 40), (10_000, 900))
FLOOD_TOKENS = 900
_SLOS_MS = (30.0, 50.0, 50.0, 30.0, 50.0, 50.0)


def build(policy: str | None, running: int, waiting: int, prompt: int = 40) -> Engine:
    """A scheduler with `running` decodes and `waiting` requests behind them (None = stock)."""
    spec = EngineSpec(
        max_num_seqs=running, max_num_batched_tokens=8192, num_blocks=40_000, pipeline_depth=1
    )
    if policy is None:
        engine = Engine(spec, cls=AsyncScheduler)
    else:
        engine = Engine(spec, {"policy": "fcfs", "latency": _PROFILE.to_dict()})
    for index in range(running):
        engine.add(f"r{index}", 16, 1_000_000, slo_ttft_ms=1e7, slo_tpot_ms=_SLOS_MS[index % 6])
    while len(engine.scheduler.running) < running:
        engine.step()
    if policy is not None:
        engine.scorpio.use_policy(engine.scorpio.policy_switch.build(policy))
    for index in range(waiting):
        slo_tpot_ms = _SLOS_MS[index % 6]
        engine.add(f"w{index}", prompt, 200, slo_ttft_ms=1e7 + index, slo_tpot_ms=slo_tpot_ms)
    return engine


def timed_step(engine: Engine) -> float:
    """Seconds in `schedule()` of one step."""
    started = time.perf_counter()
    scheduled = engine.scheduler.schedule()
    seconds = time.perf_counter() - started
    _, answer = engine.runner.execute(scheduled)
    engine.scheduler.update_from_output(scheduled, answer)
    return seconds


def measure(stock: Engine, ours: Engine, steps: int) -> dict[str, float]:
    """Median plan + apply (us), stock schedule() (us), and their ratio with its interval."""
    rows, planned = [], ours.scorpio.telemetry.planned_steps
    snapshots_s: list[float] = []
    draw = ours.scorpio._snapshot

    def timed_snapshot() -> Snapshot:
        started = time.perf_counter()
        drawn = draw()
        snapshots_s.append(time.perf_counter() - started)
        return drawn

    ours.scorpio._snapshot = timed_snapshot  # type: ignore[method-assign]
    gc.collect()
    gc.disable()
    for _ in range(steps):
        stock_s = timed_step(stock)
        whole_s = timed_step(ours)
        rows.append((ours.scorpio.telemetry.last_plan_s, stock_s, whole_s, snapshots_s[-1]))
    gc.enable()
    table = np.array(rows[steps // 10 :])
    ratio = table[:, 0] / table[:, 1]
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(ratio, (1000, len(ratio))), axis=1)
    low, high = np.percentile(medians, (2.5, 97.5))
    return {
        "planned": (ours.scorpio.telemetry.planned_steps - planned) / steps,
        "plan_us": float(np.median(table[:, 0]) * 1e6),
        "stock_us": float(np.median(table[:, 1]) * 1e6),
        "ratio": float(np.median(ratio)),
        "low": float(low),
        "high": float(high),
        "planning": float(np.median((table[:, 0] - table[:, 3]) / table[:, 1])),
        "whole": float(np.median(table[:, 2] / table[:, 1])),
    }


def bytes_per_waiting(count: int = 5_000) -> float:
    """Memory Scorpio adds for each waiting request, beside vLLM's own."""

    def grown(policy: str | None) -> int:
        engine = build(policy, 8, 0)
        tracemalloc.start()
        for index in range(count):
            engine.add(f"w{index}", 16, 20, slo_ttft_ms=1e7 + index, slo_tpot_ms=50.0)
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return size

    return (grown("scorpio") - grown(None)) / count


def rows(steps: int, policies: Sequence[str] = ("scorpio", "scorpio-paper")) -> Rows:
    """One for each policy and queue."""
    found: Rows = []
    for waiting, prompt in QUEUES:
        flood = prompt == FLOOD_TOKENS
        for policy in policies:
            stock = build(None, RUNNING, waiting, prompt)
            ours = build(policy, RUNNING, waiting, prompt)
            made = measure(stock, ours, min(steps, 60) if flood else steps)
            where = {"policy": policy, "waiting": waiting, "flood": flood}
            found.append(where | {name: round(value, 4) for name, value in made.items()})
    return found


def text(found: Rows) -> str:
    """Markdown."""
    heads = ("waiting", "policy", "snapshot + plan + apply", "stock schedule()", "share",
             "plan + apply alone", "whole step / stock")  # fmt: skip
    lines = [
        [
            f"{row['waiting']:,}" + (", nearly all to be refused" if row["flood"] else ""),
            f"`{row['policy']}`", f"{row['plan_us']:,.0f} us", f"{row['stock_us']:,.0f} us",
            shown([100.0 * row[name] for name in ("ratio", "low", "high")]) + " %",
            f"{100.0 * row['planning']:.1f} %", f"{row['whole']:.2f}",
        ]
        for row in found
    ]  # fmt: skip
    return table(heads, lines)
