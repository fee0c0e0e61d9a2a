"""How is a load tool's run sent again? Its result as a trace: when requests came, how long they
were; what prompts shared and what was promised is in no such file."""

from __future__ import annotations

from pathlib import Path

from scorpio.twin.fidelity.logs import read_client_log
from workloads.traces.row import TraceRow, with_unique_hash_ids
from workloads.traces.trace import write_trace


def convert_result(source: Path, out: Path) -> list[str]:
    """Write what a client's file holds as Mooncake JSONL, and what to tell people; nothing, and []
    where `source` is no such file.

    Raises:
        WorkloadError: malformed; nothing is written.
    """
    log = read_client_log(source)
    if log is None:
        return []
    rows = [TraceRow(r.send_s, r.prompt_tokens, r.output_tokens) for r in log.requests]
    write_trace(out, with_unique_hash_ids(rows))
    missing = f" and {log.dropped:,} failed ones missing" if log.dropped else ""
    return [
        f"{source}: a client's log: {len(rows):,} requests used{missing}; it tells no SLOs:"
        " --mix says them",
        str(out),
    ]
