"""Which parts of vLLM's API server do we call? The one list for scorpio.server.

Everything else of the server is reached through ASGI and `app.state`. Imports are inside the
functions: the middleware and its tests work without a vLLM. Of what moved between two supported
versions both places are named, the older one first (`_either`).
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Scope

from scorpio.server.request.endpoints import route_path

ENGINE_S = 10.0  # for an engine without work to leave by itself; then it is killed
_CLI_ARGS = ("vllm.entrypoints.launchers.cli_args", "vllm.entrypoints.common.cli_args")
_STARTUP = ("vllm.entrypoints.serve.utils.api_utils", "vllm.entrypoints.common.startup")


class Authenticator:
    """vLLM's own API-key check, asked in advance (our middleware is outside of it)."""

    def __init__(self, middleware: Any, guarded: tuple[str, ...], tokens: Sequence[str]) -> None:
        self._middleware = middleware
        self._guarded = guarded
        self._digests = [_digest(token) for token in tokens]

    def guards(self, scope: Scope) -> bool:
        """True when vLLM asks for a key on this path."""
        return route_path(scope).startswith(self._guarded)

    def accepts(self, scope: Scope) -> bool:
        """True when vLLM would let this request in."""
        return not self.guards(scope) or bool(self._middleware.verify_token(Headers(scope=scope)))

    def place(self, scope: Scope) -> int:
        """Which of the server's keys this request has; of one that is accepted."""
        token = Headers(scope=scope).get("Authorization", "").partition(" ")[2]
        return self._digests.index(_digest(token))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def api_tokens(args: Any) -> list[str]:
    """vLLM's own API keys. As in vllm/entrypoints/serve/middleware/register.py."""
    return [key for key in (args.api_key or [os.environ.get("VLLM_API_KEY")]) if key]


def authenticator(args: Any) -> Authenticator | None:
    """None when the server has no API keys."""
    if not (tokens := api_tokens(args)):
        return None
    from vllm.entrypoints.serve.middleware.authenticate import (
        GUARDED_PREFIX,
        AuthenticationMiddleware,
    )

    return Authenticator(AuthenticationMiddleware(app=None, tokens=tokens), GUARDED_PREFIX, tokens)


def _either(older: str, newer: str, name: str) -> Any:
    """What has this name in one of two modules of vLLM. Raises ImportError: in none."""
    for module in (older, newer):
        try:
            return getattr(import_module(module), name)
        except (ImportError, AttributeError):
            continue
    raise ImportError(f"vLLM has {name} neither in {older} nor in {newer}")


def is_delta(sampling_params: Any) -> bool:
    """True when each output of a request holds its new tokens only, not all so far."""
    return bool(sampling_params.output_kind.name == "DELTA")


def _parser() -> Any:
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    return _either(*_CLI_ARGS, "make_arg_parser")(
        FlexibleArgumentParser(prog="scorpio serve MODEL", description="vLLM's options")
    )


def parse_serve_args(argv: Sequence[str], defaults: dict[str, Any]) -> Any:
    """vLLM's own parser over `argv`; `defaults` only replace what the user did not set."""
    parser = _parser()
    parser.set_defaults(**defaults)
    return parser.parse_args(list(argv))


def server_options() -> list[str]:
    """The long options of vLLM's server."""
    actions = _parser()._actions
    return sorted(o for action in actions for o in action.option_strings if o.startswith("--"))


def engine_indexes(vllm_config: Any) -> Sequence[int]:
    """Which of the data-parallel engines does this API process talk to?"""
    parallel = vllm_config.parallel_config
    if not parallel.local_engines_only:
        return range(parallel.data_parallel_size)
    first = parallel.data_parallel_index
    return range(first, first + parallel.data_parallel_size_local)


def api_process(vllm_config: Any) -> tuple[int, int]:
    """Which of how many API processes of one server is this one? The first is 0."""
    parallel = vllm_config.parallel_config
    rank = getattr(parallel, "_api_process_rank", 0)
    return max(int(rank), 0), int(getattr(parallel, "_api_process_count", 1))


def engine_facts(vllm_config: Any) -> dict[str, object]:
    """What the speed of this engine hangs on: its model and how it is run (names and numbers).

    They are compared and shown, never decided by: what another vLLM does not have is left out.
    """
    model, shape = vllm_config.model_config, vllm_config.model_config.hf_text_config
    found: dict[str, object] = {
        "architecture": next(iter(getattr(model, "architectures", None) or []), None),
        "layers": getattr(shape, "num_hidden_layers", None),
        "hidden_size": getattr(shape, "hidden_size", None),
        "intermediate_size": getattr(shape, "intermediate_size", None),
        "attention_heads": getattr(shape, "num_attention_heads", None),
        "vocab_size": getattr(shape, "vocab_size", None),
        "dtype": str(getattr(model, "dtype", "")).removeprefix("torch.") or None,
        "quantization": str(getattr(model, "quantization", None) or "none"),
        "enforce_eager": getattr(model, "enforce_eager", None),
    }
    for part, names in (
        ("scheduler_config", ("max_num_seqs", "max_num_batched_tokens")),
        ("parallel_config", ("tensor_parallel_size",)),
    ):
        config = getattr(vllm_config, part, None)
        found |= {name: getattr(config, name, None) for name in names}
    drafts = getattr(vllm_config, "speculative_config", None)
    # A decode of an engine that drafts computes its drafts too.
    found["drafts"] = getattr(drafts, "num_speculative_tokens", 0)
    found["kv_cache_dtype"] = getattr(vllm_config.cache_config, "cache_dtype", None)
    return {name: value for name, value in found.items() if value is not None}


def engine_facts_of_args(args: Any) -> dict[str, object]:
    """The same of an engine that is not there yet; its configuration is made as vLLM will."""
    from vllm.engine.arg_utils import AsyncEngineArgs

    return engine_facts(AsyncEngineArgs.from_cli_args(args).create_engine_config())


class EngineDiedError(RuntimeError):
    """The engine ended and the server with it: its supervisor should start another."""


def mark_engine_died(args: Any) -> None:
    """Said by the middleware; vLLM's server ends as if all were well. Its arguments are the one
    object that the middleware and `run_openai_server` share."""
    args.scorpio_engine_died = True


def give_own_key(args: Any) -> str:
    """A key for what this server itself starts beside its clients: of this process, drawn anew at
    each start, and in no file or log. The middleware asks for it by `own_key`."""
    args.scorpio_own_key = secrets.token_urlsafe(32)
    return str(args.scorpio_own_key)


def own_key(args: Any) -> str:
    """ "" = there is none."""
    return str(getattr(args, "scorpio_own_key", ""))


def run_openai_server(args: Any) -> None:
    """vLLM's OpenAI server, in this process, until it is told to stop. Same steps as
    `vllm.entrypoints.launchers.api_server.entry.main` and its `run_server`, but for the signals
    during the start: `run_server` turns SIGTERM into KeyboardInterrupt, which then waits for an
    engine that does not listen yet (ours: scorpio/server/launch/starting.py).

    Raises:
        EngineDiedError: it did not end because it was told to.
    """
    import uvloop
    from vllm.entrypoints.launchers.api_server.entry import run_server_worker
    from vllm.entrypoints.launchers.launcher import setup_server
    from vllm.utils.system_utils import decorate_logs

    _check(args)
    decorate_logs("APIServer", skip_if_decorated=True)
    listen_address, sock = setup_server(args, reuse_port=False)
    uvloop.run(run_server_worker(listen_address, sock, args))
    _raise_if_engine_died(args)


def _raise_if_engine_died(args: Any) -> None:
    if getattr(args, "scorpio_engine_died", False):
        raise EngineDiedError("the engine died; its last words are above")


def _check(args: Any) -> None:
    from vllm.logger import configure_logging_from_args

    _either(*_STARTUP, "cli_env_setup")()
    configure_logging_from_args(args)
    _either(*_CLI_ARGS, "validate_parsed_serve_args")(args)


@dataclass(frozen=True, slots=True)
class Processes:
    """Of one server: `api` answer requests, `engines` are engines and what coordinates them. Each
    is one of multiprocessing's."""

    api: Sequence[Any]
    engines: Sequence[Any]


@contextmanager
def several_api_processes(args: Any, run: Callable[..., None]) -> Iterator[Processes]:
    """vLLM's OpenAI server in `args.api_server_count` processes, whose engines are up; in the end
    none of them is left. Same steps as `run_multi_api_server` in vllm/entrypoints/cli/serve.py, but
    for the signals, which are the caller's (scorpio/server/launch/several.py). run: what an API
    process does, in place of `api_process_main`, which it calls."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.entrypoints.launchers.launcher import setup_server
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.utils import bind_engine_zmq_listeners, launch_core_engines
    from vllm.v1.executor import Executor
    from vllm.v1.utils import APIServerProcessManager

    _check(args)
    address, sock = setup_server(args, reuse_port=True)
    engine_args = AsyncEngineArgs.from_cli_args(args)
    _either(*_CLI_ARGS, "propagate_flash_late_interaction")(args, engine_args)
    engine_args._api_process_count, engine_args._api_process_rank = args.api_server_count, -1
    config = engine_args.create_engine_config(usage_context=UsageContext.OPENAI_API_SERVER)
    listeners = bind_engine_zmq_listeners(config, args.api_server_count)
    kind, log_stats = Executor.get_class(config), not engine_args.disable_log_stats
    with launch_core_engines(config, kind, log_stats, listeners.addresses) as launched:
        coordinator, engines = launched.coordinator, launched.engine_manager
        manager = APIServerProcessManager(
            listen_address=address,
            sock=sock,
            args=args,
            num_servers=args.api_server_count,
            input_listeners=listeners.inputs,
            output_listeners=listeners.outputs,
            target_server_fn=run,
            stats_update_address=coordinator and coordinator.get_stats_publish_address(),
            tensor_queue=launched.tensor_queue,
        )
        launched.watched_frontend_processes = manager.processes
    sock.close()  # each API process has its own: when the last one is gone the port is free
    watched = list(getattr(engines, "processes", []))  # none where Ray starts engines
    watched += [coordinator.proc] if coordinator else []
    try:
        yield Processes(manager.processes, watched)
    finally:
        for part in (manager, engines, coordinator):
            if part is not None:
                part.shutdown(timeout=ENGINE_S)


def api_process_main(address: Any, sock: Any, args: Any, *more: Any) -> None:
    """What vLLM's manager runs in each API process, with its arguments. Raises EngineDiedError."""
    from vllm.v1.utils import run_api_server_worker_proc

    run_api_server_worker_proc(address, sock, args, *more)
    _raise_if_engine_died(args)
