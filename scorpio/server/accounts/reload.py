"""How do new settings come into force while requests are served? The SLO file is read again.

It is checked whole and swapped at once: a request is let in under the old terms or the new ones. A
bad file changes nothing, and says why. Of several API processes of one server the one that was
asked reads the file, and the others follow it (agreed.py).
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from typing import Any

from scorpio.server.accounts.agreed import Word
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
    word = await asyncio.to_thread(server.agreement.check)
    terms = word.terms
    if terms is None:
        raise _not_taken(server, word)
    would = {"error": "", "sha256": terms.digest, "needs_restart": list(terms.needs_restart)}
    return {**state(server), **would, "changed": changed(server.terms, terms), "dry_run": True}


async def reload_file(server: ServerContext) -> Mapping[str, Any]:
    """Read the SLO file again. Returns what is in force now.

    Raises:
        SettingsError: the file is bad, or other API processes cannot be told: what was in force
            stays.
    """
    before = server.terms
    word = await asyncio.to_thread(server.agreement.renew)
    if word.terms is None:
        raise _not_taken(server, word)
    _take(server, word)
    return {**state(server), "changed": changed(before, server.terms)}


async def follow(server: ServerContext) -> None:
    """What another API process has said since."""
    word = await asyncio.to_thread(server.agreement.news, server.terms.digest)
    if word is not None:
        _take(server, word)


def _take(server: ServerContext, word: Word) -> None:
    """Unless a newer one came first."""
    if 0 < word.number <= server.word:
        return
    server.word = max(server.word, word.number)
    if (terms := word.terms) is not None:
        server.use(terms, time.time())
        logger.info("Scorpio: SLO file read, sha256 %s", terms.short_digest)
        if terms.needs_restart:
            logger.warning("Scorpio: in force after a restart: %s", ", ".join(terms.needs_restart))
    server.reload_error = word.error


def _not_taken(server: ServerContext, word: Word) -> SettingsError:
    if not 0 < word.number <= server.word:  # it is taken with what counts now, by `follow`
        server.reload_error = word.error
    logger.error("Scorpio: the SLO file was not taken, the old one stays: %s", word.error)
    return SettingsError(word.error)


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
        while self._server.agreement.several:
            await asyncio.sleep(PERIOD_S)
            await _quietly(follow(self._server))

    def _hung_up(self) -> None:
        task = asyncio.get_running_loop().create_task(self._signalled())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _signalled(self) -> None:
        before = self._server.terms.short_digest
        await _quietly(reload_file(self._server))
        act = Act("config", before, self._server.terms.short_digest, "SIGHUP")
        await asyncio.to_thread(note, self._server.settings.run_dir, act)


async def _quietly(work: Awaitable[object]) -> None:
    try:
        await work
    except SettingsError:
        pass  # told in the log and in the status
    except Exception:  # reading must never end, nor take the server with it
        logger.exception("Scorpio: the SLO file could not be read")
