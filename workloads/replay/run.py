"""How is a trace sent, with progress, so that nothing is lost? Records go to a file at once.

Ctrl-C at any moment leaves a valid record file (NAME.partial.jsonl).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from workloads.errors import WorkloadError
from workloads.replay.client import replay, server_root
from workloads.replay.request_body import PreparedRequest
from workloads.results.record_files import RecordWriter
from workloads.results.records import RequestRecord

_CHECK_TIMEOUT_S = 10.0
_NICENESS = -10


class ServerUnreachable(WorkloadError):
    """The server did not answer before the run; one line says how it failed."""


def replay_to_file(
    base_url: str,
    prepared: Sequence[PreparedRequest],
    path: Path,
    *,
    timeout_s: float = 600.0,
    retries: int = 0,
    title: str = "replay",
) -> list[RequestRecord]:
    """Replay, with a progress bar on stderr and the records in `path`, written as they come."""
    raise_open_file_limit()
    with (
        RecordWriter(path) as writer,
        preferred_thread(),  # first: the drawing thread inherits it, and may hold the interpreter
        progress_on_stderr(len(prepared), title) as show,
    ):

        def keep(record: RequestRecord) -> None:
            writer.write(record)
            show(record)

        sending = replay(base_url, prepared, timeout_s=timeout_s, retries=retries, on_record=keep)
        return asyncio.run(sending)


async def served_model(base_url: str, headers: dict[str, str] | None = None) -> str:
    """The first model a server offers; also proves that it answers.

    Raises:
        ServerUnreachable: no connection, an HTTP error, or no model.
    """
    url = f"{server_root(base_url)}/v1/models"
    timeout = aiohttp.ClientTimeout(total=_CHECK_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, headers=headers) as response,
        ):
            response.raise_for_status()
            name = (await response.json(content_type=None))["data"][0]["id"]
            if not (isinstance(name, str) and name):
                raise ValueError(f"a model is named {name!r}")
            return name
    except aiohttp.ClientResponseError as error:
        raise ServerUnreachable(f"{url} answered HTTP {error.status}") from None
    except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
        detail = str(error) or f"no answer within {_CHECK_TIMEOUT_S:g} s"
        raise ServerUnreachable(f"no server at {url}: {detail}") from None
    except (ValueError, LookupError, TypeError, RecursionError):
        raise ServerUnreachable(f"{url} lists no model; name one") from None


@contextlib.contextmanager
def progress_on_stderr(total: int, title: str) -> Iterator[Callable[[RequestRecord], None]]:
    """A progress bar that counts ended requests by outcome; yields the function to call."""
    seen: Counter[str] = Counter()
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[outcomes]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        refresh_per_second=2,  # the drawing thread shares the interpreter with the client
    ) as progress:
        task = progress.add_task(title, total=total, outcomes="")

        def show(record: RequestRecord) -> None:
            seen[record.outcome.value.replace("_", " ")] += 1
            outcomes = ", ".join(f"{count} {name}" for name, count in sorted(seen.items()))
            progress.update(task, advance=1, outcomes=outcomes)

        yield show


@contextlib.contextmanager
def preferred_thread() -> Iterator[None]:
    """Let the client run before a server that keeps every core of the same machine busy: it needs
    little time, but on time. Where that is not permitted, its lateness simply tells."""
    usual = os.getpriority(os.PRIO_PROCESS, 0)  # on Linux of the calling thread alone
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, usual)


def raise_open_file_limit() -> None:
    """One open request is one socket; take all the descriptors this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard or hard == resource.RLIM_INFINITY:
        with contextlib.suppress(OSError, ValueError):  # the soft limit then stays as it is
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
