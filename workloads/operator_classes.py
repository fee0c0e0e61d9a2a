"""Which SLOs does an operator's own file give the requests of a trace? `--mix FILE.toml`.

The file is the one that a server is started with (`--slo-config`, docs/configure.md); of it only
`[classes]` and `default_class` are read. A request has the class that its row names, overridden by
the numbers of its row, else the default class; as on the server.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scorpio.core.slo import NO_SLO, Slo, SloBook, SloClass, SloError, parse_ms
from workloads.errors import WorkloadError
from workloads.request import WorkloadRequest, request_of
from workloads.traces.row import TraceRow

_OBJECTIVES = ("ttft_ms", "tpot_ms", "e2el_ms")
_KEYS = (*_OBJECTIVES, "on_miss", "value", "target")


def with_operator_classes(rows: Sequence[TraceRow], path: Path) -> list[WorkloadRequest]:
    """Promises by the file. Raises WorkloadError naming the file and field, or the row."""
    book, default_name = _read(path)
    requests = []
    for index, row in enumerate(rows):
        try:
            slo, name = book.resolve(row.xargs)
        except SloError as error:
            raise WorkloadError(f"{path}: row {index} of the trace: {error}") from None
        requests.append(request_of(index, row, slo, name or default_name))
    if all(math.isinf(min(r.ttft_slo_s, r.tpot_slo_s, r.e2e_slo_s)) for r in requests):
        raise WorkloadError(
            f"{path}: no row of the trace names a class (column slo_class), and there is no"
            " default_class: nothing would be promised"
        )
    return requests


def _read(path: Path) -> tuple[SloBook, str]:
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise WorkloadError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise WorkloadError(f"{path}: not TOML: {error}") from None
    named = table.get("classes")
    if not isinstance(named, dict) or not named:
        raise WorkloadError(f"{path}: has no [classes.NAME]")
    classes = {name: SloClass(name, _slo(path, name, entry)) for name, entry in named.items()}
    default = table.get("default_class")
    if default is not None and default not in classes:
        valid = ", ".join(sorted(classes))
        raise WorkloadError(f"{path}: default_class: {default!r} is not a class; valid: {valid}")
    return SloBook(classes, NO_SLO if default is None else classes[default].slo), default or ""


def _slo(path: Path, name: str, entry: Any) -> Slo:
    where = f"{path}: classes.{name}"
    if not isinstance(entry, dict):
        raise WorkloadError(f"{where}: must be a table")
    unknown = sorted(set(entry) - set(_KEYS))
    if unknown:
        raise WorkloadError(f"{where}: unknown field {unknown[0]!r}; valid: {', '.join(_KEYS)}")
    try:
        ttft_s, tpot_s, e2e_s = (
            parse_ms(key, entry[key]) if key in entry else math.inf for key in _OBJECTIVES
        )
    except SloError as error:
        raise WorkloadError(f"{where}.{error}") from None
    value = entry.get("value", 1.0)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise WorkloadError(f"{where}.value: must be a number > 0, got {value!r}")
    return Slo(ttft_s, tpot_s, e2e_s, value=float(value))
