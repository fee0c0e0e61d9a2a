"""A stand-in for the API server: answers /health, and has a child that has a child of its own.

argv: PORT DELAY_S MODE; MODE `polite` ends its children on SIGTERM, `deaf` ignores SIGTERM,
`orphan` leaves without its children, `crash` dies before it is healthy.
"""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import time

GRANDCHILD = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"
CHILD = (
    "import subprocess, sys, time, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    f"subprocess.Popen([sys.executable, '-c', {GRANDCHILD!r}]); time.sleep(300)"
)


class Health(http.server.BaseHTTPRequestHandler):
    """200 on every GET."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()


def main() -> None:
    """Serve until told to stop."""
    port, delay_s, mode = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    if mode == "crash":
        print("cannot allocate the moon")
        sys.exit(7)
    if mode == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", CHILD], start_new_session=mode == "orphan")
    if mode != "deaf":

        def leave(_number: int, _frame: object) -> None:
            if mode == "polite":
                child.kill()
            os._exit(0)

        signal.signal(signal.SIGTERM, leave)
    time.sleep(delay_s)
    http.server.HTTPServer(("127.0.0.1", port), Health).serve_forever()


if __name__ == "__main__":
    main()
