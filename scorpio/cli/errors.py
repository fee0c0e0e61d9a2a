"""Which errors are the user's to fix, and what is printed for them? One line, and an exit code.

2: asked for something that is not there or malformed (nothing was written). 1: it was tried and
failed. 3: it ran and the results are written, but requests failed, a run is void
or no fleet is enough. Errors that are not in the table are bugs and keep their traceback.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import typer

USAGE, FAILED, INCOMPLETE = 2, 1, 3
# By name: importing every one of these modules for an error that did not happen costs a second.
_TABLE = {
    ("workloads.errors", "WorkloadError"): USAGE,
    ("workloads.errors", "NotAllAnswered"): INCOMPLETE,
    ("workloads.errors", "NoFleetFound"): INCOMPLETE,
    ("workloads.replay.run", "ServerUnreachable"): FAILED,
    ("scorpio.ledger.files", "LedgerError"): USAGE,
    ("scorpio.server.launch.mistakes", "ServeError"): USAGE,
    ("scorpio.server.vllm_api", "EngineDiedError"): FAILED,
    ("scorpio.settings", "SettingsError"): USAGE,
    ("scorpio.fleet.on_ray", "NoRayError"): USAGE,
    ("predictors.latency.artifact", "ProfileFileError"): USAGE,
    ("predictors.latency.samples", "StepFileError"): FAILED,
    ("predictors.latency.fit", "FitError"): FAILED,
    ("predictors.latency.profile", "ProbeError"): FAILED,
    ("scorpio.live.profile.record", "NotRecordingError"): FAILED,
    ("scorpio.live.host.process", "ServerFailedError"): FAILED,
    ("scorpio.live.collect.answers", "CollectionFailed"): FAILED,
    ("scorpio.live.control.admin", "AdminError"): FAILED,
    ("scorpio.twin.pool", "JobFailed"): FAILED,
    ("scorpio.models.errors", "ModelUnavailable"): FAILED,
    ("scorpio.models.errors", "DamagedModel"): FAILED,
}


class UsageError(ValueError):
    """Asked for something that does not exist; the message names what does."""


def exit_code(error: BaseException) -> int | None:
    """The exit code of a known error, None for a bug."""
    for kind in type(error).__mro__:
        code = _TABLE.get((kind.__module__, kind.__qualname__))
        if code is not None:
            return code
    return USAGE if isinstance(error, UsageError) else None


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a known error into `scorpio: MESSAGE` on stderr and its exit code."""
    try:
        yield
    except KeyboardInterrupt:
        print("scorpio: stopped by the user", file=sys.stderr)
        raise typer.Exit(130) from None
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        print(f"scorpio: {error}", file=sys.stderr)
        raise typer.Exit(code) from None
