"""Is this the length model we expect, whole and undamaged? DIR/length.json and DIR/length.npz.

length.json says what the model is (schema, units, feature version, provenance) and pins the arrays
by SHA-256; its own digest pins it. A loader that knows the digest it wants passes it. Arrays are
stored uncompressed and without pickle, so neither code nor a decompression bomb can hide in them.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from predictors.length.features import DENSE_NAMES, VERSION
from predictors.length.hashing import BUCKET_BITS
from predictors.length.model import ROW_LENGTH, SCORES, LengthModel, Scorer
from predictors.length.quantiles import LEVELS, Calibration
from predictors.length.trees import ARRAYS, checked_ensemble
from scorpio.files import write_atomic

SCHEMA: Final = 1
JSON_NAME, NPZ_NAME = "length.json", "length.npz"
MAX_JSON_BYTES: Final = 1 << 20
MAX_NPZ_BYTES: Final = 1 << 26
MAX_GROUPS: Final = 64
_NAMES = frozenset((*ARRAYS, "table", "intercept", "edges", "offsets"))
_READ: Callable[..., NDArray[Any]] = np.load  # a member is one .npy, read without pickle
_REMEDY = "train it again with `scorpio train-length`"
# what a load must find word for word; a model made for other features would be silently wrong
CONTRACT: Final[Mapping[str, object]] = {
    "kind": "scorpio-length",
    "schema": SCHEMA,
    "unit": "log(1 + tokens)",
    "features_version": VERSION,
    "bucket_bits": BUCKET_BITS,
    "dense": list(DENSE_NAMES),
    "scores": SCORES,
    "levels": list(LEVELS),
}


class LengthArtifactError(ValueError):
    """A length model that must not be used; the message names the file and the remedy."""


def _render(content: Mapping[str, object]) -> bytes:
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
    return (text + "\n").encode()


def write_model(
    directory: Path, arrays: Mapping[str, NDArray[Any]], provenance: Mapping[str, object]
) -> str:
    """Write both files, the JSON last, each by rename; returns the digest to pin.

    Raises LengthArtifactError, and leaves what was there, when the model would not load again.
    """
    buffer = io.BytesIO()
    # npz members carry their time of writing: fixed, so equal models are equal bytes
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        for name in sorted(arrays):
            member = io.BytesIO()
            np.save(member, arrays[name], allow_pickle=False)
            file.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())
    packed = buffer.getvalue()
    content: dict[str, object] = {
        **CONTRACT,
        "arrays_sha256": hashlib.sha256(packed).hexdigest(),
        "provenance": dict(provenance),
    }
    content["digest"] = hashlib.sha256(_render(content)).hexdigest()
    _parse(_render(content), packed, None)
    write_atomic(directory / NPZ_NAME, packed)
    write_atomic(directory / JSON_NAME, _render(content))
    return str(content["digest"])


def load_model(directory: Path, expected_digest: str | None = None) -> LengthModel:
    """The model in a directory.

    Raises:
        LengthArtifactError: missing, damaged, of another version, or not the digest expected.
    """
    try:
        files = []
        for name, limit in ((JSON_NAME, MAX_JSON_BYTES), (NPZ_NAME, MAX_NPZ_BYTES)):
            with (directory / name).open("rb") as file:
                files.append(file.read(limit + 1))
            if len(files[-1]) > limit:
                raise LengthArtifactError(f"{name} is larger than {limit} bytes")
        return _parse(files[0], files[1], expected_digest)
    except OSError as error:
        raise LengthArtifactError(
            f"length model {directory}: cannot read {error.filename}: {error.strerror}; {_REMEDY}"
        ) from None
    except LengthArtifactError as error:
        raise LengthArtifactError(f"length model {directory}: {error}; {_REMEDY}") from None


def _parse(described: bytes, packed: bytes, expected_digest: str | None) -> LengthModel:
    try:
        content = json.loads(described)
    except (ValueError, RecursionError):
        raise LengthArtifactError(f"{JSON_NAME} is not JSON") from None
    if not isinstance(content, dict):
        raise LengthArtifactError(f"{JSON_NAME} is not an object")
    for key, wanted in CONTRACT.items():
        found = content.get(key)
        if found != wanted or type(found) is not type(wanted):
            shown = "differs" if isinstance(wanted, list) else f"is {str(found)[:60]!r}"
            raise LengthArtifactError(f"{JSON_NAME}: {key} {shown}, this version reads {wanted!r}")
    digest = content.pop("digest", None)
    try:
        true_digest = hashlib.sha256(_render(content)).hexdigest()
        if digest != true_digest or _render({**content, "digest": digest}) != described:
            raise LengthArtifactError(f"{JSON_NAME}: its digest does not match its content")
    except (ValueError, RecursionError) as error:
        if isinstance(error, LengthArtifactError):
            raise
        raise LengthArtifactError(f"{JSON_NAME} holds what no JSON may") from None
    if expected_digest is not None and digest != expected_digest:
        raise LengthArtifactError(f"digest is {digest}, expected {expected_digest}")
    if hashlib.sha256(packed).hexdigest() != content.get("arrays_sha256"):
        raise LengthArtifactError(f"{NPZ_NAME}: its SHA-256 is not the one in {JSON_NAME}")
    try:
        return _build(_arrays(packed), str(digest))
    except LengthArtifactError:
        raise
    except (
        ValueError, TypeError, KeyError, EOFError, OverflowError, MemoryError, SyntaxError,
        NotImplementedError, RuntimeError, zipfile.BadZipFile, struct.error,
    ) as error:  # fmt: skip
        raise LengthArtifactError(f"{NPZ_NAME}: {error}") from None


def _arrays(packed: bytes) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(io.BytesIO(packed)) as file:
        members = file.infolist()
        if sorted(m.filename for m in members) != sorted(f"{name}.npy" for name in _NAMES):
            raise LengthArtifactError(f"{NPZ_NAME} does not hold the arrays it should")
        if any(m.compress_type != zipfile.ZIP_STORED for m in members):
            raise LengthArtifactError(f"{NPZ_NAME} must be stored uncompressed")
        arrays = {}
        for member in members:
            data = file.read(member)
            array = _READ(io.BytesIO(data), allow_pickle=False)
            if array.dtype.kind not in "if" or array.nbytes > len(data):
                raise LengthArtifactError(f"{NPZ_NAME}: {member.filename} holds no numbers")
            arrays[member.filename.removesuffix(".npy")] = array
        return arrays


def _build(arrays: Mapping[str, NDArray[Any]], digest: str) -> LengthModel:
    def floats(name: str) -> NDArray[np.float64]:
        return np.ascontiguousarray(arrays[name], dtype=np.float64)

    if arrays["edges"].size >= MAX_GROUPS:
        raise LengthArtifactError(f"{NPZ_NAME}: more than {MAX_GROUPS} calibration groups")
    return LengthModel(
        Scorer(np.ascontiguousarray(arrays["table"], dtype=np.float32), floats("intercept")),
        checked_ensemble(arrays, len(LEVELS), ROW_LENGTH),
        Calibration(floats("edges"), floats("offsets")),
        digest,
    )
