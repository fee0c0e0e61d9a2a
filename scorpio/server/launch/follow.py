"""What if the process that started this server dies? Then this server ends too, at once.

A supervisor that is killed cannot stop what it started, and a server that is left alone holds the
device that the next one needs.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
import time
from contextlib import suppress

from scorpio.server.launch.starting import kill_descendants

logger = logging.getLogger("vllm.scorpio")
VARIABLE = "SCORPIO_FOLLOW_PID"  # of the process to follow; it has to be our parent
HURRY_S = 0.2  # between "drain" and "now": the second signal ends what the first one waits for
GRACE_S = 8.0  # then nothing is waited for


def follow_parent() -> None:
    """From now on, when VARIABLE says so."""
    wanted = os.environ.get(VARIABLE, "")
    if wanted.isdigit():
        follow(int(wanted))


def follow(parent: int) -> None:
    """From now on, this process ends with its parent, which has this pid."""
    handle = None
    with suppress(ProcessLookupError):  # it died this moment
        handle = os.pidfd_open(parent) if os.getppid() == parent else None
    threading.Thread(target=_watch, args=(handle,), daemon=True, name="scorpio-follow").start()


def _watch(handle: int | None) -> None:
    if handle is not None:  # else it is gone already
        select.select([handle], [], [])
    logger.error("Scorpio: the process that started this server is gone, it ends")
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(HURRY_S)
    time.sleep(GRACE_S)
    kill_descendants(os.getpid())
    os.kill(os.getpid(), signal.SIGKILL)
