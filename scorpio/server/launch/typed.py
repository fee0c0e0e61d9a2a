"""What did a person type? Options of a command line, as words: for what comes before vLLM's parser.

Names are compared as vLLM does: `_` stands for `-`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence


def values_of(argv: Sequence[str]) -> dict[str, str]:
    """Of options with a value, `--name value` or `--name=value`; the last one counts."""
    found: dict[str, str] = {}
    for arg, following in zip(argv, [*argv[1:], ""], strict=False):
        if arg.startswith("--"):
            name, equals, value = arg.partition("=")
            found[name.replace("_", "-")] = value if equals else following
    return found


def values_after(name: str, argv: Sequence[str]) -> tuple[str, ...]:
    """Of an option with one value or more; the last one counts."""
    found: tuple[str, ...] = ()
    for words in _options(argv):
        typed, equals, value = words[0].partition("=")
        if typed.replace("_", "-") == name:
            found = (value,) if equals else tuple(words[1:])
    return found


def without(argv: Sequence[str], names: Collection[str]) -> list[str]:
    """All but these options and what follows them."""
    return [
        word
        for words in _options(argv)
        if words[0].partition("=")[0].replace("_", "-") not in names
        for word in words
    ]


def _options(argv: Sequence[str]) -> Iterator[list[str]]:
    """Each option with the words up to the next one."""
    words: list[str] = []
    for word in argv:
        if words and word.startswith("-"):
            yield words
            words = []
        words.append(word)
    if words:
        yield words
