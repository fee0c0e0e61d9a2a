"""How is the policy turned off by hand? A file says so to the engines (`ScorpioSettings.off_path`);
an admin act and SIGUSR2 write it, and so may people.

It is no switch to another policy: whatever is switched meanwhile, every step is stock vLLM's until
the file is gone, also after a restart.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from scorpio.files import write_private
from scorpio.server.accounts.audit import Act, note
from scorpio.server.answers import Answer, error_answer, json_answer
from scorpio.server.context import ServerContext

logger = logging.getLogger("vllm.scorpio")
OFF_PATH = "/scorpio/off"
METHODS = ("PUT", "DELETE")
_NO_PLACE = "no run_dir and no off_file: start with `scorpio serve`, or give one of them"


def is_off(server: ServerContext) -> bool:
    """Is the policy off by hand?"""
    path = server.settings.off_path()
    return path is not None and path.exists()


def state(server: ServerContext) -> str:
    """For the audit."""
    return "off" if is_off(server) else "on"


def turn(server: ServerContext, off: bool) -> Answer:
    """PUT or DELETE /scorpio/off."""
    path = server.settings.off_path()
    if path is None:
        return error_answer(409, _NO_PLACE)
    try:
        _write(path) if off else path.unlink(missing_ok=True)
    except OSError as error:
        return error_answer(409, f"{path} cannot be changed: {error.strerror}")
    said = "each step is stock vLLM's" if off else "the policy decides"
    told = {"off": off, "file": str(path), "note": f"from the engine's next step on {said}"}
    return json_answer(200, told)


def _write(path: Path) -> None:
    write_private(path, f"off since {datetime.now(UTC).isoformat(timespec='seconds')}\n")


class OffSignal:
    """SIGUSR2 to this process turns the policy off. Sent again it does not turn it on."""

    def __init__(self, server: ServerContext) -> None:
        self._server = server
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self) -> None:
        """From now on; without a place for the file the signal ends the server as it did."""
        if self._server.settings.off_path() is None:
            return
        with suppress(ValueError, RuntimeError):  # signals are the main thread's
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, self._came)

    def _came(self) -> None:
        task = asyncio.get_running_loop().create_task(self._turn_off())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _turn_off(self) -> None:
        server = self._server
        before = state(server)
        answer = await asyncio.to_thread(turn, server, True)
        if answer.status != 200:
            logger.error("Scorpio: the policy was not turned off: %s", answer.body.decode())
        act = Act("off", before, state(server), "SIGUSR2")
        await asyncio.to_thread(note, server.settings.run_dir, act)
