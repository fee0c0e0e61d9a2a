"""How does a foreign log become a canonical trace? Read by the one intake, then written."""

from __future__ import annotations

from pathlib import Path

from workloads.traces.intake import Intake, read_intake
from workloads.traces.reading import AS_IT_SAYS, Reading
from workloads.traces.row import BLOCK_TOKENS
from workloads.traces.trace import write_trace


def convert(
    source: Path | str, out: Path | str, reading: Reading = AS_IT_SAYS, seed: int = 0
) -> Intake:
    """Write what `source` holds as Mooncake JSONL: milliseconds, blocks of 512 tokens.

    Raises:
        TraceError: malformed or doubtful source; nothing is written.
    """
    found = read_intake(source, None, reading, seed)
    write_trace(out, found.rows)
    return found


def lost_prefixes(found: Intake) -> str | None:
    """What the canonical form cannot hold of this trace; None when it holds all."""
    if found.block_tokens is None or found.block_tokens % BLOCK_TOKENS == 0:
        return None
    return (
        f"blocks of {found.block_tokens} tokens are written as blocks of {BLOCK_TOKENS}: of each"
        f" shared prefix up to {BLOCK_TOKENS - found.block_tokens} tokens are lost"
    )
