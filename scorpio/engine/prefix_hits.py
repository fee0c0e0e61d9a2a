"""How much of a waiting prompt is in vLLM's prefix cache right now? A look that leaves no trace.

Nothing is counted, touched or reserved by it: vLLM looks again, for itself, when it starts the
request. The answer is a belief about work, so a stale one costs accuracy and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.core.single_type_kv_cache_manager import FullAttentionManager
from vllm.v1.request import Request

from scorpio.core.plan import RejectReason, StepPlan
from scorpio.core.queue import WaitingTable
from scorpio.core.views import RequestView
from scorpio.engine.running_table import Tracked

_BLOCKS_PER_LOOK = 64  # a second look goes so far up or down, the next one goes on from there
# (waiting requests looked at again in each step, requests looked at again before a refusal)
_CHAINED_LOOKS, _WHOLE_LOOKS = (32, 64), (1, 8)


class PrefixHits:
    """`RequestView.cached_tokens` of those who wait: found on arrival, followed while they wait.

    With full attention the cached blocks of a prompt are its first ones, without a gap (a chain of
    hashes, and vLLM frees the last block first), so a second look only walks from where the first
    one ended. Any other attention takes vLLM's own search each time: whole, and so less often.
    """

    def __init__(self, manager: KVCacheManager) -> None:
        self._manager: Any = manager
        managers = manager.coordinator.single_type_managers
        self._chained = len(managers) == 1 and type(managers[0]) is FullAttentionManager
        self._block_tokens = int(managers[0].block_size)
        self._rows_per_step, self._refusals_per_step = (
            _CHAINED_LOOKS if self._chained else _WHOLE_LOOKS
        )
        self._next_row = 0

    def found(self, request: Request, view: RequestView, blocks: int | None = None) -> RequestView:
        """The view as of now. blocks: walk no further than that from what it says already."""
        cached_tokens = self._tokens(request, view, blocks)
        if cached_tokens == view.cached_tokens:
            return view
        return replace(view, cached_tokens=cached_tokens)

    def follow(
        self, table: WaitingTable, requests: Mapping[str, Request], tracked: Mapping[str, Tracked]
    ) -> None:
        """Look again at some of those who wait, in turns: siblings fill the cache, others empty it.

        A queue of up to 32 is looked at whole in each step.
        """
        count = min(self._rows_per_step, len(table))
        for i in range(self._next_row, self._next_row + count):
            self._again(table[i % len(table)].request_id, table, requests, tracked)
        self._next_row = (self._next_row + count) % max(len(table), 1)

    def spare(
        self,
        plan: StepPlan,
        table: WaitingTable,
        requests: Mapping[str, Request],
        tracked: Mapping[str, Tracked],
    ) -> StepPlan:
        """The plan without refusals for work that the cache has done since the last look.

        Whoever is spared waits; the next plan sees the new value and may refuse it again.
        """
        late = [r.request_id for r in plan.reject if r.reason is RejectReason.TTFT_INFEASIBLE]
        spared = set()
        for request_id in late[: self._refusals_per_step]:
            before = tracked[request_id].view.cached_tokens
            if self._again(request_id, table, requests, tracked) > before:
                spared.add(request_id)
        if not spared:
            return plan
        return replace(plan, reject=[r for r in plan.reject if r.request_id not in spared])

    def _again(
        self,
        request_id: str,
        table: WaitingTable,
        requests: Mapping[str, Request],
        tracked: Mapping[str, Tracked],
    ) -> int:
        known = tracked[request_id]
        view = self.found(requests[request_id], known.view, _BLOCKS_PER_LOOK)
        if view is not known.view:
            known.view = view
            table.recache(view)
        return view.cached_tokens

    def _tokens(self, request: Request, view: RequestView, blocks: int | None) -> int:
        if not self._manager.prefix_cache_lookup_enabled(request):
            return 0
        # Like get_computed_blocks(): the last prompt token is computed, whatever is cached.
        most_tokens = max(view.prompt_tokens - 1, 0)
        hashes = request.block_hashes
        if not self._chained:
            _, tokens, _ = self._manager.coordinator.find_longest_cache_hit(hashes, most_tokens)
            return int(tokens)
        cached_block, group = self._manager.block_pool.get_cached_block, [0]
        end = min(most_tokens // self._block_tokens, len(hashes))
        n = known = min(view.cached_tokens // self._block_tokens, end)
        low, high = (0, end) if blocks is None else (max(n - blocks, 0), min(n + blocks, end))
        while n > low and not cached_block(hashes[n - 1], group):
            n -= 1
        while known <= n < high and cached_block(hashes[n], group):
            n += 1
        return n * self._block_tokens
