"""Is a model read back as written, and is every damaged, foreign or hostile one refused alive?

10,000 corruptions instead of 500: SCORPIO_CORRUPTED_ARTEFACTS=10000 in front of pytest.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from predictors.length import artifact
from predictors.length.artifact import (
    JSON_NAME,
    NPZ_NAME,
    LengthArtifactError,
    load_model,
    write_model,
)
from predictors.length.request import LengthRequest
from tests.predictors.length_corpus import Arrays, model_arrays

CORRUPTIONS = int(os.environ.get("SCORPIO_CORRUPTED_ARTEFACTS", "500"))
REQUESTS = [LengthRequest("Write a poem", 4), LengthRequest("", 0), LengthRequest("x" * 9999, 5)]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("length")
    write_model(directory, model_arrays(), {"rows": 3})
    return directory


def _files(directory: Path) -> dict[str, bytes]:
    return {name: (directory / name).read_bytes() for name in (JSON_NAME, NPZ_NAME)}


def _seal(content: dict[str, Any], packed: bytes) -> bytes:
    """What an attacker who recomputes every digest would write."""
    content = {k: v for k, v in content.items() if k != "digest"}
    content["arrays_sha256"] = hashlib.sha256(packed).hexdigest()
    render = lambda c: (json.dumps(c, indent=1, sort_keys=True) + "\n").encode()  # noqa: E731
    return render({**content, "digest": hashlib.sha256(render(content)).hexdigest()})


def _pack(arrays: Arrays, compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.save(member, array)
            file.writestr(f"{name}.npy", member.getvalue())
    return buffer.getvalue()


def test_round_trip(good: Path, tmp_path: Path) -> None:
    model = load_model(good)
    quantiles = model.quantiles_z(REQUESTS)
    assert quantiles.shape == (3, 6)
    assert np.all(np.diff(quantiles, axis=1) >= 0)
    one_by_one = [model.quantiles_z([request])[0] for request in REQUESTS]
    assert quantiles == pytest.approx(np.stack(one_by_one))
    assert load_model(good, model.digest).digest == model.digest
    assert model.quantiles_z([]).shape == (0, 6)
    assert write_model(tmp_path, model_arrays(), {"rows": 3}) == model.digest
    assert _files(tmp_path) == _files(good)
    assert json.loads((good / JSON_NAME).read_text())["provenance"] == {"rows": 3}


def test_another_digest_is_refused(good: Path) -> None:
    with pytest.raises(LengthArtifactError, match="expected 0000") as failure:
        load_model(good, "0000")
    assert str(good) in str(failure.value)
    assert "scorpio train-length" in str(failure.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("schema", 2), ("schema", True), ("kind", "x"), ("features_version", 0), ("levels", [0.5]),
     ("dense", []), ("bucket_bits", 12), ("unit", "tokens"), ("scores", 4.0)],
)  # fmt: skip
def test_another_version_is_refused_by_name(
    good: Path, tmp_path: Path, key: str, value: object
) -> None:
    files = _files(good)
    content = {**json.loads(files[JSON_NAME]), key: value}
    (tmp_path / NPZ_NAME).write_bytes(files[NPZ_NAME])
    (tmp_path / JSON_NAME).write_bytes(_seal(content, files[NPZ_NAME]))
    with pytest.raises(LengthArtifactError, match=key):
        load_model(tmp_path)


def test_missing_and_oversized_files(good: Path, tmp_path: Path) -> None:
    with pytest.raises(LengthArtifactError, match="cannot read"):
        load_model(tmp_path / "none")
    (tmp_path / JSON_NAME).write_bytes(b" " * (artifact.MAX_JSON_BYTES + 1))
    with pytest.raises(LengthArtifactError, match="larger than"):
        load_model(tmp_path)
    (tmp_path / JSON_NAME).write_bytes(b"[" * 500_000)
    (tmp_path / NPZ_NAME).write_bytes(b"")
    with pytest.raises(LengthArtifactError, match="not JSON"):
        load_model(tmp_path)


def test_a_bad_model_is_not_written_over_a_good_one(tmp_path: Path) -> None:
    write_model(tmp_path, model_arrays(), {})
    before = _files(tmp_path)
    with pytest.raises(LengthArtifactError, match="intercept"):
        write_model(tmp_path, {**model_arrays(), "intercept": np.full(4, np.nan)}, {})
    assert _files(tmp_path) == before


def _cycle(arrays: Arrays) -> None:
    inner = np.flatnonzero(arrays["left"] != np.arange(len(arrays["left"])))
    arrays["left"][inner[-1]] = inner[0]


HOSTILE: dict[str, Callable[[Arrays], object]] = {
    "cycle": _cycle,
    "index": lambda a: a["right"].__setitem__(0, 10**9),
    "feature": lambda a: a["feature"].__setitem__(0, 32_000),
    "negative": lambda a: a["roots"].__setitem__(0, -1),
    "nan": lambda a: a["value"].__setitem__(0, np.nan),
    "inf": lambda a: a["threshold"].__setitem__(0, np.inf),
    "huge": lambda a: a["value"].__setitem__(0, 1e300),
    "table": lambda a: a["table"].__setitem__((7, 2), np.nan),
    "shape": lambda a: a.update(table=a["table"][:100]),
    "dtype": lambda a: a.update(value=a["value"].astype("U9")),
    "object": lambda a: a.update(value=np.array([{}], dtype=object)),
    "empty": lambda a: a.update(roots=a["roots"][:0]),
    "offsets": lambda a: a.update(offsets=a["offsets"] * np.nan),
    "edges": lambda a: a.update(edges=np.zeros((2, 2))),
    "missing": lambda a: a.pop("left"),
    "extra": lambda a: a.update(more=np.zeros(1)),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_resealed_hostile_model_is_refused(good: Path, tmp_path: Path, kind: str) -> None:
    arrays = model_arrays()
    HOSTILE[kind](arrays)
    packed = _pack(arrays)
    (tmp_path / NPZ_NAME).write_bytes(packed)
    (tmp_path / JSON_NAME).write_bytes(_seal(json.loads(_files(good)[JSON_NAME]), packed))
    with pytest.raises(LengthArtifactError):
        load_model(tmp_path)


def test_resealing_works_and_compression_is_refused(good: Path, tmp_path: Path) -> None:
    """Else the test above would prove nothing."""
    for compression, fine in ((zipfile.ZIP_STORED, True), (zipfile.ZIP_DEFLATED, False)):
        packed = _pack(model_arrays(), compression)
        (tmp_path / NPZ_NAME).write_bytes(packed)
        (tmp_path / JSON_NAME).write_bytes(_seal(json.loads(_files(good)[JSON_NAME]), packed))
        if fine:
            load_model(tmp_path)
        else:
            with pytest.raises(LengthArtifactError, match="uncompressed"):
                load_model(tmp_path)


def _corrupt(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data))
    size = rng.choice((1, 4, 64, 4096))
    noise = rng.randbytes(size)
    return rng.choice((
        data[:at],
        data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :],
        data[:at] + noise + data[at + size :],
        data[:at] + noise + data[at:],
        data[:at] + data[at + size :],
        data[at:] + data[:at],
        data + noise,
        noise,
    ))  # fmt: skip


@pytest.mark.timeout(3600)
def test_no_corrupted_artefact_loads(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half are plain damage. The other half pass the digests, so the parsers behind them are hit:
    there a model may load only when it is one that can be evaluated."""
    files, rng = _files(good), random.Random(20_261_122)
    pinned, loaded = json.loads(files[JSON_NAME])["digest"], 0
    for i in range(CORRUPTIONS):
        name = (JSON_NAME, NPZ_NAME)[i // 2 % 2]
        broken = {**files, name: _corrupt(rng, files[name])}
        if broken[name] == files[name]:
            continue
        resealed = i % 2 == 1 and name == NPZ_NAME
        if resealed:
            broken[JSON_NAME] = _seal(json.loads(files[JSON_NAME]), broken[NPZ_NAME])
        try:
            model = artifact._parse(broken[JSON_NAME], broken[NPZ_NAME], None)
        except LengthArtifactError:
            continue
        loaded += not resealed
        assert np.isfinite(model.quantiles_z(REQUESTS)).all()
        with pytest.raises(LengthArtifactError, match="expected"):
            artifact._parse(broken[JSON_NAME], broken[NPZ_NAME], pinned)
    assert loaded == 0
