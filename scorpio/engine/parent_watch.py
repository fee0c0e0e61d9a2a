"""When does the engine end? When its server says so, or is killed: then no one is left to ask it.

vLLM's workers watch their engine, its engine does not watch its server: left alone it would hold
the memory of the device that the next server needs.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from multiprocessing import connection

logger = logging.getLogger("vllm.scorpio")
ENGINE = "EngineCore"  # how vLLM names that process
GRACE_S = 5.0  # to give up the device by itself


def follow_server() -> None:
    """From now on. Does nothing outside vLLM's engine process (tests, the twin)."""
    parent = multiprocessing.parent_process()
    if parent is None or not multiprocessing.current_process().name.startswith(ENGINE):
        return
    if threading.current_thread() is threading.main_thread():
        # Ctrl-C goes to the whole group of a terminal, and the server still has requests to finish.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(
        target=_watch, args=(parent.sentinel,), daemon=True, name="scorpio-parent-watch"
    ).start()


def _watch(sentinel: int) -> None:
    connection.wait([sentinel])
    logger.error("Scorpio: the API process is gone, the engine ends")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)
