"""An engine with a KV connector, and a runner that loads and sends as slowly as it is told to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    SupportsHMA,
)
from vllm.v1.outputs import KVConnectorOutput
from vllm.v1.request import Request, RequestStatus

from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.requests import AsyncScheduler, ModelRunnerOutput, SchedulerOutput
from scorpio.twin.engine.runner import FakeRunner, StepWork
from tests.engine.driver import Engine, VirtualScheduler, expected

KINDS = ("none", "now", "later", "asks", "fails now", "fails later", "sends")


@dataclass
class Orders(KVConnectorMetadata):
    """What the scheduler's side tells the worker's: loads that begin, as (request, steps, blocks,
    of which bad), and requests whose blocks are being sent."""

    loads: list[tuple[str, int, list[int], list[int]]] = field(default_factory=list)
    sends: list[str] = field(default_factory=list)


class Connector(KVConnectorBase_V1, SupportsHMA):
    """Goes by `kv_transfer_params`: kind: of KINDS, several in one text. tokens: of the prompt that
    it has. steps: that loading takes. asks: how often it cannot say yet."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.orders = Orders()
        self.ended: list[str] = []
        self._asked: dict[str, int] = {}
        self._loads: dict[str, tuple[int, bool]] = {}

    def get_num_new_matched_tokens(
        self, request: Request, num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        params = request.kv_transfer_params or {}
        kind = params.get("kind", "none")
        self._asked[request.request_id] = asked = self._asked.get(request.request_id, 0) + 1
        if "asks" in kind and asked <= params.get("asks", 3):
            return None, False
        if request.request_id in self._loads:
            return 0, False  # one try
        later = "later" in kind
        if not later and "now" not in kind:
            return 0, False
        most = request.num_tokens - (not later)
        tokens = min(int(params["tokens"]), most) - num_computed_tokens
        if tokens <= 0:
            return 0, False
        return tokens, later

    def update_state_after_alloc(
        self, request: Request, blocks: Any, num_external_tokens: int
    ) -> None:
        if not num_external_tokens:
            return
        params = request.kv_transfer_params or {}
        if params.get("do_remote_prefill"):
            params["do_remote_prefill"] = False  # as NIXL does
        kind, later = params["kind"], "later" in params["kind"]
        self._loads[request.request_id] = (num_external_tokens, later)
        (ids,) = blocks.get_block_ids()
        bad = ids[len(ids) // 2 :][:1] if "fails" in kind else []
        steps = int(params.get("steps", 3)) if later else 0
        self.orders.loads.append((request.request_id, steps, ids, bad))

    def build_connector_meta(self, scheduler_output: SchedulerOutput) -> Orders:
        told, self.orders = self.orders, Orders()
        return told

    def request_finished_all_groups(
        self, request: Request, block_ids: tuple[list[int], ...]
    ) -> tuple[bool, dict[str, Any] | None]:
        self.ended.append(request.request_id)
        kind = (request.kv_transfer_params or {}).get("kind", "")
        whole = request.status != RequestStatus.FINISHED_ABORTED
        sends = "sends" in kind and whole and any(block_ids)
        if sends:
            self.orders.sends.append(request.request_id)
        return sends, ({"remote": request.request_id} if sends else None)

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        raise NotImplementedError

    def wait_for_layer_load(self, layer_name: str) -> None:
        raise NotImplementedError

    def save_kv_layer(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError

    def wait_for_save(self) -> None:
        raise NotImplementedError


class ConnectedRunner(FakeRunner):
    """Loads end, well or not, so many steps later; sends end two steps later. Like the real one it
    goes by the computed tokens that it is told, which are fewer after a load that failed."""

    def __init__(self) -> None:
        super().__init__()
        self.computed: dict[str, int] = {}  # prompt tokens of each, that were computed here
        self._targets: dict[str, int] = {}
        self._loading: list[list[Any]] = []
        self._sending: list[list[Any]] = []

    def execute(self, step: SchedulerOutput) -> tuple[StepWork, ModelRunnerOutput]:
        cached = step.scheduled_cached_reqs
        starts = dict(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
        for new in step.scheduled_new_reqs:
            starts[new.req_id] = new.num_computed_tokens
            self._targets[new.req_id] = len(new.prefill_token_ids or new.prompt_token_ids or ())
        for request_id in cached.resumed_req_ids:
            self._targets[request_id] = len(cached.all_token_ids[request_id])
        for request_id, start in starts.items():
            if start < (target := self._targets[request_id]):
                self._prefilling[request_id] = (start, target)
                tokens = min(step.num_scheduled_tokens[request_id], target - start)
                self.computed[request_id] = self.computed.get(request_id, 0) + tokens
        work, answer = super().execute(step)
        orders = step.kv_connector_metadata
        assert isinstance(orders, Orders)
        answer.kv_connector_output = self._transfers(orders)
        return work, answer

    def _transfers(self, orders: Orders) -> KVConnectorOutput:
        received, bad = set(), set()
        self._loading += [list(load) for load in orders.loads if load[1]]
        bad |= {block for load in orders.loads if not load[1] for block in load[3]}
        for load in self._loading:
            load[1] -= 1
            if load[1] < 0:
                received.add(load[0])
                bad |= set(load[3])
        self._loading = [load for load in self._loading if load[0] not in received]
        self._sending += [[request_id, 2] for request_id in orders.sends]
        for send in self._sending:
            send[1] -= 1
        sent = {send[0] for send in self._sending if send[1] < 0}
        self._sending = [send for send in self._sending if send[0] not in sent]
        return KVConnectorOutput(
            finished_sending=sent, finished_recving=received, invalid_block_ids=bad
        )


class ConnectedEngine(Engine):
    """failures: kv_load_failure_policy. role: kv_role."""

    def __init__(
        self,
        spec: EngineSpec,
        scorpio: Mapping[str, Any] | None = None,
        cls: type[AsyncScheduler] = VirtualScheduler,
        failures: str = "recompute",
        role: str = "kv_both",
    ) -> None:
        transfer = {
            "kv_connector": "Connector",
            "kv_connector_module_path": "tests.engine.connecting",
            "kv_role": role,
            "kv_load_failure_policy": failures,
        }
        super().__init__(spec, scorpio, cls, transfer)
        self.runner: ConnectedRunner = ConnectedRunner()
        self.wanted: dict[str, list[int]] = {}
        self.prompts: dict[str, int] = {}

    @property
    def connector(self) -> Any:
        return self.scheduler.connector

    def ask(self, name: str, kind: str, prompt: int, output: int = 4, **what: Any) -> Request:
        """Add one. tokens, steps, asks, do_remote_prefill: for the connector; the rest: its SLO."""
        theirs = {"tokens", "steps", "asks", "do_remote_prefill"}
        params = {"kind": kind, **{key: what.pop(key) for key in theirs & what.keys()}}
        request = self.request(name, prompt, output, **what)
        request.kv_transfer_params = params
        self.wanted[name] = expected(self.number, output)
        self.prompts[name] = prompt
        self.scheduler.add_request(request)
        return request

    def ask_any(self, random_: Random, name: str, kinds: tuple[str, ...], **what: Any) -> None:
        """One of a random size; the connector has a random part of it, in whole blocks."""
        prompt = random_.randrange(1, 300)
        tokens = random_.choice((prompt, random_.randrange(0, prompt + 1))) // 16 * 16
        kind = random_.choice(kinds)
        steps = random_.randrange(1, 6)
        output = random_.randrange(1, 30)
        self.ask(name, kind, prompt, output, tokens=tokens, steps=steps, **what)

    def assert_all_served(self) -> None:
        """Each has its tokens, and each ended once for the connector."""
        assert {name: self.tokens(name) for name in self.wanted} == self.wanted
        self.assert_drained()
        assert sorted(self.connector.ended) == sorted(self.wanted)
        assert not self.scheduler.kv_holding_waiting
        assert not self.scheduler.finished_recving_kv_req_ids
