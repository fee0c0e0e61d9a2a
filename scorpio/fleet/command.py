"""How does one command become a fleet? `scorpio serve MODEL --replicas N`: Ray is started here, or
found at an address, and the fleet on it; both end with this command."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException
from itertools import pairwise
from urllib.request import urlopen

from scorpio.fleet.app import build_app
from scorpio.fleet.on_ray import ray, serve
from scorpio.fleet.settings import FleetSettings
from scorpio.server.launch.mistakes import ServeError
from scorpio.server.launch.serve_args import is_cpu_build
from scorpio.server.state.health import HEALTH_PATH
from scorpio.server.vllm_api import EngineDiedError

Say = Callable[[str], None]
APP = "scorpio"
LOCAL = "local"
MEET_S = 20.0
LOOK_S = 5.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Two engines that bind their threads to the same cores wait for each other.
_CPU_ENV = {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}


def serve_fleet(wanted: FleetSettings, host: str | None, port: int, address: str, say: Say) -> None:
    """Until SIGINT or SIGTERM. address: "local", or of a cluster of Ray's.

    Raises:
        ServeError: it cannot be started as asked. NoRayError. EngineDiedError: Ray died here.
    """
    settings = placed(wanted, address == LOCAL)
    _connect(settings, address)
    died = False
    try:
        with _until_told():
            all_of_them = settings.replicas + settings.extra
            beside = f" and {settings.extra} of {settings.fallback_name}" * bool(settings.extra)
            say(f"starting {settings.replicas} replicas of {settings.model}{beside}")
            _start(settings, host, port)
            say(f"{all_of_them} replicas at http://{host or '0.0.0.0'}:{port}")
            if address == LOCAL:
                _wait_for_the_end()
                died = True
            else:
                threading.Event().wait()
    finally:
        if not died:
            say("draining")
            if address == LOCAL:
                serve().shutdown()
            else:
                serve().delete(APP)
        ray().shutdown()
    if died:
        raise EngineDiedError("Ray died on this machine, and with it the fleet")


def _wait_for_the_end() -> None:
    """Of the Ray that was started here. What started it lives on without it, and serves nothing."""
    while any(node["Alive"] for node in ray().nodes()):
        time.sleep(LOOK_S)


def placed(settings: FleetSettings, local: bool) -> FleetSettings:
    """What each replica may take: of this machine's cores, when it is one machine without GPUs."""
    if not is_cpu_build():
        own = settings.gpus_per_replica
        told: dict[str, object] = {"gpus_per_replica": own or float(_gpus(settings.serve_args))}
        if (one := settings.fallback) is not None:
            words = [*settings.serve_args, *one.serve_args]
            gpus = one.gpus_per_replica or own or float(_gpus(words))
            told["fallback"] = one.model_copy(update={"gpus_per_replica": gpus})
        return settings.model_copy(update=told)
    if not local:
        return settings
    threads = max((os.cpu_count() or 1) // (settings.most + settings.extra), 1)
    chosen = {"OMP_NUM_THREADS": str(threads), **_CPU_ENV}
    env = {k: v for k, v in chosen.items() if k not in os.environ} | settings.env
    return settings.model_copy(update={"env": env})


def _gpus(serve_args: Sequence[str]) -> int:
    """That an engine with these arguments takes."""
    found = 1
    names = ("--tensor-parallel-size", "--pipeline-parallel-size", "--data-parallel-size")
    short = dict(zip(("-tp", "-pp", "-dp"), names, strict=True))
    words = [word for arg in serve_args for word in arg.split("=", 1)]
    sizes = {short.get(w, w.replace("_", "-")): v for w, v in pairwise(words)}
    for name in names:
        if (size := sizes.get(name, "1")).isdigit():
            found *= int(size)
    return found


def _connect(settings: FleetSettings, address: str) -> None:
    quiet = {"logging_level": "WARNING", "log_to_driver": False, "namespace": APP}
    if address != LOCAL:
        try:
            ray().init(address=address, **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ServeError(f"--ray-address {address}: {error}") from None
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # engines are not batch work
    cores = max(
        os.cpu_count() or 1, int((settings.most + settings.extra) * settings.cpus_per_replica) + 1
    )
    ray().init(address=LOCAL, num_cpus=cores, include_dashboard=False, **quiet)


def _start(settings: FleetSettings, host: str | None, port: int) -> None:
    serve().start(http_options={"host": host or "0.0.0.0", "port": port})
    app = build_app(settings.model_dump(mode="json"))
    logs = serve().schema.LoggingConfig(enable_access_log=False, log_level="WARNING")
    try:
        serve().run(app, name=APP, route_prefix="/", logging_config=logs)
    except RuntimeError as error:
        raise ServeError(f"the fleet did not start: {error}") from None
    _wait_until_met(
        f"http://{host or '127.0.0.1'}:{port}{HEALTH_PATH}", settings.replicas + settings.extra
    )


def _wait_until_met(url: str, replicas: int) -> None:
    """Until the front has heard from every replica; not for ever, one may have died again."""
    end_s = time.monotonic() + MEET_S
    while time.monotonic() < end_s:
        with suppress(OSError, HTTPException), urlopen(url, timeout=2.0) as answer:
            if json.load(answer)["replicas"] >= replicas:
                return
        time.sleep(0.2)


class _Told(BaseException):
    """A signal came: this command ends."""


@contextmanager
def _until_told() -> Iterator[None]:
    """SIGINT, SIGTERM or SIGHUP end the block, at any place of it. Further ones change nothing:
    replicas end within their time to drain."""

    def leave(_number: int, _frame: object) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise _Told

    for number in _SIGNALS:
        signal.signal(number, leave)
    with suppress(_Told):
        yield
