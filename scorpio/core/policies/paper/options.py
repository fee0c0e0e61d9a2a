"""What may an operator tune in `scorpio-paper`? Its constants, with the published defaults."""

from __future__ import annotations

from dataclasses import dataclass

from scorpio.core.options import Options, option, switch


@dataclass(frozen=True, slots=True)
class PaperOptions(Options):
    """Constants of the published algorithm.

    kappa, safety, ttft_margin_s: 1.3, 0.99 and 50 ms in the public artefact of arXiv 2505.23022.
    best_effort_tpot_s: TPOT target of requests without a TPOT SLO (ours; see virtual_batch.py).
    ttft_guard, tpot_guard: 1 or 0, for the paper's ablation. Without the first, arrival order and
    no request refused for TTFT; without the second, no admission test and no credits.
    """

    kappa: float = option(1.3, 1.0, 100.0)
    safety: float = option(0.99, 0.01, 1.0)
    ttft_margin_s: float = option(0.05, 0.0, 3600.0)
    best_effort_tpot_s: float = option(1.0, 0.001, 3600.0)
    ttft_guard: float = switch(1.0)
    tpot_guard: float = switch(1.0)
