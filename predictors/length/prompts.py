"""Which prompts shall be answered to learn lengths from? JSONL in, checked line by line.

One object a line: prompt; optional system, conversation, tenant, temperature, max_tokens. So a
file of pairs is also a file of prompts: lengths in it are another model's and are not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from predictors.length.dataset import DataError, number, records, text, whole


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt to run; temperature None and max_tokens 0 = as the command says."""

    line: int
    prompt: str
    system: str = ""
    conversation: str = ""
    tenant: str = ""
    temperature: float | None = None
    max_tokens: int = 0


def read_prompts(path: Path) -> list[Prompt]:
    """All prompts of a file.

    Raises:
        DataError: unreadable, a bad line (file:line: reason), or no prompt at all.
    """
    found = []
    for at, _, record in records(path):
        try:
            prompt = Prompt(
                line=at,
                prompt=text(record, "prompt", None),
                system=text(record, "system"),
                conversation=text(record, "conversation"),
                tenant=text(record, "tenant"),
                temperature=number(record, "temperature", 0.0) if "temperature" in record else None,
                max_tokens=whole(record, "max_tokens", 0, 0, 10**9),
            )
            if not prompt.prompt.strip():
                raise ValueError("prompt is empty")
        except ValueError as error:
            raise DataError(f"{path}:{at}: {error}") from None
        found.append(prompt)
    if not found:
        raise DataError(f"{path}: holds no prompt")
    return found
