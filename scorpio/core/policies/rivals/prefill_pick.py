"""How does an order of prompts become a plan that vLLM carries out as meant?

vLLM serves `running` in its own order before all that wait, each with as much as is left of
the token budget. So one that must not take tokens is deferred, and an unfinished prefill may get a
PART of its rest only when none chosen stands behind it: it would take their tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from scorpio.core.arrays import FloatArray
from scorpio.core.plan import StepPlan
from scorpio.core.policies.rivals.backlog import Job
from scorpio.core.snapshot import Snapshot
from scorpio.core.step_fill import StepFill

# Blocks are rounded up and some engines keep a reserve: only a prompt that surely fits overtakes.
_KV_RESERVE = 0.01


class Picker:
    """Packs jobs into `fill`, most important first."""

    def __init__(
        self,
        snapshot: Snapshot,
        fill: StepFill,
        slack_s: FloatArray,
        preempt: bool,
    ) -> None:
        self._snapshot, self._fill, self._preempt = snapshot, fill, preempt
        self._decode_rows, self._slack_s = np.flatnonzero(snapshot.running.is_decode), slack_s
        waiting, limits = snapshot.waiting, snapshot.limits
        self._started = int(np.count_nonzero(waiting.started))
        self._seats = limits.max_num_seqs - len(snapshot.running)
        self._kv_need = limits.kv_need
        self._kv_free = snapshot.kv_free_tokens - _KV_RESERVE * limits.kv_tokens
        self._admit: list[str] = []
        self._chosen: set[int] = set()
        self._overtaken = False  # a waiting request has been admitted

    def plan(self, jobs: Iterable[Job], sit_out_s: float) -> StepPlan:
        """The step. sit_out_s: a decode with that much slack may miss this step."""
        running = self._snapshot.running
        partial = np.flatnonzero(~running.is_decode).tolist()
        for job in jobs:
            if not job.is_running and not self._may_start(job, len(partial)):
                continue
            room = self._fill.fits(job.tokens, job.prefix_tokens)
            if room <= 0:
                break
            if job.is_running:
                if room < job.tokens and not self._may_take_part(job, sit_out_s):
                    continue
                self._chosen.add(job.row)
            else:
                self._start(job)
            self._fill.add(room, job.prefix_tokens)
        defer = [row for row in partial if row not in self._chosen]
        if len(defer) == len(running) and not self._overtaken:
            defer = []  # none would run at all
        return StepPlan(
            admit=self._admit, defer_prefill=defer, token_budget=max(self._fill.tokens, 1)
        )

    def _may_take_part(self, job: Job, sit_out_s: float) -> bool:
        """May an unfinished prefill go on with only a part of its rest?"""
        if self._overtaken or any(row > job.row for row in self._chosen):
            return False
        behind = self._slack_s[self._decode_rows > job.row]
        return float(behind.min(initial=math.inf)) >= sit_out_s

    def _may_start(self, job: Job, partial: int) -> bool:
        """Is there a seat for a waiting prompt, and room for its KV where it overtakes?"""
        if self._seats <= 0:
            return False
        overtakes = partial > len(self._chosen)
        return not overtakes or (self._preempt and self._takes(job) <= self._kv_free)

    def _start(self, job: Job) -> None:
        self._seats -= 1
        self._kv_free -= self._takes(job)
        self._overtaken = True
        if job.row >= self._started:  # the engine readmits preempted ones by itself
            self._admit.append(self._snapshot.waiting[job.row].request_id)

    def _takes(self, job: Job) -> float:
        return self._kv_need.of(job.tokens + job.prefix_tokens)  # blocks hit are taken too
