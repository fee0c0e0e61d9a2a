"""Which lines does a trace file hold, whatever it is packed in? Gzip, byte order mark, line ends.

Every fault on the way is one TraceError with file and line: cut off or damaged gzip, bytes that
are no UTF-8, a line without end. Lines come one by one, so the start of a long file costs little.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from workloads.errors import TraceError

MAX_LINE_BYTES = 2**26  # a million block ids fit
_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
# By first bytes: what is not read, and what to do about it.
_FOREIGN = {
    b"\x28\xb5\x2f\xfd": "compressed with zstd; unpack it (zstd -d)",
    b"\xfd7zXZ": "compressed with xz; unpack it (xz -d)",
    b"BZh": "compressed with bzip2; unpack it (bzip2 -d)",
    b"PK\x03\x04": "a zip archive or a spreadsheet; unpack it, or save it as CSV",
    b"PAR1": "a Parquet file; save it as CSV or JSON lines",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
}


def raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (line number from 1, bytes with their line end). Raises TraceError."""
    number = 0
    try:
        with _opened(path) as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise TraceError(path, number, f"longer than {MAX_LINE_BYTES} bytes")
                yield number, line.removeprefix(_BOM) if number == 1 else line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TraceError(path, number + 1, f"damaged gzip data: {error}") from None
    except OSError as error:
        raise TraceError(path, number + 1, f"cannot be read: {error.strerror or error}") from None


def decoded(line: bytes) -> str:
    """The text of a line. Raises ValueError saying where it is none."""
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"no UTF-8 text: {error.reason} at byte {error.start}") from None


def whole_text(path: Path) -> str:
    """All of it; bytes that are no text become replacement characters. Raises TraceError."""
    return b"".join(line for _, line in raw_lines(path)).decode(errors="replace")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as file:
        head = file.peek(8)[:8]
        for magic, reason in _FOREIGN.items():
            if head.startswith(magic):
                raise TraceError(path, 1, f"is {reason}")
        if not head.startswith(_GZIP):
            yield file
            return
        with gzip.GzipFile(fileobj=file) as unpacked, io.BufferedReader(unpacked) as buffered:
            yield buffered
