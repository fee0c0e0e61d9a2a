"""What stands in the log after the engine died of an error of the model? No word of a client."""

from __future__ import annotations

from pathlib import Path

import pytest

from scorpio.live.host.process import ServerFailedError
from tests.engine_server import MODEL, OWN_ENGINE_MARKS, EngineServer, serve_tiny
from tests.fuzz.bodies import CANARY
from tests.fuzz.crashing import CRASH
from tests.fuzz.leaks import canaries_left

pytestmark = OWN_ENGINE_MARKS
BODY = {
    "model": MODEL,
    "prompt": f"{CANARY} hello",
    "max_tokens": 3,
    "user": CANARY,
    "stop": [CANARY],
    "bad_words": [CANARY],
    "structured_outputs": {"regex": f"({CANARY})?[a-z]{{1,9}}"},
}


def test_no_word_of_clients_is_in_the_log_of_a_dead_engine(tmp_path: Path) -> None:
    with serve_tiny(tmp_path, "scorpio", "--worker-cls", "tests.fuzz.crashing.Crashing") as server:
        xargs = {"other": f"{CANARY}-xargs", "slo_ttft_ms": 60_000}
        assert _post(server, BODY | {"vllm_xargs": xargs}) == 200
        assert _post(server, BODY | {"vllm_xargs": xargs | {CRASH: 1}}) == 500
        with pytest.raises(ServerFailedError, match="ended"):
            server.wait_for(lambda: False, "its end")
        log = server.process.log_path.read_text(errors="replace")
        assert "Dumping scheduler output" in log
        assert "prompt_token_ids_len" in log
        assert canaries_left(server) == []


def _post(server: EngineServer, body: dict[str, object]) -> int:
    return server.call("POST", "/v1/completions", body, {"authorization": f"Bearer {CANARY}"})[0]
