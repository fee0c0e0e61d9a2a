"""Which events does a server-sent-event stream hold? Bytes in, (event name, data) out."""

from __future__ import annotations

import re

MAX_EVENT_BYTES = 2**24  # a longer event is no answer of a language model
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class EventTooLong(ValueError):
    """A line or an event beyond MAX_EVENT_BYTES: the stream is not to be read on."""


class SseSplitter:
    """Cuts a byte stream into events, wherever the network cut it. Comments (pings) are dropped."""

    def __init__(self) -> None:
        self._tail: list[bytes] = []  # of an unfinished line; joined once, when its end comes
        self._tail_bytes = 0
        self._event = ""
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._after_cr = False
        self._first_line = True

    def feed(self, chunk: bytes) -> list[tuple[str, bytes]]:
        """Events completed by this chunk, in order.

        Raises:
            EventTooLong: more than MAX_EVENT_BYTES without an end.
        """
        if not chunk:
            return []
        if self._after_cr:  # a line ends with its \r already; a \n behind it is no second end
            chunk = chunk.removeprefix(b"\n")
        self._after_cr = chunk.endswith(b"\r")
        *lines, tail = chunk.split(b"\n") if b"\r" not in chunk else _LINE_END.split(chunk)
        if lines:
            lines[0] = b"".join([*self._tail, lines[0]])
            self._tail, self._tail_bytes = [], 0
        self._tail.append(tail)
        self._tail_bytes += len(tail)
        events = [event for line in lines if (event := self._take(line)) is not None]
        if self._tail_bytes + self._data_bytes > MAX_EVENT_BYTES:
            raise EventTooLong(f"an event of more than {MAX_EVENT_BYTES} bytes")
        return events

    def _take(self, line: bytes) -> tuple[str, bytes] | None:
        """One whole line; the event that it ends, if it ends one."""
        if self._first_line:
            self._first_line, line = False, line.removeprefix(_BOM)
        if not line:
            event = (self._event, b"\n".join(self._data)) if self._data else None
            self._event, self._data, self._data_bytes = "", [], 0
            return event
        name, _, value = line.partition(b":")  # a comment has an empty name
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._data_bytes += len(value) + 1
        elif name == b"event":
            self._event = value.decode(errors="replace")
        return None

    def close(self) -> list[tuple[str, bytes]]:
        """The last event of a stream that ended without its blank line, if there is one."""
        return self.feed(b"\n\n")
