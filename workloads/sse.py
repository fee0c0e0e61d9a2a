"""Which events does a server-sent-event stream hold? Bytes in, (event name, data) out."""

from __future__ import annotations


class SseSplitter:
    """Cuts a byte stream into events, wherever the network cut it. Comments (pings) are dropped."""

    def __init__(self) -> None:
        self._tail = b""
        self._event = ""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[tuple[str, bytes]]:
        """Events completed by this chunk, in order."""
        *lines, self._tail = (self._tail + chunk).split(b"\n")
        events = []
        for line in lines:
            line = line.removesuffix(b"\r")
            if not line:
                if self._data:
                    events.append((self._event, b"\n".join(self._data)))
                self._event, self._data = "", []
                continue
            name, _, value = line.partition(b":")  # a comment has an empty name
            value = value.removeprefix(b" ")
            if name == b"data":
                self._data.append(value)
            elif name == b"event":
                self._event = value.decode(errors="replace")
        return events

    def close(self) -> list[tuple[str, bytes]]:
        """The last event of a stream that ended without its blank line, if there is one."""
        return self.feed(b"\n\n")
