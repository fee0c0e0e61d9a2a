"""Are the files in this model directory exactly the ones that were put there?

`manifest.json` is written last and lists every file with size and SHA-256. The cheap check (names
and sizes) runs on each use; the full one reads every byte, after conversion and on request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from scorpio.models.digest import file_sha256
from scorpio.models.errors import DamagedModel

MANIFEST_NAME = "manifest.json"
SCHEMA = 1


def write_manifest(directory: Path, source: Mapping[str, str]) -> None:
    """List the files of `directory`; `source` says what they were made from."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in sorted(directory.iterdir())
        if path.name != MANIFEST_NAME
    }
    body = {"schema": SCHEMA, "source": dict(source), "files": files}
    (directory / MANIFEST_NAME).write_text(json.dumps(body, indent=2, sort_keys=True) + "\n")


def check_manifest(directory: Path, *, full: bool = False) -> None:
    """Raise DamagedModel with the first difference between the directory and its manifest."""
    files = _listed_files(directory)
    present = {path.name for path in directory.iterdir()} - {MANIFEST_NAME}
    if missing := sorted(files.keys() - present):
        raise DamagedModel(f"{directory}: {missing[0]} is missing")
    # vLLM loads every *.safetensors it finds: a file that is not listed is as bad as a changed one
    if unlisted := sorted(present - files.keys()):
        raise DamagedModel(f"{directory}: {unlisted[0]} is not in the manifest")
    for name, (size_bytes, sha256) in files.items():
        path = directory / name
        if (actual := path.stat().st_size) != size_bytes:
            raise DamagedModel(f"{path}: {actual} bytes, the manifest says {size_bytes}")
        if full and file_sha256(path) != sha256:
            raise DamagedModel(f"{path}: its SHA-256 is not the one in the manifest")


def _listed_files(directory: Path) -> dict[str, tuple[int, str]]:
    path = directory / MANIFEST_NAME
    try:
        body = json.loads(path.read_text())
        if body["schema"] != SCHEMA:
            raise DamagedModel(f"{path}: schema {body['schema']!r}, this version reads {SCHEMA}")
        return {n: (int(f["bytes"]), str(f["sha256"])) for n, f in body["files"].items()}
    except FileNotFoundError:
        raise DamagedModel(f"{directory}: no {MANIFEST_NAME}") from None
    except (
        OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError
    ) as error:  # fmt: skip
        raise DamagedModel(f"{path}: not a manifest ({error})") from error
