"""Do vLLM's own spans of a request carry its SLO? On the real server, with a collector."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.engine_server import OWN_ENGINE_MARKS, serving

pytestmark = OWN_ENGINE_MARKS
BODY = {"model": "tiny", "prompt": "hello", "max_tokens": 2}


@contextmanager
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """Its address, and all that comes to it."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", bodies
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_spans_come_to_the_collector(tmp_path: Path) -> None:
    env = {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf", "OTEL_BSP_SCHEDULE_DELAY": "200"}
    with (
        collector() as (address, bodies),
        serving(tmp_path, "--otlp-traces-endpoint", address, env=env) as server,
    ):
        asked = {"x-llm-d-inference-objective": "interactive"}
        assert server.call("POST", "/v1/completions", BODY, asked)[0] == 200

        def told() -> bool:
            whole = b"".join(bodies)
            wanted = (b"llm_request", b"scorpio.request", b"scorpio.slo.class", b"interactive")
            return all(word in whole for word in wanted)

        server.wait_for(told, "spans")
        # once on our span, and once on vLLM's
        assert b"".join(bodies).count(b"scorpio.slo.class") == 2
