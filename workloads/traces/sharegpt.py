"""How long are the prompts and answers of a ShareGPT file? Lengths only; the text goes no further.

Command: python -m workloads.traces.sharegpt SHAREGPT.json TOKENIZER.json OUT.csv
Takes the first turn of the user that is answered, and the answer, by their roles (a system prompt
or an answer carried over from elsewhere may come first), and filters as `vllm bench serve` does.
Files in the wild are cut off at the end, so elements are parsed one by one up to the first broken
one.
OUT.csv is a `reference` log with one made-up arrival a second.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from scorpio.files import write_atomic
from workloads.errors import TraceError, WorkloadError
from workloads.traces.text import whole_text

_USER = ("human", "user")
_ASSISTANT = ("gpt", "assistant", "chatgpt", "bing", "bard", "model")
SHORTEST = 4  # tokens of either side
LONGEST_PROMPT = 1024
LONGEST_SUM = 2048


def conversations(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (first turn of the user, the answer to it). Raises TraceError when nothing at all can
    be read."""
    text = whole_text(path)
    decoder, at, found = json.JSONDecoder(), text.find("[") + 1, 0
    while at:
        while at < len(text) and text[at] in ", \t\r\n":
            at += 1
        try:
            element, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):  # the end, or where the file was cut off
            break
        found += 1
        pair = _exchange(element)
        if pair is not None:
            yield pair
    if not found:
        raise TraceError(path, 1, "must be a JSON list of conversations")


def _exchange(element: object) -> tuple[str, str] | None:
    """The first turn of the user that is answered at once, with its answer."""
    turns = _turns(element)
    for (role, prompt), (next_role, answer) in itertools.pairwise(turns):
        if role in _USER and next_role in _ASSISTANT:
            return prompt, answer
    return None


def _turns(element: object) -> list[tuple[str, str]]:
    """(role, text) of each turn, in ShareGPT's words or in OpenAI's."""
    if not isinstance(element, dict):
        return []
    found = element.get("conversations") or element.get("messages")
    turns = [turn for turn in found if isinstance(turn, dict)] if isinstance(found, list) else []
    return [(_text(turn, "from", "role"), _text(turn, "value", "content")) for turn in turns]


def _text(turn: dict[str, object], *names: str) -> str:
    """The first of these fields that is a text."""
    return next((value for name in names if isinstance(value := turn.get(name), str)), "")


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
    parser = argparse.ArgumentParser(prog="workloads.traces.sharegpt", description=__doc__)
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
