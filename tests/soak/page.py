"""How is a soak shown? `python -m tests.soak.page out/soak/soak.json --out docs/results`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

from scorpio.files import write_atomic
from tests.soak.record import Sample, SoakRecord
from tests.soak.verdict import findings, process_names, rss_slope, slope_of, slope_text
from workloads.report.figure_style import finish, new_figure, styled

PAGE, FIGURE = "soak.md", "soak.png"


def markdown(record: SoakRecord) -> str:
    """The page."""
    kept = record.after_warm_up
    ended = ", ".join(f"{count:,} {how}" for how, count in sorted(record.ended.items()))
    lines = [
        "# Does anything grow while the real server is under load for hours?",
        "",
        str(record.header),
        "",
        f"{_length(record)} at {record.rate_rps:g} requests/s, seed {record.seed}, model"
        f" `tiny`, {record.kv_blocks} KV blocks.",
        f"{record.sent:,} requests ({record.grammar:,} with a grammar): {ended}. Client held back:"
        f" {record.held_back:,}.",
        "",
        "| promise | seen | |",
        "|---|---|---|",
        *(f"| {f.what} | {f.seen} | {f.verdict} |" for f in findings(record)),
        "",
        f"After the warm-up ({len(kept)} samples; slopes by least squares, 95 % interval):",
        "",
        "| process | RSS first, last MiB | RSS MiB/h | anonymous MiB/h | RSS MiB/h, last half |",
        "|---|---|---|---|---|",
        *(_process_row(record, name) for name in process_names(record)),
        "",
        "A leak goes on in the last half; a step up when more requests than ever are in flight does"
        " not come again.",
        "",
        "| latency, finished requests | first third s | last third s | drift ms/h |",
        "|---|---|---|---|",
        *(_latency_row(kept, what, pick) for what, pick in _LATENCIES.items()),
        "",
        f"![Soak]({FIGURE})",
    ]
    if record.errors:
        lines += ["", "Errors (the first ones):", "", *(f"    {e}" for e in record.errors)]
    return "\n".join(lines) + "\n"


_LATENCIES: dict[str, Callable[[Sample], float | None]] = {
    "first event, median": lambda sample: sample.first_p50_s,
    "first event, p95": lambda sample: sample.first_p95_s,
    "complete, median": lambda sample: sample.end_p50_s,
    "complete, p95": lambda sample: sample.end_p95_s,
}


def _process_row(record: SoakRecord, name: str) -> str:
    kept = record.after_warm_up
    first, last = (s.processes[name].rss_mib for s in (kept[0], kept[-1]))
    slopes = [slope_text(rss_slope(record, name, anonymous)) for anonymous in (False, True)]
    slopes.append(slope_text(rss_slope(record, name, last_half=True)))
    return f"| {name} | {first:.1f}, {last:.1f} | {' | '.join(slopes)} |"


def _latency_row(kept: list[Sample], what: str, pick: Callable[[Sample], float | None]) -> str:
    third = max(len(kept) // 3, 1)
    first, last = (_middle(part, pick) for part in (kept[:third], kept[-third:]))
    slope = slope_of(kept, lambda s: None if (v := pick(s)) is None else 1000.0 * v)
    return f"| {what} | {first:.3f} | {last:.3f} | {slope_text(slope, 1)} |"


def _middle(samples: list[Sample], pick: Callable[[Sample], float | None]) -> float:
    values = sorted(v for s in samples if (v := pick(s)) is not None)
    return values[len(values) // 2] if values else math.nan


def figure(record: SoakRecord) -> bytes:
    """Memory, KV, descriptors and threads, latency over time, as PNG."""
    minutes = [sample.t_s / 60.0 for sample in record.samples]
    with styled():
        drawing = new_figure(8.5)
        memory, kv, counts, latency = drawing.subplots(4, 1, sharex=True)
        for name in process_names(record):
            held = [s.processes.get(name) for s in record.samples]
            base = next(h.rss_mib for h in held if h is not None)
            memory.plot(
                minutes,
                [math.nan if h is None else h.rss_mib - base for h in held],
                label=f"{name} (from {base:.0f} MiB)",
            )
            for what, dashes in (("descriptors", "-"), ("threads", ":")):
                values = [math.nan if h is None else getattr(h, what) for h in held]
                counts.plot(minutes, values, dashes, label=f"{name} {what}")
        kv.plot(minutes, [s.kv_used_fraction for s in record.samples], label="KV used (share)")
        kv.plot(
            [q.t_s / 60.0 for q in record.quiet],
            [q.kv_used_fraction for q in record.quiet],
            "o",
            label="without load",
        )
        for label, pick in _LATENCIES.items():
            values = [math.nan if (v := pick(s)) is None else v for s in record.samples]
            latency.plot(minutes, values, label=label)
        for axis, title in (
            (memory, "Memory: RSS since the first sample, MiB"),
            (kv, "KV cache in use"),
            (counts, "Descriptors and threads"),
            (latency, "Latency, s"),
        ):
            axis.set_title(title)
            axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=7)
        latency.set_xlabel("minutes")
        return finish(drawing, "soak", "A soak of the real server.").png


def _length(record: SoakRecord) -> str:
    if record.cut_off:
        return f"{record.ran_minutes:.0f} of {record.minutes:g} minutes"
    return f"{record.minutes:g} minutes"


def publish(record: SoakRecord, directory: Path) -> Path:
    """Page and figure; returns the page."""
    write_atomic(directory / FIGURE, figure(record))
    write_atomic(directory / PAGE, markdown(record))
    return directory / PAGE


def main() -> None:
    """Page and figure of a record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("record", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    args = parser.parse_args()
    print(publish(SoakRecord.read(args.record), args.out))


if __name__ == "__main__":
    main()
