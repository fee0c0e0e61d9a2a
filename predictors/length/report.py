"""What does the trainer tell people? report.json, and the same as tables in report.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from predictors.length.quantiles import LEVELS

_QUANTILES = [f"q{level:g}" for level in LEVELS]


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    def shown(cell: object) -> str:
        return f"{cell:.4g}" if isinstance(cell, float) else str(cell)

    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*lines, *("| " + " | ".join(map(shown, row)) + " |" for row in rows), ""]


def markdown(report: Mapping[str, Any]) -> str:
    """The report as one page."""
    test, data, times = report["test"], report["data"], report["latency_us"]
    lines = [
        "# Output length model",
        "",
        f"Digest `{report['digest']}`; {data['rows']} requests ({data['duplicates']} repeated ones "
        f"dropped): {data['fit']} to fit, {data['calibrate']} to calibrate, {data['test']} to "
        f"test, split by conversation, seed {data['seed']}. Lengths in tokens.",
        "",
        "## On the test part",
        "",
        *_table(
            ["model", "Kendall", "Spearman", "MAE"],
            [
                [name, row["kendall"], row["spearman"], row["mae_tokens"]]
                for name, row in (
                    ("this model (median)", test),
                    ("this model (mean)", test["mean"]),
                    *report["baselines"].items(),
                )
            ],
        ),
        "## Quantiles",
        "",
        *_table(
            ["", *_QUANTILES],
            [
                ["pinball loss, log(1 + tokens)", *(test["pinball"][q] for q in _QUANTILES)],
                [
                    "the same, of the quantiles of all answers",
                    *(report["pinball_of_all_answers"][q] for q in _QUANTILES),
                ],
                ["coverage", *(test["coverage"][q] for q in _QUANTILES)],
                *(
                    [
                        f"coverage, median <= {row['up_to_tokens']:.0f}",
                        *(row[q] for q in _QUANTILES),
                    ]
                    for row in test["coverage_by_predicted_median"]
                ),
            ],
        ),
        "## Error by decile of the true length",
        "",
        *_table(
            ["length up to", "MAE", "bias of the median"],
            [
                [f"{row['up_to_tokens']:.0f}", row["mae_tokens"], row["bias_tokens"]]
                for row in test["error_by_length_decile"]
            ],
        ),
        "## Time per request, us",
        "",
        *_table(["", "p50", "p99"], [[name, t["p50"], t["p99"]] for name, t in times.items()]),
    ]
    return "\n".join(lines)


def write_report(directory: Path, report: Mapping[str, Any]) -> None:
    """Write report.json and report.md."""
    text = json.dumps(report, indent=1, allow_nan=False)
    (directory / "report.json").write_text(text + "\n")
    (directory / "report.md").write_text(markdown(report))
