"""How much of a waiting prompt is in vLLM's prefix cache right now? A look that leaves no trace.

Nothing is counted, touched or reserved by it: vLLM looks again, for itself, when it starts the
request. The answer is a belief about work, so a stale one costs accuracy and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.core.single_type_kv_cache_manager import FullAttentionManager
from vllm.v1.request import Request

from scorpio.core.plan import RejectReason, StepPlan
from scorpio.core.request import RequestView
from scorpio.core.waiting import WaitingTable
from scorpio.engine.view.remote_kv import remote_tokens
from scorpio.engine.view.running_table import Tracked
from scorpio.engine.view.shared_prefixes import SharedPrefixes

_BLOCKS_PER_LOOK = 64  # a second look goes so far up or down, the next one goes on from there
# (waiting requests looked at again in each step, requests looked at again before a refusal)
_CHAINED_LOOKS, _WHOLE_LOOKS = (32, 64), (1, 8)


class PrefixHits:
    """`RequestView.cached_tokens` of those that wait: found on arrival, followed while they wait;
    and what they share with each other while that is still to be computed.

    With full attention the cached blocks of a prompt are its first ones, without a gap (a chain of
    hashes, and vLLM frees the last block first), so a second look only walks from where the first
    one ended. Any other attention takes vLLM's own search each time: whole, and so less often; so
    does an engine for which `whole` is said.
    """

    def __init__(self, manager: KVCacheManager, whole: bool = False) -> None:
        self._manager: Any = manager
        managers = manager.coordinator.single_type_managers
        chained = len(managers) == 1 and type(managers[0]) is FullAttentionManager
        self._chained = chained and not whole
        self._block_tokens = int(managers[0].block_size)
        self._rows_per_step, self._refusals_per_step = (
            _CHAINED_LOOKS if self._chained else _WHOLE_LOOKS
        )
        self._next_row = 0
        self._shared = SharedPrefixes()

    def found(self, request: Request, view: RequestView, blocks: int | None = None) -> RequestView:
        """The view as of now. blocks: walk no further than that from what it says already."""
        cached_tokens = self._tokens(request, view, blocks)
        held_tokens = self._held(request, cached_tokens)
        cached_tokens = max(cached_tokens, remote_tokens(request))
        if (cached_tokens, held_tokens) == (view.cached_tokens, view.held_tokens):
            return view
        return replace(view, cached_tokens=cached_tokens, held_tokens=held_tokens)

    def arrived(
        self,
        request: Request,
        view: RequestView,
        table: WaitingTable,
        tracked: Mapping[str, Tracked],
    ) -> RequestView:
        """The view of a newcomer, with what it shares with others that are still to be computed."""
        view = self.found(request, view)
        if not self._chained or not self._manager.prefix_cache_lookup_enabled(request):
            return view
        blocks = max(view.prompt_tokens - 1, 0) // self._block_tokens
        # Of its own tenant's prompts only: what a client hears shall depend on no other's.
        salt = view.tenant.encode(errors="surrogatepass")
        hashes = [block + salt for block in request.block_hashes[:blocks]]
        leader = self._shared.arrived(request.request_id, hashes)
        if leader is None:
            return view
        known = tracked[leader]
        known.view = self._sharing(known.view)
        if leader in table:
            table.recache(known.view)
        return self._sharing(view)

    def gone(self, request_id: str) -> None:
        """It has left the engine."""
        self._shared.gone(request_id)

    def follow(
        self,
        table: WaitingTable,
        requests: Mapping[str, Request],
        tracked: Mapping[str, Tracked],
        running: Sequence[Request],
    ) -> dict[int, str]:
        """Look again at some of those that wait, in turns: siblings fill the cache, others empty
        it.

        A queue of up to 32 is looked at whole in each step, and all that waited for what has just
        been computed. Returns the beginnings that are being computed for others, and by which.
        """
        computing: dict[int, str] = {}
        for request in running:
            if request.request_id not in self._shared:
                continue
            if request.num_computed_tokens < request.num_prompt_tokens:
                mine = self._shared.computing(request.request_id)
                computing |= dict.fromkeys(mine, request.request_id)
                continue
            for follower in self._shared.gone(request.request_id):
                if follower in table:
                    self._again(follower, table, requests, tracked)
        count = min(self._rows_per_step, len(table))
        for i in range(self._next_row, self._next_row + count):
            self._again(table[i % len(table)].request_id, table, requests, tracked)
        self._next_row = (self._next_row + count) % max(len(table), 1)
        return computing

    def spare(
        self,
        plan: StepPlan,
        table: WaitingTable,
        requests: Mapping[str, Request],
        tracked: Mapping[str, Tracked],
    ) -> StepPlan:
        """The plan without refusals for work that the cache has done since the last look.

        One that is spared waits; the next plan sees the new value and may refuse it again.
        """
        late = [
            r.request_id
            for r in plan.reject
            if r.reason is RejectReason.TTFT_INFEASIBLE and r.request_id in table
        ]
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

    def _sharing(self, view: RequestView) -> RequestView:
        blocks, number = self._shared.shared(view.request_id)
        return replace(view, shared_tokens=blocks * self._block_tokens, shared_id=number)

    def _held(self, request: Request, cached_tokens: int) -> int:
        """Of the cached tokens, those in blocks of running requests: one that holds the last of
        them holds all."""
        if not self._chained or not cached_tokens:
            return 0
        last = request.block_hashes[cached_tokens // self._block_tokens - 1]
        blocks = self._manager.block_pool.get_cached_block(last, [0])
        return cached_tokens if blocks and blocks[0].ref_cnt > 0 else 0

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
        shared = view.shared_tokens // self._block_tokens
        if n < shared <= end and cached_block(hashes[shared - 1], group):
            n = known = shared  # a chain: the ones before it were there first
        low, high = (0, end) if blocks is None else (max(n - blocks, 0), min(n + blocks, end))
        while n > low and not cached_block(hashes[n - 1], group):
            n -= 1
        while known <= n < high and cached_block(hashes[n], group):
            n += 1
        return n * self._block_tokens
