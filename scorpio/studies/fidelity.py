"""How near is the twin to a real engine? Against a per-request log of vLLM on a real GPU."""

from __future__ import annotations

from dataclasses import dataclass

from scorpio.studies.questions import QUESTIONS
from scorpio.studies.study import Cells, Found, Page, Rows, Study, table
from scorpio.twin.fidelity.log_report import log_fidelity
from scorpio.twin.fidelity.logs import read_log
from scorpio.twin.gpu.file import gpu_model
from workloads.errors import MissingTraceError
from workloads.named import DATA_VARIABLE, find_data

LOG = "latency/vllm_rtxpro6000_llama31_8b_requests.jsonl"
GPU = "rtxpro6000-llama-3.1-8b"
FITTED_SHARE = 1.0 / 3.0


@dataclass(frozen=True, slots=True)
class Against:
    """The twin against one log: one gap fitted on its first part, and published gaps."""

    log: str
    gpu: str

    @property
    def label(self) -> str:
        """Log and model."""
        return f"fidelity: {self.log}, {self.gpu}"

    def run(self) -> list[dict[str, object]]:
        """A table for each gap."""
        path = find_data((self.log,))
        if path is None:
            raise MissingTraceError(f"{self.log} is not on this machine")
        return [
            case.to_dict()
            for case in log_fidelity(read_log(path), gpu_model(self.gpu), FITTED_SHARE)
        ]


def _cells(quick: bool) -> Cells:
    if find_data((LOG,)) is None:
        raise MissingTraceError(f"needs {LOG} in ${DATA_VARIABLE}")
    return [Against(LOG, GPU)]


def _rows(found: Found) -> Rows:
    return [case for _, cases in found for case in cases]


def _page(rows: Rows) -> Page:
    parts = []
    for case in rows:
        lines = []
        for row in case["rows"]:
            share = row["around"] is not None
            real, twin = ((f"{100 * v:.1f} %" if share else f"{v:.1f}") for v in
                          (row["real"], row["twin"]))  # fmt: skip
            error = f"{100 * row['error']:+.1f} {'points' if share else '%'}"
            around = " to ".join(f"{100 * v:.1f} %" for v in row["around"]) if share else ""
            lines.append([row["metric"], real, twin, error, around])
        heads = ["", "real engine", "twin", "error", "real, SLOs 1 % tighter and looser"]
        parts.append(f"## {case['title']}\n\n{table(heads, lines)}")
    text = """\
A vLLM 0.19 run of 300 requests at 10 a second, Llama-3.1-8B on an RTX PRO 6000. The twin gets the
same arrivals, lengths and engine flags. The only constant is the engine's own time per step (gap):
fitted on the first third of the log and tested on the rest, or as others published it.

"""
    return Page(text + "\n".join(parts))


STUDY = Study("fidelity", QUESTIONS["fidelity"], _cells, _rows, _page)
