"""By which SLO file do all API processes of one server go? By the text that one of them has read.

Each reading the file for itself would go by what lies there then: another file, or half of one. So
the one that is asked to read it puts the text into `run_dir`, with a number that grows; the others
take it from there, and so does one that starts. What is wrong with a newer file is told there, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from scorpio import channel
from scorpio.server.accounts.terms import Terms, TermsSource
from scorpio.server.shared import Shared
from scorpio.settings import SettingsError

_UNTOLD = "the other API processes cannot be told, and nothing has changed"


@dataclass(frozen=True, slots=True)
class Word:
    """number: of two words the larger one counts; 0: it is of this process alone. terms: None = as
    before. error: why the newest file was not taken; "" = it was."""

    number: int
    terms: Terms | None
    error: str = ""


class Agreement:
    """Of one API process with the others of its server, if there are any."""

    def __init__(self, source: TermsSource, shared: Shared) -> None:
        self.source, self._server = source, shared.server
        self.several = shared.count > 1 and source.engine.slo_config is not None
        self._run_dir = source.engine.run_dir if self.several else None
        self._stamp: channel.Stamp = None
        self._known: dict[str, Any] | None = None

    def begin(self) -> tuple[Word, Terms]:
        """What counts at the start of this process. Raises SettingsError."""
        if self._run_dir is None:
            return Word(0, None), self.source.read()
        with self._turn():
            if (told := self._last()) is None:
                terms = self.source.read()
                return self._say(terms, ""), terms
        return Word(told["number"], None, told["error"]), self.source.read_text(told["text"])

    def renew(self) -> Word:
        """Read the file: it counts from now on, unless it is bad or the others cannot be told."""
        if self.several and self._run_dir is None:
            return Word(0, None, f"no run_dir, so {_UNTOLD}: start with `scorpio serve`")
        try:
            with self._turn():
                word = self._read()
                return word if word.terms is None else self._say(word.terms, "")
        except SettingsError as error:
            return Word(0, None, str(error))

    def check(self) -> Word:
        """Read the file. Nothing changes; one that is bad is told, for no start would take it."""
        try:
            with self._turn():
                return self._read()
        except SettingsError as error:
            return Word(0, None, str(error))

    def news(self, digest: str) -> Word | None:
        """What was said since this was last asked; None: nothing. digest: of the terms in force."""
        if self._run_dir is None:
            return None
        stamp = channel.stamp(self._run_dir, channel.RELOAD)
        if stamp == self._stamp or (told := self._last()) is None:
            return None
        self._stamp = stamp
        text, error = told["text"], told["error"]
        known = hashlib.sha256(text.encode()).hexdigest() == digest
        terms = None if known and error else self.source.read_text(text)
        return Word(told["number"], terms, error)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One process at a time reads the file and says so. Raises SettingsError: it cannot."""
        if self._run_dir is None:
            yield
            return
        try:
            with channel.turn(self._run_dir, channel.RELOAD):
                yield
        except OSError as error:
            said = f"run_dir {self._run_dir}: {error.strerror or error}, so {_UNTOLD}"
            raise SettingsError(said) from None

    def _read(self) -> Word:
        try:
            return Word(0, self.source.read())
        except SettingsError as error:
            with suppress(OSError):  # a full disk must not hide what is wrong with the file
                return self._say(None, str(error))
            return Word(0, None, str(error))

    def _say(self, terms: Terms | None, error: str) -> Word:
        """In a turn. Without terms those that were told last still count. Raises OSError."""
        if self._run_dir is None:
            return Word(0, terms, error)
        last = self._last() or {"number": 0, "text": ""}
        number, text = last["number"] + 1, last["text"] if terms is None else terms.text
        told = {"server": self._server, "number": number, "text": text, "error": error}
        channel.write_reload(self._run_dir, told)
        self._known = told
        return Word(number, terms, error)

    def _last(self) -> dict[str, Any] | None:
        """None: no process of this server has said anything. A file that is gone (what lies long
        among temporary files is removed) takes nothing back."""
        told = None if self._run_dir is None else channel.read_reload(self._run_dir)
        if told is not None and told.get("server") == self._server and _is_word(told):
            self._known = told
        return self._known


def _is_word(told: Mapping[str, Any]) -> bool:
    texts = all(isinstance(told.get(name), str) for name in ("text", "error"))
    return texts and type(told.get("number")) is int
