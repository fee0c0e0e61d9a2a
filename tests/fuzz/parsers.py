"""Does a parser end as documented, whatever the bytes? One fuzzing process per parser.

`make fuzz ARGS="parsers --runs 1000000"`. The same seed gives the same inputs. What was reached is
kept in the corpus directory: a later run goes on from there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

HANG_S = 20  # of one input, on a busy machine
MEMORY_MIB = 2048
LONGEST_BYTES = 1 << 15
SLOW = {"length": 20}  # a run of these costs that many of the others
_RUNS = re.compile(r"^#(\d+)\s+\w+.*?cov: (\d+)", re.M)


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """How it went. output: the end of what was printed, with the traceback of a failure."""

    name: str
    passed: bool
    runs: int
    coverage: int
    output: str


def fuzz_parser(name: str, runs: int, seed: int, directory: Path) -> Fuzzed:
    """Run one target; its corpus, words and failing inputs are in `directory`."""
    corpus = directory / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(seeds(name)):
        (corpus / f"seed-{number}").write_bytes(content)
    words = directory / f"{name}.words"
    listed = (*TARGETS[name].words, "{}")  # libFuzzer takes no empty file
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in listed))
    command = [
        *(sys.executable, "-m", "tests.fuzz.guided", name, str(corpus)),
        *(f"-runs={runs // SLOW.get(name, 1)}", f"-seed={seed}", f"-dict={words}"),
        *(
            f"-max_len={LONGEST_BYTES}",
            f"-timeout={HANG_S}",
            f"-rss_limit_mb={MEMORY_MIB}",
        ),
        f"-artifact_prefix={directory / name}-failed-",
    ]
    # The order of a set must not depend on the process, or a seed would not repeat.
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    output = (done.stdout + done.stderr).decode(errors="replace")
    seen = _RUNS.findall(output)
    last_run, coverage = seen[-1] if seen else (0, 0)
    return Fuzzed(name, done.returncode == 0, int(last_run), int(coverage), output[-6000:])


def _escaped(word: str) -> str:
    """A word as libFuzzer's dictionaries spell it."""
    return "".join(f"\\x{byte:02x}" for byte in word.encode(errors="surrogatepass"))
