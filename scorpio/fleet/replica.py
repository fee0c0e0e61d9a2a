"""What is one replica? A process of `scorpio serve`, as on one machine, kept by an actor of Ray.

The actor starts the server, says where it is, looks after its health and lets it drain. It is not
in the path of requests, so what Ray does to an actor costs no token.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout

from scorpio.fleet.ended import begin
from scorpio.fleet.on_ray import ray, serve
from scorpio.fleet.registry import BEAT_S, registry_of
from scorpio.fleet.scaling import WANTED
from scorpio.fleet.settings import FleetSettings, fleet_settings
from scorpio.live.host.process import ServerProcess, free_port
from scorpio.server.launch.follow import VARIABLE
from scorpio.server.state.health import HEALTH_PATH
from scorpio.server.state.load import LOAD_PATH

HEALTH_S = 4.0
STOP_S = 10.0  # beyond the time to drain
_LOCAL = "127.0.0.1"
_SILENT = "silent"
_LOG_FLAG = "--disable-access-log-for-endpoints"


class EngineReplica:
    """A deployment of Ray Serve: one of these for each replica."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, raw: dict[str, Any], fallback: bool = False
    ) -> None:
        settings = fleet_settings(raw)
        self._fallback = fallback
        self._app, self._name, host = _context()
        self._drain_s = settings.drain_s
        port = free_port()
        self._url = f"http://{host}:{port}"
        log = (settings.log_dir or Path(gettempdir()) / "scorpio-fleet") / f"{self._name}.log"
        command = [sys.executable, "-m", "scorpio", "serve", settings.model]
        command += [*_options(settings), "--host", host, "--port", str(port)]
        if settings.run_dir is not None:
            folder = settings.run_dir / self._name
            self._folder = begin(folder)
            command += ["--run-dir", str(folder)]
        env = {VARIABLE: str(os.getpid()), **settings.env}
        self._server = ServerProcess(command, self._url, log, env)
        self._server.start()
        try:
            await asyncio.to_thread(self._server.wait_healthy, settings.start_s)
        except BaseException:
            await asyncio.to_thread(self._server.stop)
            raise
        self._beating = asyncio.create_task(self._beat())

    async def _beat(self) -> None:
        while True:
            with contextlib.suppress(Exception):  # the registry is being restarted
                await registry_of(self._app).beat.remote(self._name, self._url, self._fallback)
            await asyncio.sleep(BEAT_S)

    async def check_health(self) -> None:
        """Asked by Ray Serve, which replaces a replica that raises a few times in a row."""
        self._server.check_alive()
        said = await self._state()
        if said not in ("ok", "draining"):
            raise RuntimeError(f"the engine is {said}")

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Asked by Ray Serve when replicas follow promises: what the fronts want."""
        wanted = await registry_of(self._app).wanted.remote()
        return {} if wanted is None else {WANTED: float(wanted)}

    async def __del__(self) -> None:
        """Taken away: the fronts send nothing new, what is in work is finished."""
        if not hasattr(self, "_beating"):
            return
        self._beating.cancel()
        with contextlib.suppress(Exception):
            await registry_of(self._app).leave.remote(self._name)
        hung = await self._state() == _SILENT
        await asyncio.to_thread(self._server.stop, 0.0 if hung else self._drain_s + STOP_S)

    async def _state(self) -> str:
        """What the server says of itself."""
        try:
            async with (
                ClientSession(timeout=ClientTimeout(total=HEALTH_S)) as session,
                session.get(self._url + HEALTH_PATH) as response,
            ):
                return str((await response.json())["status"])
        except (ClientError, TimeoutError, OSError, ValueError):
            return _SILENT


def _options(settings: FleetSettings) -> list[str]:
    options = [*settings.serve_args, "--shutdown-timeout", str(int(settings.drain_s))]
    if not any(arg.startswith(_LOG_FLAG) for arg in settings.serve_args):
        options += [_LOG_FLAG, ",".join((LOAD_PATH, HEALTH_PATH))]  # asked for all the time
    if settings.slo_config is not None:
        options += ["--slo-config", str(settings.slo_config)]
    return options


def _context() -> tuple[str, str, str]:
    """The application's name, the replica's, and the address at which other nodes find it."""
    context = serve().get_replica_context()
    nodes = [node for node in ray().nodes() if node["Alive"]]
    host = _LOCAL if len(nodes) == 1 else ray().util.get_node_ip_address()
    return context.app_name, context.replica_id.unique_id, host
