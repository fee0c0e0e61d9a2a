"""Which workload does a name mean? Catalog entries, trace files, and the requests they become.

An entry is a TOML file beside mixes.toml: `synthetic` (parameters, always there) or `external`
(a published trace that is not ours to ship: looked for in $SCORPIO_DATA, then in ../shared/data
beside the project). A path to a trace, or to a synthetic TOML file of one's own, works as well.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workloads.errors import TRACE_DOCS, MissingTraceError, UnknownName, WorkloadError
from workloads.mixes import MIXES_FILE, Mix, get_mix, mix_names
from workloads.operator_classes import with_operator_classes
from workloads.request import WorkloadRequest, with_mix, with_own_slos
from workloads.synthetic.generate import Synthetic, from_table, synthetic_rows
from workloads.traces.intake import Intake, read_intake
from workloads.traces.json_lines import states_slos
from workloads.traces.reading import AS_IT_SAYS, Reading
from workloads.traces.row import TraceRow, parse_rows, rebased, slice_rows, with_unique_hash_ids
from workloads.traces.row import rate_scale as scale_rate

__all__ = [
    "DATA_VARIABLE",
    "TRACE_MIX",
    "UnknownName",
    "WorkloadRequest",
    "load_workload",
    "workload_names",
]

CATALOG = MIXES_FILE.parent
DATA_VARIABLE = "SCORPIO_DATA"
DEFAULT_MIX = "six"
TRACE_MIX = "trace"  # the SLOs that the trace itself states
SYNTHETIC, EXTERNAL = "synthetic", "external"


@dataclass(frozen=True, slots=True)
class External:
    """A published trace, by the file names it goes under; the first one found is read."""

    files: tuple[str, ...]
    source: str
    instead: str
    spread_tick_s: float = 0.0
    unique_prefixes: bool = False


def workload_names() -> list[str]:
    """Names in the catalog, sorted."""
    return sorted(path.stem for path in CATALOG.glob("*.toml") if path != MIXES_FILE)


def load_workload(
    name_or_path: str,
    rows: str | None = None,
    rate_scale: float = 1.0,
    seed: int = 0,
    mix: str = "six",
    reading: Reading = AS_IT_SAYS,
) -> list[WorkloadRequest]:
    """Requests of a workload, the first one sent at zero.

    Args:
        name_or_path: a catalog name, a trace file of any known kind, or a synthetic TOML file.
        rows: "A:B", a window of it; a synthetic workload goes on as far as is asked.
        rate_scale: multiplies the arrival rate (a burst gets shorter and higher).
        seed: draws synthetic rows, the spread of quantised clocks, and the class of each request.
        mix: a mix of the catalog, `trace` for the SLOs stated in the trace itself, or a TOML file
            with the classes that its rows name (an operator's `--slo-config`).
        reading: what the user says of the units of a file of one's own.

    Raises:
        UnknownName: no such workload or mix; the message lists the valid ones.
        WorkloadError: anything else that is wrong, as one line.
    """
    if seed < 0:
        raise WorkloadError(f"seed must be >= 0, got {seed}")
    own = Path(mix) if mix.endswith(".toml") else None
    found_mix = None if own or mix == TRACE_MIX else _mix(mix)
    window = rebased(scale_rate(_rows(name_or_path, rows, seed, reading), rate_scale))
    if own is not None:
        return with_operator_classes(window, own)
    return with_own_slos(window) if found_mix is None else with_mix(window, found_mix, seed)


def default_mix(name_or_path: str) -> str | None:
    """`six` for what is in the catalog or synthetic; `trace` for a log in our own form whose rows
    state their SLOs, as `scorpio record` writes it; None for any other log: what its requests were
    promised is not for us to make up."""
    path = Path(name_or_path)
    is_log = name_or_path not in workload_names() and path.suffix != ".toml" and path.is_file()
    if not is_log:
        return DEFAULT_MIX
    return TRACE_MIX if states_slos(path) else None


def _mix(name: str) -> Mix:
    if name not in mix_names():
        raise UnknownName("mix", name, [*mix_names(), TRACE_MIX], "; or a file NAME.toml")
    return get_mix(name)


def trace_notice(
    name_or_path: str, rows: str | None, seed: int = 0, reading: Reading = AS_IT_SAYS
) -> list[str]:
    """What was read of a trace file, in which units, and what was dropped, for people; nothing for
    a synthetic workload. Raises WorkloadError."""
    found = _resolved(name_or_path, rows, seed, reading)
    return found.lines(name_or_path) if isinstance(found, Intake) else []


def _rows(name_or_path: str, selection: str | None, seed: int, reading: Reading) -> list[TraceRow]:
    found = _resolved(name_or_path, selection, seed, reading)
    if isinstance(found, Synthetic):
        return _draw(found, selection, seed)
    entry = read_entry(name_or_path) if name_or_path in workload_names() else None
    unique = isinstance(entry, External) and entry.unique_prefixes
    return with_unique_hash_ids(found.rows, replace_all=True) if unique else list(found.rows)


def _resolved(
    name_or_path: str, selection: str | None, seed: int, reading: Reading
) -> Synthetic | Intake:
    """What a name means: parameters to draw from, or a file, read."""
    path = Path(name_or_path)
    in_catalog = name_or_path in workload_names()
    if (in_catalog or path.suffix == ".toml") and reading != AS_IT_SAYS:
        raise WorkloadError(
            f"'{name_or_path}' says its own units: --time-unit, --block-tokens and"
            " --spread-tick-s are for trace files"
        )
    if in_catalog:
        entry = read_entry(name_or_path)
        if isinstance(entry, Synthetic):
            return entry
        own = Reading(spread_tick_s=entry.spread_tick_s)
        return read_intake(_found(name_or_path, entry), selection, own, seed)
    if not path.is_file():
        hint = f"; files: {TRACE_DOCS}"
        raise UnknownName("trace or file", name_or_path, workload_names(), hint)
    if path.suffix == ".toml":
        drawn = _entry(path)
        if not isinstance(drawn, Synthetic):
            raise WorkloadError(f"{path}: kind must be '{SYNTHETIC}'")
        return drawn
    return read_intake(path, selection, reading, seed)


def _draw(spec: Synthetic, selection: str | None, seed: int) -> list[TraceRow]:
    end = parse_rows(selection)[1] if selection is not None else None
    return slice_rows(synthetic_rows(spec, end or spec.requests, seed), selection)


def _found(name: str, entry: External) -> Path:
    path = find_data(entry.files)
    if path is None:
        raise MissingTraceError(
            f"workload '{name}' needs the file {' or '.join(entry.files)} in the directory "
            f"${DATA_VARIABLE}: get it from {entry.source}, or use '{entry.instead}'"
        )
    return path


def find_data(files: tuple[str, ...]) -> Path | None:
    """The first of these files in a data directory, at its place or at the top."""
    roots = [Path(__file__).parents[1] / ".." / "shared" / "data"]
    if os.environ.get(DATA_VARIABLE):
        roots.insert(0, Path(os.environ[DATA_VARIABLE]))
    places = (root / part for root in roots for file in files for part in (file, Path(file).name))
    return next((place for place in places if place.is_file()), None)


def read_entry(name: str) -> Synthetic | External:
    """The parameters of a catalog entry. Raises UnknownName."""
    if name not in workload_names():
        raise UnknownName("trace", name, workload_names())
    return _entry(CATALOG / f"{name}.toml")


def _entry(path: Path) -> Synthetic | External:
    try:
        table = _with_base(path)
        kind = table.pop("kind", None)
        table.pop("about", None)
        if kind == SYNTHETIC:
            return from_table(table)
        if kind == EXTERNAL:
            table["files"] = tuple(table["files"])
            return External(**table)
        raise WorkloadError(f"kind must be '{SYNTHETIC}' or '{EXTERNAL}', got {kind!r}")
    except (KeyError, TypeError, ValueError) as error:
        raise WorkloadError(f"{path}: {error}") from None


def _with_base(path: Path) -> dict[str, Any]:
    """A TOML table laid over its `base` entry: tables merge key by key, [arrivals] as a whole."""
    with path.open("rb") as file:
        table = tomllib.load(file)
    name = table.pop("base", None)
    if name is None:
        return table
    if name not in workload_names():
        raise UnknownName("base", str(name), workload_names())
    merged = _with_base(CATALOG / f"{name}.toml")
    for key, stated in table.items():
        value, inherited = stated, merged.get(key)
        if isinstance(value, dict) and isinstance(inherited, dict) and key != "arrivals":
            value = {**inherited, **value}
        merged[key] = value
    return merged
