"""How many replicas over the day, and what is that worth? `scorpio plan --autoscale`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scorpio.cli.compare import progress_bar
from scorpio.cli.early import check_out
from scorpio.cli.errors import UsageError
from scorpio.cli.table import plain_table
from scorpio.core.routing.autoscale import AutoscaleOptions, Autoscaler
from scorpio.files import write_atomic
from workloads.errors import UnknownName
from workloads.mixes import mix_names
from workloads.named import DEFAULT_MIX, workload_names
from workloads.traces.rates import is_rates, read_client_tokens, read_rates
from workloads.traces.reading import AS_IT_SAYS, Reading

if TYPE_CHECKING:
    from scorpio.studies.autoscale_days import Goal, Scene
    from scorpio.twin.fleet.coarse import CoarseRun, Curve

ROWS = 24  # of the day on the screen


@dataclass(frozen=True, slots=True)
class AutoscaleAsked:
    """The words of the question. source: a file of rates or a trace; rows, reading: of a trace;
    scale: of its rates."""

    source: str
    rows: str | None
    reading: Reading
    client_tokens: Path | None
    mix: str | None
    gpu: str
    scale: float
    seed: int
    target: str
    warm_up_s: float
    min_replicas: int
    max_replicas: int
    out: Path
    workers: int | None


def plan_autoscale(asked: AutoscaleAsked) -> None:
    """Measure the curve on the fleet twin, run the days, print and write autoscale.json. Raises
    UsageError and WorkloadError; nothing heavy is loaded before what can be checked is."""
    options, mix = _checked(asked)
    print("plan: loading vLLM, whose scheduler decides in the twin", file=sys.stderr)
    from scorpio.studies.autoscale_days import Goal, Scene
    from scorpio.studies.autoscale_twin import curve_points, made_curve
    from scorpio.studies.days import DaysKey
    from scorpio.twin.fleet.scalers import promises
    from scorpio.twin.gpu.file import gpu_model
    from scorpio.twin.pool import run_jobs

    gpu_model(asked.gpu)
    tokens = None if asked.client_tokens is None else str(asked.client_tokens)
    key = DaysKey(asked.source, tokens, mix, asked.gpu, asked.rows, asked.reading)
    days = key.days()
    points = curve_points(key)
    with progress_bar("plan") as progress:
        ended = 0

        def done(_number: int, _found: object) -> None:
            nonlocal ended
            ended += 1
            progress(ended, len(points), "points of the curve")

        found = run_jobs(points, asked.workers, done)
    curve = made_curve([(p.replicas, one) for p, one in zip(points, found, strict=True)])
    goal = Goal(
        options.target,
        options.warm_up_s,
        min_replicas=options.min_replicas,
        max_replicas=options.max_replicas,
    )
    scene = Scene.of(days, asked.scale, asked.seed, curve, goal)
    run = scene.run(promises(options, curve))
    answer = _answer(scene, run, curve, goal)
    answer["day"] = _day(run, days.rates.start_s)
    answer["assumed"] = _assumed(asked, mix, days.rates.filled)
    _print(answer)
    asked.out.mkdir(parents=True, exist_ok=True)
    write_atomic(asked.out / "autoscale.json", json.dumps(answer, indent=1) + "\n")
    print(asked.out / "autoscale.json")


def _checked(asked: AutoscaleAsked) -> tuple[AutoscaleOptions, str]:
    """What can be wrong with the words and the files, in a second."""
    try:
        target = float(asked.target) / 100.0
    except ValueError:
        raise UsageError(
            f"--target {asked.target}: with --autoscale a share of all, in %"
        ) from None
    try:
        options = AutoscaleOptions(
            target,
            asked.warm_up_s,
            min_replicas=asked.min_replicas,
            max_replicas=asked.max_replicas,
        )
        Autoscaler(options)
    except ValueError as error:
        raise UsageError(f"--autoscale: {error}") from None
    mix = asked.mix or DEFAULT_MIX
    if mix not in mix_names():
        raise UnknownName("mix", mix, mix_names())
    path = Path(asked.source)
    if _is_rates(asked.source):
        read_rates(path)
        if asked.rows is not None or asked.reading != AS_IT_SAYS:
            words = "--rows, --time-unit, --block-tokens, --spread-tick-s, --map"
            raise UsageError(f"{words}: only for a trace of requests, not for a file of rates")
    elif not path.is_file() and asked.source not in workload_names():
        raise UnknownName("trace or file", asked.source, workload_names())
    elif asked.client_tokens is not None:
        raise UsageError("--client-tokens: only for a file of rates")
    if asked.client_tokens is not None:
        read_client_tokens(asked.client_tokens)
    check_out(asked.out)
    return options, mix


def _is_rates(source: str) -> bool:
    return Path(source).is_file() and is_rates(Path(source))


def _answer(scene: Scene, run: CoarseRun, curve: Curve, goal: Goal) -> dict[str, Any]:
    """The replicas over the day and what is expected of them, as plain JSON values."""
    from scorpio.studies.days import TICK_S
    from scorpio.twin.fleet.scalers import enough

    windows = _windows(scene.load)
    needed = int(enough(windows, curve, goal.target, goal.max_replicas).max())
    fullest = float(curve(windows.max(), needed))
    score = scene.score(run, slice(None))
    return {
        "attainment": round(score["kept"], 5),
        "target": goal.target,
        "peak_replicas": needed,
        "peak_out_of_reach": fullest < goal.target,
        "mean_replicas": round(score["replicas"], 3),
        "gpu_hours": round(score["replicas"] * len(run.ready) * TICK_S / 3600.0, 1),
        "share_of_peak": round(score["replicas"] / needed, 4),
        "worst_hour": None if np.isnan(score["worst_hour"]) else round(score["worst_hour"], 5),
        "started_a_day": round(score["orders"], 1),
        "goal": asdict(goal),
        "curve": {
            "replicas": list(curve.replicas), "load": curve.load.tolist(),
            "kept": curve.kept.tolist(), "in_flight": curve.in_flight.tolist(),
        },
    }  # fmt: skip


def _day(run: CoarseRun, start_s: float) -> list[dict[str, Any]]:
    """Replicas in each hour of the day, from the first of the file on. start_s: when that is."""
    from scorpio.studies.autoscale_days import HOUR_TICKS
    from scorpio.studies.days import TICK_S

    each = max(min(HOUR_TICKS, len(run.ready) // 2), 1)
    hours = len(run.ready) // each
    per_day = max(round(86_400 / (each * TICK_S)), 1)
    ready = run.ready[: hours * each].reshape(hours, each)
    rows = []
    for slot in range(min(per_day, hours)):
        mine = ready[slot::per_day]
        rows.append(
            {
                "from_s": (start_s + slot * each * TICK_S) % 86_400,
                "least": int(mine.min()),
                "most": int(mine.max()),
                "mean": round(float(mine.mean()), 2),
            }
        )
    return rows


def _windows(load: Any) -> Any:
    """Ten minutes at a time, or all of it: a fleet fixed at the peak is sized for windows."""
    each = min(60, len(load))
    return load[: len(load) // each * each].reshape(-1, each).mean(axis=1)


def _assumed(asked: AutoscaleAsked, mix: str, filled: int) -> list[str]:
    lines = [
        f"{asked.source}, rates times {asked.scale:g}; mix {mix}, dealt by chance; {asked.gpu}",
        "no request is served: a curve says what is kept, which the fleet twin measured on this"
        " traffic's mean",
        "hours of the day: window_start_s counts from a midnight"
        if _is_rates(asked.source)
        else "hours count from the first request",
        f"a replica serves {asked.warm_up_s:g} s after it was ordered, paid for from then on",
    ]
    if filled:
        lines.append(f"{filled} windows without a line are the line between their neighbours")
    return lines


def _print(answer: Mapping[str, Any]) -> None:
    from rich.console import Console

    shown = plain_table(None, ["from"], ["replicas, mean", "least", "most"])
    for row in answer["day"][:ROWS]:
        from_min = int(row["from_s"] // 60)
        hour = f"{from_min // 60:02d}:{from_min % 60:02d}"
        shown.add_row(hour, f"{row['mean']:g}", str(row["least"]), str(row["most"]))
    Console().print(shown)
    if answer["peak_out_of_reach"]:
        print(f"{answer['peak_replicas']} replicas do not keep the target in the fullest window")
    print(
        f"expected attainment {100 * answer['attainment']:.2f} % (target"
        f" {100 * answer['target']:g} %), with {answer['mean_replicas']:.2f} replicas on average:"
        f" {answer['gpu_hours']:g} GPU-hours of one GPU each, {100 * answer['share_of_peak']:.1f} %"
        f" of {answer['peak_replicas']} at all times"
    )
    print("assumed:")
    for line in answer["assumed"]:
        print(f"  {line}")
