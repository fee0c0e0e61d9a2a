"""What does a request ask for, as a router sees it? Its SLO, its size, the beginning of its prompt.

A router does not tokenise: four characters are taken for a token, as long as it sees no token ids.
What is malformed here is answered by the replica that gets it, as on one machine.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from hashlib import blake2b
from typing import Any, Final

from starlette.types import Scope

from scorpio.core.routing.load import UNKNOWN_LENGTH, RoutedRequest
from scorpio.core.slo import NO_SLO, Slo, SloError, parse_ms
from scorpio.server.accounts.terms import Terms
from scorpio.server.quote.route import MOST_TOKENS
from scorpio.server.request.choices import cannot_be_refused
from scorpio.server.request.endpoints import Endpoint
from scorpio.server.request.request_body import parsed
from scorpio.server.request.slo_headers import SloRules, Stated, first_headers, resolve

TOKEN_CHARS: Final = 4
BLOCK_TOKENS: Final = 512  # that a prefix is remembered by
BLOCK_CHARS: Final = BLOCK_TOKENS * TOKEN_CHARS
MOST_BLOCKS: Final = 64  # of one prompt; longer beginnings are not told apart
MOST_PIECES: Final = 4096  # texts of one body that are looked at
MOST_DEPTH: Final = 16
_LENGTHS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_PROMPTS = ("system", "instructions", "tools", "messages", "prompt", "input")


class Reader:
    """Reads the requests of one front. names: of the model that the fleet is for."""

    def __init__(self, terms: Terms, names: Collection[str] = ()) -> None:
        self._terms, self._names = terms, names
        self._numbers = itertools.count()

    def read(self, raw: bytes, scope: Scope, endpoint: Endpoint, now_s: float) -> RoutedRequest:
        """A request that came now. Its key says whose it is; a replica checks whether it may."""
        body: Mapping[str, Any] = {}
        headers, terms = first_headers(scope["headers"]), self._terms
        account = "" if terms.keys is None else terms.keys.account(scope) or ""
        rules = terms.rules_of(terms.tenant_of(account, headers))
        slo, slo_class = rules.book.default, ""
        try:
            if (found := parsed(raw, headers, endpoint)) is not None:
                body, holder = found
                given = holder.get((endpoint.xargs_path or ("",))[-1])
                stated = _stated(headers, body, given, rules, account)
                slo = stated.slo
                slo_class = stated.slo_class or terms.settings.default_class or ""
        except SloError:
            slo = NO_SLO
        read = self._request(body, slo, None if body else len(raw) // TOKEN_CHARS, now_s)
        return replace(read, slo_class=slo_class, model=self._model(body))

    def asked(self, raw: bytes, now_s: float) -> RoutedRequest:
        """A request that a quote is asked for (server/quote/route.py)."""
        body: Mapping[str, Any] = {}
        slo, tokens = NO_SLO, None
        with suppress(ValueError, RecursionError):
            found = json.loads(raw)
            if isinstance(found, dict):
                body = found
                if isinstance(said := body.get("prompt_tokens"), int):
                    tokens = min(max(said, 1), MOST_TOKENS)
                if (tpot := body.get("slo_tpot_ms")) is not None:
                    slo = Slo(tpot_s=parse_ms("slo_tpot_ms", tpot))
        return self._request(body, slo, tokens, now_s)

    def _request(
        self, body: Mapping[str, Any], slo: Slo, tokens: int | None, now_s: float
    ) -> RoutedRequest:
        """tokens: of the prompt, None = as its text says."""
        chars, ids, blocks = _prompt(body)
        return RoutedRequest(
            seq=next(self._numbers),
            arrival_s=now_s,
            prompt_tokens=max(chars // TOKEN_CHARS + ids, 1) if tokens is None else tokens,
            slo=slo,
            expected_output_tokens=_length(body),
            prefix_ids=blocks,
            prefix_block_tokens=BLOCK_TOKENS,
        )

    def _model(self, body: Mapping[str, Any]) -> str:
        named = body.get("model")
        return named if isinstance(named, str) and named not in self._names else ""


def _stated(
    headers: dict[str, str], body: Mapping[str, Any], given: object, rules: SloRules, account: str
) -> Stated:
    xargs = given if isinstance(given, dict) else {}
    return resolve(headers, body, xargs, rules, account, cannot_be_refused(body))


def _length(body: Mapping[str, Any]) -> float:
    said = [body[name] for name in _LENGTHS if isinstance(body.get(name), int)]
    return float(max(min([*said, UNKNOWN_LENGTH]), 1.0))


def _prompt(body: Mapping[str, Any]) -> tuple[int, int, tuple[int, ...]]:
    """Characters, token ids, and the ids of its leading blocks: each stands for all up to there."""
    chars, ids, pending = 0, 0, ""
    blocks: list[int] = []
    chain = blake2b(digest_size=8)
    for piece in itertools.islice(_pieces([body.get(name) for name in _PROMPTS]), MOST_PIECES):
        if isinstance(piece, int):
            ids += piece
            continue
        chars += len(piece)
        if len(blocks) < MOST_BLOCKS:
            pending += piece[: BLOCK_CHARS * MOST_BLOCKS]
            while len(pending) >= BLOCK_CHARS and len(blocks) < MOST_BLOCKS:
                block, pending = pending[:BLOCK_CHARS], pending[BLOCK_CHARS:]
                chain.update(block.encode(errors="replace"))
                blocks.append(int.from_bytes(chain.digest(), "big"))
    return chars, ids, tuple(blocks)


def _pieces(content: object, depth: int = 0) -> Iterator[str | int]:
    """The texts in it, in order; of a list of token ids their number."""
    if depth > MOST_DEPTH:
        return
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        if content and isinstance(content[0], int):
            yield len(content)
            return
        for entry in content:
            yield from _pieces(entry, depth + 1)
    elif isinstance(content, Mapping):
        for name in ("role", "text", "content", "name", "function", "description", "parameters"):
            yield from _pieces(content.get(name), depth + 1)
