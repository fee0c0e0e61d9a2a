"""What does the engine look like from outside, right now? One read of /metrics, a few sums."""

from __future__ import annotations

import contextlib
import re
import threading
import time
import urllib.request
from collections.abc import Iterator

from workloads.results.aggregate import TimelineSample

PREEMPTIONS = "vllm:num_preemptions_total"
_RUNNING = "vllm:num_requests_running"
_WAITING = "vllm:num_requests_waiting"
_KV_USED = "vllm:kv_cache_usage_perc"  # a fraction, whatever its name says
_REJECTED = "scorpio_admission_rejections_total"
_LINE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{.*\})? (\S+)$", re.M)
_PERIOD_S = 1.0


def scrape(url: str, timeout_s: float = 5.0) -> dict[str, float]:
    """Sum of each metric over its labels; empty when the server does not answer."""
    totals: dict[str, float] = {}
    with contextlib.suppress(OSError, ValueError):
        with urllib.request.urlopen(f"{url}/metrics", timeout=timeout_s) as answer:
            text = answer.read().decode()
        for name, value in _LINE.findall(text):
            totals[name] = totals.get(name, 0.0) + float(value)
    return totals


@contextlib.contextmanager
def sampled(url: str) -> Iterator[list[TimelineSample]]:
    """Sample the engine once a second while the block runs; the list grows meanwhile."""
    samples: list[TimelineSample] = []
    stop = threading.Event()
    start_s = time.monotonic()
    rejected_before = scrape(url).get(_REJECTED, 0.0)

    def sample() -> None:
        while not stop.wait(_PERIOD_S):
            now = scrape(url)
            if _RUNNING in now:
                samples.append(
                    {
                        "t_s": round(time.monotonic() - start_s, 3),
                        "waiting": int(now.get(_WAITING, 0.0)),
                        "running": int(now[_RUNNING]),
                        "kv_used_fraction": now.get(_KV_USED, 0.0),
                        "rejected_total": int(now.get(_REJECTED, 0.0) - rejected_before),
                    }
                )

    thread = threading.Thread(target=sample, name="engine-sampler", daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        stop.set()
        thread.join()
