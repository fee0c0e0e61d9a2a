"""What was run? DIR/manifest.json: all that results hang on, by value or digest. Needs no vLLM.

Runs are added to a directory only by what made it: the same loads, engine and policies, and the
same code. So a comparison that was stopped goes on, and two are never mixed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from scorpio.core.registry import policy_names, policy_options
from scorpio.files import write_atomic
from scorpio.studies.compare_spec import CompareSpec
from scorpio.versions import code_digest, commit, versions
from workloads.errors import WorkloadError
from workloads.load import LoadKey

SCHEMA = 1
FILE = "manifest.json"
_RESULTS = ("summary.json", "records", "timelines")
_COMPARED = ("asked", "code")

Manifest = Mapping[str, Any]


def manifest_of(spec: CompareSpec) -> Manifest:
    """Plain JSON values. Raises WorkloadError."""
    config = spec.config()
    shown: dict[str, Any] = {
        "schema": SCHEMA,
        "command": spec.command,
        "versions": versions(),
        "commit": commit(),
        "code": {"digest": code_digest()},
        "asked": {
            "trace": spec.trace,
            "rows": spec.rows,
            "reading": asdict(spec.reading),
            "mix": spec.mix,
            "loads": [_load(load) for load in spec.workloads()],
            "policies": {name: _options(name, config.policy_options) for name in spec.policies},
            "gpu": {"name": spec.gpu, **asdict(config.gpu)},
            "engine": asdict(config.engine),
            "noise": asdict(config.noise),
            "lengths": asdict(config.lengths),
            "profile": None if config.profile is None else config.profile.to_dict(),
            "profile_bias": config.profile_bias,
            "exact_max_tokens": config.exact_max_tokens,
            "max_tokens": config.max_tokens,
            "clients": asdict(config.clients),
            "bound": spec.bound,
            "tune": None if spec.tune is None else asdict(spec.tune),
            **({"log_decisions": True} if spec.log_decisions else {}),
        },
    }
    found: Manifest = _plain(shown)
    return found


def check_directory(out: Path, manifest: Manifest) -> None:
    """May results of this comparison be written there? Nothing is made. Raises WorkloadError."""
    path = out / FILE
    if not path.exists():
        found = [name for name in _RESULTS if (out / name).exists()]
        if found:
            raise WorkloadError(
                f"--out: {out} has a {found[0]} but no {FILE} that says what it is of;"
                " name another directory, or empty it"
            )
        return
    try:
        there = json.loads(path.read_text())
        differ = sorted(
            name if part == "asked" else "the code of Scorpio"
            for part in _COMPARED
            for name in {*there[part], *manifest[part]}
            if there[part].get(name) != manifest[part].get(name)
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise WorkloadError(f"{path}: not a readable manifest: {error}") from None
    if differ:
        raise WorkloadError(
            f"--out: {out} has results of another comparison, which differs in"
            f" {', '.join(differ)}; name another directory, or empty it"
        )


def write_manifest(out: Path, manifest: Manifest) -> None:
    """DIR/manifest.json; the first command's stays. Raises WorkloadError for another one's."""
    check_directory(out, manifest)
    if not (out / FILE).exists():
        write_atomic(out / FILE, json.dumps(manifest, indent=1, allow_nan=False) + "\n")


def _load(load: LoadKey) -> dict[str, Any]:
    """The requests themselves: whatever file they are from, and however it was read."""
    requests = load.requests()
    digest = sha256()
    for request in requests:
        digest.update(repr(request).encode())
    return {
        "rate_scale": load.rate_scale,
        "seed": load.seed,
        "requests": len(requests),
        "digest": digest.hexdigest(),
    }


def _options(name: str, given: Mapping[str, Mapping[str, float]]) -> Mapping[str, float]:
    mine = given.get(name, {})
    return policy_options(name, mine) if name in policy_names() else mine


def _plain(value: Any) -> Any:
    """As it comes back from JSON, which knows neither infinity nor tuples."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
