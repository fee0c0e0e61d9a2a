"""Did it hold? What a soak promises, one line each, with what was seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.soak.record import Sample, SoakRecord
from tests.soak.slope import Slope, slope_per_hour

RSS_LIMIT_MIB_H = 1.0
# aiohttp's words for a connection that ended before the first byte of an answer
_UNHEARD = (
    *("ServerDisconnectedError: ", "ClientOSError: [Errno 104]"),
    "ClientOSError: [Errno None] Can not write request body",
)
HOLDS, BROKEN, OPEN = "holds", "**broken**", "cannot tell"


@dataclass(frozen=True, slots=True)
class Finding:
    """what: the promise; seen: the numbers; verdict: holds, broken, or too little to tell."""

    what: str
    seen: str
    verdict: str


def findings(record: SoakRecord) -> list[Finding]:
    """Every promise of a soak."""
    clean = sum(look.clean for look in record.quiet)
    all_clean = clean == len(record.quiet) and clean > 0
    status = record.status
    calm = not status.get("fallbacks") and not status.get("breaker_open")
    return [
        _to_the_end(record),
        _failures(record),
        Finding(
            "without load all KV is free and no request is left",
            f"{clean} of {len(record.quiet)} looks",
            _held(all_clean),
        ),
        Finding(
            "no fallback to stock scheduling",
            f"{status.get('fallbacks')}",
            _held(calm) if "fallbacks" in status else OPEN,
        ),
        *(_memory(record, name) for name in process_names(record)),
        *(_steady(record, name) for name in process_names(record)),
    ]


def _failures(record: SoakRecord) -> Finding:
    """vLLM closes connections that were idle for five seconds; a request that sets out just then is
    never heard, and HTTP's answer is to send it again. Those are told apart, and must be few."""
    failed = record.ended.get("failed", 0)
    unheard = sum(any(mark in error for mark in _UNHEARD) for error in record.errors)
    seen = f"{failed - unheard} of {record.sent}"
    if unheard:
        seen += f"; {unheard} more met an idle connection as the server closed it"
    return Finding("no request fails", seen, _held(unheard == failed <= record.sent / 1000))


def _to_the_end(record: SoakRecord) -> Finding:
    what = "the server lives to the end"
    if record.cut_off:
        return Finding(what, f"the run was cut off after {record.ran_minutes:.0f} minutes", OPEN)
    return Finding(what, record.broke[:80] or "yes", _held(not record.broke))


def process_names(record: SoakRecord) -> list[str]:
    """Processes that are there in every sample after the warm-up."""
    kept = record.after_warm_up
    return [n for n in kept[0].processes if all(n in s.processes for s in kept)] if kept else []


def rss_slope(
    record: SoakRecord, name: str, anonymous: bool = False, last_half: bool = False
) -> Slope | None:
    """MiB per hour of one process after the warm-up, or in the last half of what is after it."""
    kept = record.after_warm_up

    def held(sample: Sample) -> float:
        process = sample.processes[name]
        return process.anonymous_mib if anonymous else process.rss_mib

    return slope_of(kept[len(kept) // 2 :] if last_half else kept, held)


def slope_of(samples: Sequence[Sample], value: Callable[[Sample], float | None]) -> Slope | None:
    """Growth per hour of something that some samples may lack."""
    pairs = [(s.t_s, v) for s in samples if (v := value(s)) is not None]
    return slope_per_hour([t_s for t_s, _ in pairs], [v for _, v in pairs])


def slope_text(slope: Slope | None, digits: int = 2) -> str:
    """`+0.12 (-0.30..+0.54)`."""
    if slope is None:
        return "too few samples"
    return f"{slope.mean:+.{digits}f} ({slope.low:+.{digits}f}..{slope.high:+.{digits}f})"


def _memory(record: SoakRecord, name: str) -> Finding:
    slope = rss_slope(record, name)
    verdict = OPEN
    if slope is not None and slope.high < RSS_LIMIT_MIB_H:
        verdict = HOLDS
    elif slope is not None and slope.low > RSS_LIMIT_MIB_H:
        verdict = BROKEN
    return Finding(
        f"RSS of {name} grows by less than {RSS_LIMIT_MIB_H:g} MiB/h",
        f"{slope_text(slope)} MiB/h",
        verdict,
    )


def _steady(record: SoakRecord, name: str) -> Finding:
    """Descriptors and threads follow the load: what counts is what is left without any."""
    looks = [look.processes[name] for look in record.quiet if name in look.processes]
    seen, verdict = [], HOLDS if len(looks) > 1 else OPEN
    for what in ("descriptors", "threads"):
        counts = [getattr(look, what) for look in looks]
        seen.append(f"{what} {min(counts, default=0)}..{max(counts, default=0)}")
        third = max(len(counts) // 3, 1)
        if len(counts) > 1 and min(counts[-third:]) > max(counts[:-third]):
            verdict = BROKEN  # never again as few as there once were at most
    what = f"descriptors and threads of {name} without load do not climb"
    return Finding(what, ", ".join(seen), verdict)


def _held(good: bool) -> str:
    return HOLDS if good else BROKEN
