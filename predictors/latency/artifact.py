"""Where does a measured profile live, and which engine does it belong to? The latency.json file.

The file says what it holds (schema, unit), what it was measured on (model, machine, vLLM) and how
well it fits. Loading another schema or a damaged file is a clear error, never a guess.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from scorpio.core.latency import LatencyProfile
from scorpio.files import write_atomic

SCHEMA = 1
UNIT = "s"


class ProfileFileError(ValueError):
    """A latency.json that cannot be used; the message names the file and the remedy."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the speed of an engine hangs on."""

    cpu: str
    cores: int
    accelerators: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Short stable name of this kind of machine."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class ProfileFile:
    """A profile with its provenance. `fit` is FitReport.to_dict(), `engine` the server's limits."""

    profile: LatencyProfile
    model: str
    machine: Machine
    vllm: str
    created: str
    fit: Mapping[str, object] = field(default_factory=dict)
    engine: Mapping[str, object] = field(default_factory=dict)


def this_machine() -> Machine:
    """CPU model, usable cores, and NVIDIA GPUs if there are any."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
        cpu = found.group(1).strip() if found else cpu
    gpus = []
    for info in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        with contextlib.suppress(OSError):
            found = re.search(r"^Model:\s*(.+)$", info.read_text(), re.M)
            gpus.append(found.group(1).strip() if found else "unknown")
    return Machine(cpu, len(os.sched_getaffinity(0)), tuple(gpus))


def cached_profile_path(cache_dir: Path, model: str, machine: Machine) -> Path:
    """cache_dir/profiles/<model>-<machine digest>.json; a model directory counts by its path."""
    name = Path(model).name or model
    if Path(model).is_dir():
        name += "-" + hashlib.sha256(str(Path(model).resolve()).encode()).hexdigest()[:8]
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name)
    return cache_dir / "profiles" / f"{safe}-{machine.digest}.json"


def write_profile(path: Path, content: ProfileFile) -> None:
    """Write latency.json atomically; its directory is made."""
    raw = {
        "schema": SCHEMA,
        "unit": UNIT,
        "model": content.model,
        "machine": {**asdict(content.machine), "digest": content.machine.digest},
        "vllm": content.vllm,
        "created": content.created,
        "profile": content.profile.to_dict(),
        "fit": dict(content.fit),
        "engine": dict(content.engine),
    }
    write_atomic(path, json.dumps(raw, indent=1, allow_nan=False) + "\n")


def read_profile(path: Path) -> ProfileFile:
    """Load latency.json.

    Raises:
        ProfileFileError: missing, not JSON, another schema or unit, or a wrong field (named).
    """
    try:
        raw = json.loads(path.read_text())
    except OSError as error:
        raise ProfileFileError(f"{path}: cannot read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ProfileFileError(f"{path}: not JSON ({error}); run `scorpio profile` again") from None
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA or raw.get("unit") != UNIT:
        raise ProfileFileError(
            f"{path}: not a latency profile of schema {SCHEMA} in unit {UNIT!r}; "
            "run `scorpio profile` again"
        )
    try:
        machine = raw["machine"]
        return ProfileFile(
            profile=LatencyProfile.from_dict(raw["profile"]),
            model=str(raw["model"]),
            machine=Machine(
                str(machine["cpu"]), int(machine["cores"]), tuple(machine["accelerators"])
            ),
            vllm=str(raw["vllm"]),
            created=str(raw["created"]),
            fit=dict(raw["fit"]),
            engine=dict(raw["engine"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ProfileFileError(
            f"{path}: missing or wrong field: {error}; run `scorpio profile` again"
        ) from None
