"""Which acts hold for a replica that joins later? It starts as the fleet was started; a policy that
was switched since, the kill switch and LoRA adapters are told it before it takes requests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from scorpio.fleet.exchange import Outgoing

_LOAD, _UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"
_LAST_COUNTS: Final = ("/scorpio/policy", "/scorpio/off")


class StandingActs:
    """Of one front, which passed them on: for as long as it lives."""

    def __init__(self) -> None:
        self._acts: dict[str, Outgoing] = {}

    def __iter__(self) -> Iterator[Outgoing]:
        return iter(tuple(self._acts.values()))

    def done(self, path: str, act: Outgoing) -> None:
        """Every replica has done it."""
        if path in _LAST_COUNTS:
            self._acts[path] = act
        elif path in (_LOAD, _UNLOAD):
            name = f"{_LOAD} {_adapter(act.body)}"
            self._acts.pop(name, None)
            if path == _LOAD:
                self._acts[name] = act


def _adapter(body: bytes) -> str:
    """The replicas have taken it, so it is one."""
    try:
        return str(json.loads(body)["lora_name"])
    except (ValueError, KeyError, TypeError):
        return ""
