"""Which hashed n-grams does a text hold? The same buckets on every machine and in every process.

All n-grams of a text at once: with C[i] = sum of b[j] * P**-j for j < i (mod 2**64, P odd and so
invertible), the hash of bytes s..e is (C[e] - C[s]) * P**s, wherever it stands in the text.
"""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from scorpio.core.arrays import IntArray

HEAD_BYTES: Final = 768  # instructions stand at the start of a prompt or at its end
TAIL_BYTES: Final = 256
BUCKET_BITS: Final = 16
CHAR_NGRAMS: Final = (4,)
LEADING_WORDS: Final = 4

_LONGEST = HEAD_BYTES + TAIL_BYTES + 8
_BASE = 0x9E3779B97F4A7C15
UIntArray = NDArray[np.uint64]


def _powers(base: int) -> UIntArray:
    values, value = [], 1
    for _ in range(_LONGEST):
        values.append(value)
        value = value * base % 2**64
    return np.array(values, dtype=np.uint64)


_POWER = _powers(_BASE)
# from j = -1, the padding
_INVERSE = np.concatenate((np.zeros(1, np.uint64), _powers(pow(_BASE, -1, 2**64))))
# letters fold to lower case, control bytes to a space; bytes of non-ASCII characters are letters
_FOLD = np.array([32 if b < 32 else ord(chr(b).lower()) if b < 128 else b for b in range(256)],
                 dtype=np.uint64)  # fmt: skip
_IN_WORD = np.array([b > 127 or chr(b).isalnum() for b in range(256)])
_WORD, _PAIR, _LEAD, _CHAR, _FACT = (
    np.uint64(_BASE * n % 2**64) for n in (3, 5, 7, 11, 13)
)  # fmt: skip
_MIX1, _MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_TRUE = np.ones(1, dtype=np.bool_)
_SHIFT1, _SHIFT2, _TOP = np.uint64(30), np.uint64(27), np.uint64(64 - BUCKET_BITS)


def excerpt(text: str) -> bytes:
    """The part of a text that is looked at, as UTF-8: all of it, or its head and its tail."""
    if len(text) > HEAD_BYTES + TAIL_BYTES:
        text = text[:HEAD_BYTES] + " " + text[-TAIL_BYTES:]
    raw = text.encode("utf-8", errors="replace")
    if len(raw) > HEAD_BYTES + TAIL_BYTES:
        raw = raw[:HEAD_BYTES] + raw[-TAIL_BYTES:]
    return raw


def _buckets(hashes: UIntArray) -> NDArray[np.uint16]:
    """Splitmix64's finaliser, in place, then the top bits."""
    hashes ^= hashes >> _SHIFT1
    hashes *= _MIX1
    hashes ^= hashes >> _SHIFT2
    hashes *= _MIX2
    return (hashes >> _TOP).astype(np.uint16)


def distinct(buckets: NDArray[np.uint16]) -> tuple[IntArray, IntArray]:
    """Distinct buckets, ascending, and how often each stands there."""
    if not len(buckets):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    ordered = np.sort(buckets, kind="stable")  # of 16 bits: a radix sort
    ends = np.concatenate((_TRUE, ordered[1:] != ordered[:-1], _TRUE)).nonzero()[0]
    return ordered.take(ends[:-1]).astype(np.int64), ends[1:] - ends[:-1]


def text_hash(text: str) -> int:
    """A stable 64-bit hash of a name or a system prompt; only its first 4096 characters count."""
    raw = text[:4096].encode("utf-8", errors="replace")
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "little")


def ngram_buckets(raw: bytes, facts: tuple[int, ...] = ()) -> tuple[NDArray[np.uint16], int]:
    """Buckets of every word, word pair, leading word, char n-gram and fact; and the word count."""
    # padded, so that sums begin before the first byte (only differences count) and words end
    codes = np.frombuffer(b"\0" + raw + b"\0", dtype=np.uint8)
    n = len(raw)
    sums = (_FOLD.take(codes[:-1]) * _INVERSE[: n + 1]).cumsum()
    inside = _IN_WORD.take(codes)
    edges = (inside[1:] != inside[:-1]).nonzero()[0]
    starts, at = edges[::2], sums.take(edges)
    words = (at[1::2] - at[::2]) * _POWER.take(starts)
    hashes = [words ^ _WORD, words[:-1] * _PAIR + words[1:], words[:LEADING_WORDS] * _LEAD]
    for size in CHAR_NGRAMS:
        if n >= size:
            hashes.append((sums[size:] - sums[:-size]) * _POWER[: n + 1 - size] ^ _CHAR)
    hashes.append(np.array(facts, dtype=np.uint64) * _FACT)
    return _buckets(np.concatenate(hashes)), len(starts)
