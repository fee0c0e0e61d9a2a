"""Which limit of its engine does a log show, where nothing states it?

While requests wait, something is full: as many run as the engine takes, or the KV pool holds no
more. What is full stands still, whatever comes and goes. So does what clients in a closed loop have
in flight: a limit is the engine's only where far more requests wanted to run than did.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scorpio.twin.fidelity.engine_log import EngineLog

_BLOCK_TOKENS = 16
_LEAST_LOOKS = 30  # at an engine with a queue
_MOST_LOOKS = 1000
_CROWD = 1.25  # in flight at its peak, over what ran at its peak; less may be prompts in work
_STILL = 0.1  # the middle half of what is full lies within this share of it


@dataclass(frozen=True, slots=True)
class SeenLimits:
    """None where the log does not show it. held_blocks: most that were in use at a time."""

    kv_blocks: int | None
    max_num_seqs: int | None
    held_blocks: int


def seen_limits(log: EngineLog, fitted: int) -> SeenLimits:
    """What was in use each time that a request began or ended to decode, until the first `fitted`
    were done."""
    sent = np.array([r.send_s for r in log.real])
    first = np.array([r.first_token_s or 0.0 for r in log.real])
    last = np.array([r.last_token_s or 0.0 for r in log.real])
    prompts = np.array([r.prompt_tokens or 0 for r in log.real])
    outputs = np.array([r.output_tokens for r in log.real])
    running, blocks, waiting = [], [], []
    times = np.sort(np.concatenate([first, last]))
    times = times[times <= last[:fitted].max()]
    for at_s in times[:: 1 + len(times) // _MOST_LOOKS]:
        runs = (first <= at_s) & (at_s <= last)
        share = np.clip((at_s - first) / np.maximum(last - first, 1e-9), 0.0, 1.0)
        running.append(int(runs.sum()))
        blocks.append(float(np.ceil((prompts + share * outputs) / _BLOCK_TOKENS)[runs].sum()))
        waiting.append(int(((sent < at_s) & (at_s < first)).sum()))
    runs_and_waits = np.array(running) + np.array(waiting)
    full = np.array(waiting) > 0
    held = int(max(blocks))
    if full.sum() < _LEAST_LOOKS or runs_and_waits.max() < _CROWD * max(running):
        return SeenLimits(None, None, held)
    pool, seqs = _still(np.array(blocks)[full]), _still(np.array(running, dtype=float)[full])
    if min(pool[0], seqs[0]) > _STILL:
        return SeenLimits(None, None, held)
    if pool[0] < seqs[0]:
        return SeenLimits(max(2, round(pool[1])), None, held)
    return SeenLimits(None, max(running), held)


def _still(seen: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[float, float]:
    """How much the middle half differs, as a share of the median; and the median."""
    low, middle, high = (float(x) for x in np.percentile(seen, (25, 50, 75)))
    return (high - low) / max(middle, 1.0), middle
