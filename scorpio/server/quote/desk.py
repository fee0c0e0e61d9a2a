"""What was quoted, to whose request, and did it hold? Quotes are signed, so that each API process
of a server knows those of the others and keeps none; which were taken they tell each other.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scorpio.core.routing.load import Replica, ReplicaLoad, RoutedRequest
from scorpio.core.routing.quote import Quote, Quotes, Span
from scorpio.core.slo import Slo
from scorpio.ledger.files import read_salt
from scorpio.server.shared import Shared

VALID_S = 10.0
_MOST_TAKEN = 4096  # remembered, so that a quote is taken once; the oldest is forgotten first
_SIGNATURE_BYTES = 16
Engines = Callable[[], Mapping[int, Mapping[str, Any]]]


@dataclass(slots=True)
class QuoteDesk:
    """Of one API process. engines: what each has told last (`StatusReader.by_engine`); now_s: the
    wall clock, as engines use it for their load."""

    engines: Engines
    run_dir: str | None
    now_s: Callable[[], float] = time.time
    shared: Shared = field(default_factory=Shared)
    quotes: Quotes = field(default_factory=Quotes)
    given: int = 0
    kept: int = 0
    broken: int = 0
    _rows: dict[int, int] = field(default_factory=dict)
    _taken: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _asked_s: float = -math.inf  # when a quote was last asked for
    _own_key: bytes = field(default_factory=lambda: os.urandom(32))

    def ask(self, prompt_tokens: int, output_tokens: float, tpot_slo_s: float) -> Quote | None:
        """For such a request, sent now; None: no time can be said."""
        self._look()
        self._asked_s = self.now_s()
        found = self.quotes.quote(prompt_tokens, output_tokens, self._asked_s, tpot_slo_s)
        self.given += found is not None
        self._tell()
        return found

    def token(self, quote: Quote, account: str) -> str:
        """What a request shows to take it: within VALID_S, once, of the same account."""
        until_ms = round((self.now_s() + VALID_S) * 1000)
        numbers = (*_in_ms(quote), quote.prompt_tokens, until_ms)
        said = "-".join(format(number, "x") for number in numbers)
        return f"{said}-{self._signature(said, account)}"

    def taken(self, token: str, account: str, slo: Slo) -> Quote | None:
        """The quote that a request with this SLO takes; None: it is no quote of ours, was given to
        another, is over or taken already, or less was quoted than is asked for."""
        said, _, signature = token.rpartition("-")
        # Compared as bytes: a header may hold anything.
        if not hmac.compare_digest(signature.encode(), self._signature(said, account).encode()):
            return None
        low_ms, high_ms, alone_ms, longest_ms, prompt_tokens, until_ms = (
            int(number, 16) for number in said.split("-")
        )
        asked_ms = min(slo.ttft_s, slo.e2e_s) * 1000.0, slo.tpot_s * 1000.0
        if asked_ms[0] < high_ms or asked_ms[1] < longest_ms:
            return None
        if signature in self._taken or until_ms < self.now_s() * 1000.0:
            return None
        self._taken[signature] = None
        if len(self._taken) > _MOST_TAKEN:
            self._taken.popitem(last=False)
        if not self.shared.first(signature):
            return None
        ttft, tpot = Span(low_ms / 1e3, high_ms / 1e3), Span(alone_ms / 1e3, longest_ms / 1e3)
        return Quote(prompt_tokens, ttft, tpot, 0)

    def sent(self, prompt_tokens: int, slo: Slo) -> None:
        """A request goes to the engine, which may not have told of it by the next quote. Of several
        engines it is not known which one gets it. Noted while quotes are asked for, not for ever:
        only a new question looks what the engine has told since."""
        now_s = self.now_s()
        if len(self._rows) == 1 and now_s - self._asked_s <= VALID_S:
            request = RoutedRequest(0, now_s, prompt_tokens, slo)
            self.quotes.sent(next(iter(self._rows.values())), request, now_s)

    def came(self, quote: Quote, ttft_s: float) -> None:
        """Of one that took it; inf: it was refused."""
        self.quotes.came(quote, ttft_s)
        held = quote.ttft.low_s <= ttft_s <= quote.ttft.high_s
        self.kept += held
        self.broken += not held
        self._tell()

    def state(self) -> dict[str, int]:
        """For the status: of all API processes."""
        return {
            name: own + int(self.shared.others(f"quotes {name}"))
            for name, own in self._counts().items()
        }

    def _counts(self) -> dict[str, int]:
        return {"given": self.given, "kept": self.kept, "broken": self.broken}

    def _tell(self) -> None:
        for name, own in self._counts().items():
            self.shared.put(f"quotes {name}", own)

    def _look(self) -> None:
        """What engines have told since. A line that cannot be read is as none."""
        for engine, state in self.engines().items():
            with suppress(KeyError, TypeError, ValueError):
                if engine not in self._rows:
                    self._rows[engine] = self.quotes.add(Replica.from_dict(state["replica"]))
                at_s = float(state["load"]["at_s"])
                self.quotes.report(self._rows[engine], ReplicaLoad.from_dict(state["load"], at_s))

    def _signature(self, said: str, account: str) -> str:
        key = b"" if self.run_dir is None else read_salt(Path(self.run_dir))
        text = f"{said} {account}".encode(errors="surrogateescape")
        made = hashlib.blake2b(text, key=key or self._own_key, digest_size=_SIGNATURE_BYTES)
        return made.hexdigest()


def _in_ms(quote: Quote) -> tuple[int, int, int, int]:
    """Whole milliseconds; what a client asks for is at most as tight as what was forecast."""
    low, high = math.floor(quote.ttft.low_s * 1e3), math.ceil(quote.ttft.high_s * 1e3)
    return low, high, math.floor(quote.tpot.low_s * 1e3), math.ceil(quote.tpot.high_s * 1e3)


def told(quote: Quote, token: str) -> dict[str, Any]:
    """The answer to a client: what it would get, and the headers that take it."""
    low, high, alone, longest = _in_ms(quote)
    return {
        "prompt_tokens": quote.prompt_tokens,
        "ttft_ms": {"low": low, "high": high},
        "tpot_ms": {"low": alone, "high": longest},
        "learned_from": quote.samples,
        "valid_s": VALID_S,
        "headers": {
            "x-slo-ttft-ms": str(high),
            "x-slo-tpot-ms": str(longest),
            "x-scorpio-quote": token,
        },
    }
