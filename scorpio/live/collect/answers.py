"""How long does this model answer? Runs prompts through a server; writes what `train-length` reads.

Finished answers are appended to `.OUT.<key>.partial`, one whole line each; OUT appears, all at
once, when every prompt has been asked. The key is a digest of the prompts and of how they are
asked: the same command, with any --limit, carries on where it was stopped; others never mix in.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp

from predictors.length.prompts import Prompt
from scorpio.files import write_atomic
from scorpio.http_client import connector
from workloads.replay.client import http_verdict, server_root

TIMEOUT_S = 900.0  # of one answer, waiting included
_ENDED = ("stop", "length")  # by itself or at max_tokens; anything else tells no length
_REFUSED = (400, 413, 422)  # the server will never take this prompt; anything else is an outage
Progress = Callable[[str, float], None]


class CollectionFailed(RuntimeError):
    """It stopped half-way; the message says why. What was answered is kept for the next try."""


@dataclass(frozen=True, slots=True)
class Asking:
    """How prompts are asked. temperatures go round; a prompt's own values come first."""

    model: str
    max_tokens: int
    temperatures: tuple[float, ...] = (1.0,)


@dataclass(frozen=True, slots=True)
class Collected:
    """What there is: rows written, prompts the server refused, rows kept from an earlier try."""

    rows: int
    refused: int
    resumed: int


def partial_path(out: Path, prompts: Sequence[Prompt], asking: Asking) -> Path:
    """Where a collection like this one keeps its answers until it is whole."""
    told = json.dumps([asdict(asking), [asdict(prompt) for prompt in prompts]])
    return out.with_name(f".{out.name}.{hashlib.sha256(told.encode()).hexdigest()[:12]}.partial")


def _earlier(partial: Path) -> dict[int, dict[str, Any]]:
    """Rows of an interrupted try by their line; an incomplete last line is cut off."""
    if not partial.exists():
        return {}
    whole, _, rest = partial.read_bytes().rpartition(b"\n")
    if rest:
        os.truncate(partial, len(whole) + 1 if whole else 0)
    return {row["line"]: row for row in map(json.loads, whole.splitlines())}


async def collect(
    url: str,
    prompts: Sequence[Prompt],
    asking: Asking,
    out: Path,
    *,
    limit: int | None = None,
    concurrency: int = 32,
    progress: Progress | None = None,
) -> Collected:
    """Ask the first `limit` prompts, those that have no answer yet, and write OUT.

    Raises:
        CollectionFailed: the server went away or failed; run it again to carry on.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(out, prompts, asking)
    rows = _earlier(partial)
    resumed = len(rows)
    wanted = prompts[:limit]
    todo = [(i, prompt) for i, prompt in enumerate(wanted) if prompt.line not in rows]
    waiting = iter(todo)
    refused = 0
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector()) as session:
        with partial.open("ab", buffering=0) as file:

            async def work() -> None:
                nonlocal refused
                for i, prompt in waiting:
                    temperature = asking.temperatures[i % len(asking.temperatures)]
                    row = await _ask(session, url, prompt, asking, temperature)
                    if row is None:
                        refused += 1
                    else:
                        rows[prompt.line] = row
                        file.write(json.dumps(row).encode() + b"\n")
                    done = len(rows) + refused
                    if progress is not None and done % 50 == 0:
                        progress(f"{done} of {len(wanted)} answers", done / len(wanted))

            try:
                async with asyncio.TaskGroup() as workers:
                    for _ in range(min(concurrency, len(todo))):
                        workers.create_task(work())
            except ExceptionGroup as group:
                kept = f"{len(rows)} answers are kept in {partial}: run it again to carry on"
                raise CollectionFailed(f"{group.exceptions[0]}; {kept}") from None
    # in the order of the file; a shorter limit than last time leaves out what is beyond it, where
    # only the short answers may have come to their end
    ordered = [rows[prompt.line] for prompt in wanted if prompt.line in rows]
    write_atomic(out, "".join(json.dumps(row) + "\n" for row in ordered))
    partial.unlink()
    return Collected(len(ordered), refused, resumed)


async def _ask(
    session: aiohttp.ClientSession, url: str, prompt: Prompt, asking: Asking, temperature: float
) -> dict[str, Any] | None:
    """One row, or None when the server will never answer this prompt."""
    if prompt.temperature is not None:
        temperature = prompt.temperature
    limit = min(prompt.max_tokens or asking.max_tokens, asking.max_tokens)
    said = [{"role": "system", "content": prompt.system}] if prompt.system else []
    body = {
        "model": asking.model,
        "messages": [*said, {"role": "user", "content": prompt.prompt}],
        "max_tokens": limit,
        "temperature": temperature,
    }
    try:
        address = f"{server_root(url)}/v1/chat/completions"
        async with session.post(address, json=body) as response:
            if response.status in _REFUSED:
                return None
            if response.status != 200:
                verdict = http_verdict(response.status, response.headers, await response.read())
                raise CollectionFailed(f"{url}: {verdict.error or verdict.reject_reason}")
            answer = await response.json()
        choice, usage = answer["choices"][0], answer["usage"]
        ended, prompt_tokens = choice["finish_reason"], int(usage["prompt_tokens"])
        response_tokens = int(usage["completion_tokens"])
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise CollectionFailed(f"{url}: {type(error).__name__} {error}") from None
    except (ValueError, KeyError, IndexError, TypeError):
        raise CollectionFailed(f"{url}: the answer is not a chat completion") from None
    if ended not in _ENDED:
        raise CollectionFailed(f"{url}: an answer ended by {ended!r}")
    row = {
        "line": prompt.line,
        "prompt": prompt.prompt,
        "prompt_tokens": prompt_tokens,
        "response_tokens": response_tokens,
        "finish_reason": ended,
        "model": asking.model,
        "max_tokens": limit,
        "temperature": temperature,
        "system": prompt.system,
        "conversation": prompt.conversation,
        "tenant": prompt.tenant,
    }
    return {key: value for key, value in row.items() if value != ""}
