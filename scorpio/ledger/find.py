"""Which requests does an id mean? The one a client saw is not quite the one the engine has.

Any name that vLLM made of it on the way (ids.py) means the same request.
"""

from __future__ import annotations

from collections.abc import Sequence

from scorpio.ledger.entry import Entry
from scorpio.ledger.files import Book, LedgerError
from scorpio.ledger.ids import CHOICE, MADE_UNIQUE, OF_PARTS, PART, kind_of, ledger_names

_SHOWN = 5


def find(book: Book, wanted: str) -> list[Entry]:
    """The request of that id, all parts of it; the beginning of an id will do, but not of one that
    its client chose.

    Raises:
        LedgerError: none, or requests of several clients.
    """
    if not wanted:
        raise LedgerError("an id is at least one character")
    named = [(entry, names_of(entry.id)) for entry in book.entries]
    meant = {wanted}.union(*(ledger_names(wanted, salt) for salt in book.salts or (b"",)))
    exact = [entry for entry, names in named if not meant.isdisjoint(names)]
    if exact:
        return exact
    begun = [e for e, names in named if any(name.startswith(wanted) for name in names)]
    bodies = list(dict.fromkeys(body_of(entry.id) for entry in begun))
    if len(bodies) == 1:
        return begun
    if bodies:
        more = f" and {len(bodies) - _SHOWN} more" if len(bodies) > _SHOWN else ""
        some = ", ".join(printable(name) for name in bodies[:_SHOWN])
        raise LedgerError(f"'{printable(wanted)}' begins several ids: {some}{more}")
    raise LedgerError(
        f"no request '{printable(wanted)}' in {book.place}: it holds {_count(book.entries)}, "
        f"{book.span}, the last {printable(body_of(book.entries[-1].id))}; "
        "a request is written when it ends"
    )


def body_of(engine_id: str) -> str:
    """The id that vLLM's answer has."""
    name = MADE_UNIQUE.sub("", CHOICE.sub("", engine_id))
    return PART.sub("", name) if kind_of(name) in OF_PARTS else name


def names_of(engine_id: str) -> set[str]:
    """All that a client or a log may call it."""
    whole = CHOICE.sub("", engine_id)
    told = {whole, MADE_UNIQUE.sub("", whole), body_of(engine_id)}
    return {engine_id} | told | {name.removeprefix(kind_of(name)) for name in told}


def printable(text: str) -> str:
    """A client may choose an id: what a terminal would obey is shown as an escape."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _count(entries: Sequence[Entry]) -> str:
    return f"{len(entries):,} request{'' if len(entries) == 1 else 's'}"
