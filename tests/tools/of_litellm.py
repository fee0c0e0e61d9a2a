"""Does LiteLLM, as a proxy, go to its next backend when we refuse?"""

from __future__ import annotations

import json
import secrets
import time
import urllib.request

from scorpio.live.host.process import ServerProcess, free_port
from tests.tools.install import tool
from tests.tools.run import Run
from tests.tools.stage import Stage

_START_S = 180.0
LITELLM = """\
model_list:
  - model_name: first
    litellm_params: {{model: hosted_vllm/smollm2, api_base: "{url}/v1", api_key: none,
      extra_headers: {{x-slo-ttft-ms: "1"}}}}
  - model_name: second
    litellm_params: {{model: hosted_vllm/smollm2, api_base: "{url}/v1", api_key: none}}
router_settings:
  num_retries: 0
  fallbacks: [{{first: [second]}}]
"""


def litellm(stage: Stage) -> list[Run]:
    """A proxy whose first backend refuses."""
    config, port = stage.folder / "litellm.yaml", free_port()
    config.write_text(LITELLM.format(url=stage.server.url))
    script = str(tool(stage.venvs, "litellm"))
    command = [script, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    run = Run("LiteLLM as proxy, with a fallback", "litellm --config litellm.yaml")
    run.said = [line.replace(stage.server.url, "http://localhost:8000")
                for line in config.read_text().splitlines()]  # fmt: skip
    key = f"sk-{secrets.token_hex(32)}"
    local = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it asks the internet for prices
        "LITELLM_MASTER_KEY": key,  # it does not start without one
    }
    with ServerProcess(command, url, stage.folder / "litellm.log", local) as proxy:
        _wait_alive(proxy)
        for stream in (False, True):
            run.said.append(_asked(url, key, stream))
    entries = stage.ledger.since()
    run.said += [f"the ledger: {entry.outcome} {entry.reason}".rstrip() for entry in entries]
    return [run]


def _wait_alive(proxy: ServerProcess) -> None:
    """Its /health asks the models; this does not."""
    end_s = time.monotonic() + _START_S
    while time.monotonic() < end_s:
        proxy.check_alive()
        try:
            urllib.request.urlopen(f"{proxy.url}/health/liveliness", timeout=5).close()
            return
        except OSError:
            time.sleep(1.0)
    raise TimeoutError(f"LiteLLM did not start within {_START_S:.0f} s")


def _asked(url: str, key: str, stream: bool) -> str:
    body = {
        "model": "first", "max_tokens": 8, "stream": stream,
        "messages": [{"role": "user", "content": "hello"}],
    }  # fmt: skip
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(),
        {"content-type": "application/json", "authorization": f"Bearer {key}"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()
        fallbacks = answer.headers.get("x-litellm-attempted-fallbacks")
        return (
            f"model first, stream {stream}: {answer.status},"
            f" x-litellm-attempted-fallbacks: {fallbacks}"
        )
