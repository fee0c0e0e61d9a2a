"""How do new settings come into force while requests are served? The SLO file is read again.

It is checked whole and swapped at once: a request is let in under the old terms or the new ones. A
bad file changes nothing, and says why. Of several API processes of one server each reads the file:
the one that was asked tells the others through `run_dir`.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from scorpio import channel
from scorpio.server.accounts.audit import Act, note
from scorpio.server.accounts.terms import Terms
from scorpio.server.context import ServerContext
from scorpio.settings import SettingsError

logger = logging.getLogger("vllm.scorpio")
PERIOD_S = 1.0


async def try_file(server: ServerContext) -> Mapping[str, Any]:
    """Read the SLO file and change nothing. Returns what a reload would change.

    Raises:
        SettingsError: the file is bad.
    """
    terms = await _read(server, tell_others=False)  # they might take it
    would = {"error": "", "sha256": terms.digest, "needs_restart": list(terms.needs_restart)}
    return {**state(server), **would, "changed": changed(server.terms, terms), "dry_run": True}


async def reload_file(server: ServerContext, tell_others: bool = True) -> Mapping[str, Any]:
    """Read the SLO file again. Returns what is in force now.

    Raises:
        SettingsError: the file is bad; what was in force stays.
    """
    before, terms = server.terms, await _read(server, tell_others)
    server.use(terms, time.time())
    logger.info("Scorpio: SLO file read, sha256 %s", terms.short_digest)
    if terms.needs_restart:
        logger.warning("Scorpio: in force after a restart: %s", ", ".join(terms.needs_restart))
    if tell_others:
        await _tell(server, terms.digest)
    return {
        **state(server),
        "changed": changed(before, terms),
    }


async def _read(server: ServerContext, tell_others: bool) -> Terms:
    """Where it is bad, the next start would fail: that is told even if it was only tried."""
    try:
        return await asyncio.to_thread(server.source.read)
    except SettingsError as error:
        server.reload_error = str(error)
        logger.error("Scorpio: the SLO file was not taken, the old one stays: %s", error)
        if tell_others:
            await _tell(server, "")  # they would take it no more than we have
        raise


def state(server: ServerContext) -> dict[str, Any]:
    """For the status and for answers."""
    return {
        "file": server.settings.slo_config,
        "sha256": server.terms.digest,
        "loaded_unix_s": round(server.last_loaded_unix_s, 3),
        "error": server.reload_error,
        "needs_restart": list(server.terms.needs_restart),
    }


def changed(before: Terms, after: Terms) -> list[str]:
    """Names of the settings that differ."""
    names = type(after.settings).model_fields
    return [n for n in names if getattr(before.settings, n) != getattr(after.settings, n)]


class Reloader:
    """SIGHUP to this process, and the word of its siblings."""

    def __init__(self, server: ServerContext) -> None:
        self._server = server
        self._tasks: set[asyncio.Task[None]] = set()

    def take_signal(self) -> None:
        """From now on SIGHUP reads the SLO file; without one it ends the server as it did."""
        if self._server.settings.slo_config is None:
            return
        with suppress(ValueError, RuntimeError):  # signals are the main thread's
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._hung_up)

    async def run(self) -> None:
        """Follow the other API processes, until cancelled."""
        server, run_dir = self._server, self._server.settings.run_dir
        if server.settings.slo_config is None or run_dir is None:
            return
        while True:
            await asyncio.sleep(PERIOD_S)
            stamp = channel.stamp(run_dir, channel.RELOAD)
            if stamp != server.reload_stamp:
                server.reload_stamp = stamp
                await self._quietly(tell_others=False)

    def _hung_up(self) -> None:
        task = asyncio.get_running_loop().create_task(self._signalled())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _signalled(self) -> None:
        before = self._server.terms.short_digest
        await self._quietly(tell_others=True)
        act = Act("config", before, self._server.terms.short_digest, "SIGHUP")
        await asyncio.to_thread(note, self._server.settings.run_dir, act)

    async def _quietly(self, tell_others: bool) -> None:
        try:
            await reload_file(self._server, tell_others)
        except SettingsError:
            pass  # told in the log and in the status
        except Exception:  # reading must never end, nor take the server with it
            logger.exception("Scorpio: the SLO file could not be read")


async def _tell(server: ServerContext, digest: str) -> None:
    """The other API processes: read it, too."""
    run_dir = server.settings.run_dir
    if run_dir is None:
        return
    try:
        await asyncio.to_thread(channel.write_reload, run_dir, digest)
        server.reload_stamp = channel.stamp(run_dir, channel.RELOAD)
    except OSError as error:
        logger.warning("Scorpio: other API processes were not told: %s", error.strerror)
