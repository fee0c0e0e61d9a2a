"""How long are the prompts and answers of a ShareGPT file? Lengths only; the text goes no further.

Command: python -m workloads.sharegpt SHAREGPT.json TOKENIZER.json OUT.csv
Takes the first two turns of each conversation and filters as `vllm bench serve` does. Files in
the wild are cut off at the end, so elements are parsed one by one up to the first broken one.
OUT.csv is a `reference` log with one made-up arrival a second.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from workloads.atomic import write_atomic
from workloads.errors import TraceError, WorkloadError

SHORTEST = 4  # tokens of either side
LONGEST_PROMPT = 1024
LONGEST_SUM = 2048


def conversations(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (first turn, second turn). Raises TraceError when nothing at all can be read."""
    text = path.read_text(encoding="utf-8", errors="replace")
    decoder, at, found = json.JSONDecoder(), text.find("[") + 1, 0
    while at:
        while at < len(text) and text[at] in ", \t\r\n":
            at += 1
        try:
            element, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):  # the end, or where the file was cut off
            break
        found += 1
        turns = _turns(element)
        if len(turns) >= 2:
            yield turns[0], turns[1]
    if not found:
        raise TraceError(path, 1, "must be a JSON list of conversations")


def _turns(element: object) -> list[str]:
    turns = element.get("conversations") if isinstance(element, dict) else None
    if not isinstance(turns, list):
        return []
    values = [turn.get("value") if isinstance(turn, dict) else None for turn in turns]
    return [value for value in values[:2] if isinstance(value, str)]


def kept(prompt_tokens: int, output_tokens: int) -> bool:
    """The filter of `vllm bench serve` for ShareGPT."""
    return (
        min(prompt_tokens, output_tokens) >= SHORTEST
        and prompt_tokens <= LONGEST_PROMPT
        and prompt_tokens + output_tokens <= LONGEST_SUM
    )


def lengths(path: Path, count: Callable[[str], int]) -> list[tuple[int, int]]:
    """(prompt, output) tokens of the conversations that pass the filter."""
    pairs = ((count(prompt), count(answer)) for prompt, answer in conversations(path))
    return [pair for pair in pairs if kept(*pair)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; needs the `tokenizers` package, which comes with vLLM."""
    parser = argparse.ArgumentParser(prog="workloads.sharegpt", description=__doc__)
    for name in ("sharegpt", "tokenizer", "out"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args(arguments)
    try:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(options.tokenizer))
        pairs = lengths(
            options.sharegpt, lambda text: len(tokenizer.encode(text, add_special_tokens=False))
        )
    except (ImportError, WorkloadError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    rows = (f"{i},{prompt},{output}\n" for i, (prompt, output) in enumerate(pairs))
    write_atomic(options.out, "arrival_s,prompt_tokens,output_tokens\n" + "".join(rows))
    print(f"{options.out}: {len(pairs)} pairs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
