"""The fuzzing process: libFuzzer mutates, the branches that it reaches guide it.

    python -m tests.fuzz.guided TARGET CORPUS [libFuzzer flags]

libFuzzer ends the process itself: exit code 0 after all runs, another one at the first exception,
with its traceback on stdout and the input in the directory of -artifact_prefix.
"""

from __future__ import annotations

import random
import sys

import atheris

from tests.fuzz.mutation import mutated_bytes
from tests.fuzz.targets import TARGETS


def main() -> None:
    """Fuzz one target."""
    name, corpus, *flags = sys.argv[1:]
    target = TARGETS[name]
    with atheris.instrument_imports(include=list(target.modules)):
        run = target.load()

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        chance = random.Random(seed)
        plain = lambda old: bytes(atheris.Mutate(old, most))  # noqa: E731
        return mutated_bytes(chance, data, plain, target.words)[:most]

    atheris.Setup([sys.argv[0], *flags, corpus], run, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
