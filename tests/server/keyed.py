"""A server with tenants and API keys in its SLO file, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scorpio.server.middleware import ScorpioMiddleware
from scorpio.tenant_settings import key_line
from tests.server.asgi import Client, Reply
from tests.server.fake_vllm import FakeEngine, FakeServer, choice, output, tokens
from tests.server.posting import CHAT, PATH

ACME, BETA = "sk-acme-0123456789abcdef", "sk-beta-0123456789abcdef"
CLASSES = """
[classes.interactive]
ttft_ms = 500
tpot_ms = 50
[classes.batch]
ttft_ms = 60000
"""


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def slo_file(acme: str = "", beta: str = "", top: str = "") -> str:
    """Two tenants with a key each; what else stands in their tables."""
    return (
        f"{top}\n{CLASSES}\n"
        f'[tenants.acme]\nkeys = ["{key_line(ACME)}"]\n{acme}\n'
        f'[tenants.beta]\nkeys = ["{key_line(BETA)}"]\n{beta}\n'
    )


class Keyed:
    """The middleware over a fake vLLM, with an SLO file that may be written again."""

    def __init__(
        self, folder: Path, text: str, answers: int = 40, length: int = 1, **server: Any
    ) -> None:
        self.file = folder / "slo.toml"
        self.file.write_text(text)
        self.run_dir = folder / "run"
        self.run_dir.mkdir(exist_ok=True)
        self.engine = FakeEngine([tokens(length) for _ in range(answers)])
        config = {"slo_config": str(self.file), "run_dir": str(self.run_dir)}
        self.server = FakeServer(self.engine, config | server.pop("config", {}), **server)
        self.middleware = ScorpioMiddleware(self.server)

    @property
    def context(self) -> Any:
        return self.middleware._server({"app": self.server})

    async def call(self, method: str, path: str, body: Any = b"", headers: Any = ()) -> Reply:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await Client(self.middleware, self.server).request(method, path, raw, headers)

    async def chat(self, key: str | None = ACME, path: str = PATH, **body: Any) -> Reply:
        headers = body.pop("headers", {})
        return await self.call(
            "POST", path, CHAT | body, {**({} if key is None else bearer(key)), **headers}
        )

    @property
    def told(self) -> dict[str, Any]:
        """What the engine heard of the last request."""
        return dict(self.engine.params[-1].extra_args or {})


__all__ = ["ACME", "BETA", "Keyed", "bearer", "choice", "output", "slo_file"]
