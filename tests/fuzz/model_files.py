"""Which files of models and measurements does the fuzzer write?"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tests.fuzz.target import Run, must_say, on_file


def latency_run() -> Run:
    from predictors.latency.artifact import ProfileFileError, read_profile

    return on_file(read_profile, (ProfileFileError,), "latency.json")


def length_run() -> Run:
    """A good model with some bytes changed, under a seal that fits it: what a user that can write
    the file could plant. The input is a list of changes, four bytes each."""
    import hashlib

    from predictors.length.artifact import (
        CONTRACT,
        JSON_NAME,
        NPZ_NAME,
        LengthArtifactError,
        load_model,
        write_model,
    )
    from tests.predictors.length_corpus import model_arrays

    directory = Path(tempfile.mkdtemp(prefix="scorpio-fuzz-"))
    arrays = {name: a for name, a in model_arrays().items() if name != "table"}
    write_model(directory, model_arrays(), {})
    good = (directory / NPZ_NAME).read_bytes()
    # the table of word weights is most of the file and has no structure: leave it alone
    small = [good.index(f"{name}.npy".encode()) for name in arrays]

    def seal(content: dict[str, object]) -> bytes:
        return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()

    def run(data: bytes) -> None:
        packed = bytearray(good)
        for at in range(0, len(data) - 3, 4):
            start = small[data[at] % len(small)]
            place = start + 256 * data[at + 2] + data[at + 1]
            packed[min(place, len(packed) - 1)] = data[at + 3]
        content: dict[str, object] = dict(CONTRACT)
        content["arrays_sha256"] = hashlib.sha256(packed).hexdigest()
        content["digest"] = hashlib.sha256(seal(content)).hexdigest()
        (directory / NPZ_NAME).write_bytes(packed)
        (directory / JSON_NAME).write_bytes(seal(content))
        try:
            load_model(directory)
        except LengthArtifactError as error:
            must_say(error)

    return run


def steps_run() -> Run:
    from predictors.latency.samples import StepFileError, read_steps

    return on_file(read_steps, (StepFileError,), "steps.jsonl")
