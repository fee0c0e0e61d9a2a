"""Which commands does the documentation tell people to type? Read out of its pages."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "docs/*.md", "docs/*/*.md", "*/README.md")
HISTORY = ("docs/notebook.md",)  # its commands are those of their time
_FENCE = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:^    .*\n)+", re.MULTILINE)
_SPAN = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
# A line ends in a backslash, or the next one goes on deeper with an option.
_CONTINUED = re.compile(r"[ \t]*\\\n[ \t]*|\n[ \t]{4,}(?=\[?-)")
_ENDS = re.compile(r"\s(?:[|&]|&&)\s|\s&$|;$|\s#\s")


@dataclass(frozen=True, slots=True)
class Command:
    """One command and the page it stands on. whole: in a block, so it is meant to be typed."""

    page: str
    text: str
    whole: bool

    def __str__(self) -> str:
        return f"{self.page}: {self.text}"


def pages() -> Iterator[tuple[str, str]]:
    """(name, text) of every page."""
    for pattern in PAGES:
        for path in sorted(ROOT.glob(pattern)):
            if (name := str(path.relative_to(ROOT))) not in HISTORY:
                yield name, path.read_text()


def commands(word: str) -> list[Command]:
    """Every command that begins with `word`, in a block or in running text."""
    start = re.compile(rf"(?:^|[ '])({word} \S.*)$")
    found = []
    for page, text in pages():
        blocks = [*_FENCE.findall(text), *_INDENTED.findall(text)]
        lines = [line for block in blocks for line in _CONTINUED.sub(" ", block).splitlines()]
        spans = [" ".join(span.split()) for span in _SPAN.findall(_FENCE.sub("", text))]
        texts = [(m.group(1), True) for line in lines if (m := start.search(line))]
        texts += [(span, False) for span in spans if start.match(span)]
        found += [Command(page, _cut(text), whole) for text, whole in texts]
    return list(dict.fromkeys(found))


def _cut(text: str) -> str:
    """Without what follows the command on its line: pipes, comments, the quote it stands in."""
    text = _ENDS.split(text)[0].strip()
    return text.removesuffix("'") if text.count("'") % 2 else text


def filled_in(text: str) -> list[str]:
    """The words of a synopsis as they might be typed: brackets taken off, the first of each
    choice, numbers where a number is meant."""
    text = re.sub(r"\[any vLLM [a-z]+\]", "--port 8000", text)
    text = re.sub(r"\[,[^\]]*\]", "", text).replace("[", "").replace("]", "")
    words = [word.split("|")[0] if "{" not in word else word for word in shlex.split(text)]
    numbers = {"X": "1", "N": "1", "S": "1", "NAME=NUMBER": "patience_s=1"}
    return [numbers.get(word, word) for word in words if word != "..."]
