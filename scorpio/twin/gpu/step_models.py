"""How long does the modelled GPU take for a step? The twin's truth; no policy ever sees it.

Sources: fits of kernel tables (aiconfigurator-core 0.12, Apache-2.0) over 1,058-1,118 composed
decode, prefill and mixed steps per GPU; Llama-3.1, BF16. Errors are of the fit against those
tables (mean and worst absolute percentage error). A table holds GPU work only: `gap_s` adds what
vLLM itself needs per step (1.5-2 ms were measured on a real engine). The 24 GB card is fitted to an
engine's log instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from scorpio.core.latency import StepModel

DEFAULT_GAP_S = 1.5e-3
DEFAULT_KV_BLOCKS = 20_000


@dataclass(frozen=True, slots=True)
class GpuModel:
    """A step-time model with its provenance.

    kv_blocks: 16-token KV blocks beside the weights (0.9 of memory, less weights and 2-10 GB of
        activations, over the bytes per token); the A100 entry has the reference point's 20,000.
    mixed_steps: False = prefills and decodes of one step run one after the other, each with a gap:
        an engine of before chunked prefill. First tokens then come a decode step late.
    mape / max_error: error of `step` against its source, as fractions; NaN when not known.
    """

    name: str
    step: StepModel
    source: str
    mape: float = math.nan
    max_error: float = math.nan
    gap_s: float = DEFAULT_GAP_S
    kv_blocks: int = DEFAULT_KV_BLOCKS
    mixed_steps: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.gap_s) and self.gap_s >= 0.0):
            raise ValueError(f"gap_s must be finite and >= 0, got {self.gap_s!r}")
        if self.kv_blocks < 2:
            raise ValueError(f"kv_blocks must be >= 2, got {self.kv_blocks}")

    def with_gap(self, gap_s: float) -> GpuModel:
        """The same GPU under an engine with another gap between steps."""
        return replace(self, gap_s=gap_s)


def _ms(base: float, low: float, high: float, knee: float, sq: float, prefix: float,
        context: float) -> StepModel:  # fmt: skip
    """Published in milliseconds, kept in seconds."""
    k = 1e-3
    return StepModel(base * k, low * k, high * k, knee, sq * k, prefix * k, context * k)


_TABLES = "aiconfigurator-core 0.12 kernel tables, two-regime least squares"
BUILT_IN: Mapping[str, GpuModel] = {
    model.name: model
    for model in (
        GpuModel(
            "a100-llama-3.1-8b",
            _ms(11.593150, 0.02967122, 0.05310456, 96, 1.7768613e-6, 2.8201835e-6, 8.3732831e-5),
            f"{_TABLES}, A100-80GB SXM, 1,058 steps",
            mape=0.025,
            max_error=0.177,
        ),
        GpuModel(
            "h100-llama-3.1-8b",
            _ms(6.5101145, 0.01030376, 0.01929448, 384, 5.8041524e-7, 7.0423889e-7, 4.2244010e-5),
            f"{_TABLES}, H100-80GB SXM, 1,058 steps; real end-to-end rows within 2.1 % on average",
            mape=0.021,
            max_error=0.095,
            kv_blocks=26_800,
        ),
        GpuModel(
            "h100x4-llama-3.1-70b",
            _ms(15.689561, 0.03748223, 0.06178345, 384, 8.3119126e-7, 7.4161943e-7, 2.5467574e-5),
            f"{_TABLES}, 4 x H100-80GB SXM (TP 4), 1,060 steps",
            mape=0.025,
            max_error=0.162,
            kv_blocks=26_000,
        ),
        GpuModel(
            "rtxpro6000-llama-3.1-8b",
            _ms(10.820724, 0.02408425, 0.03891943, 192, 7.8228467e-7, 1.7350792e-6, 8.4954900e-5),
            f"{_TABLES}, RTX PRO 6000, 1,118 steps",
            mape=0.022,
            max_error=0.159,
            kv_blocks=32_000,
        ),
        GpuModel(
            "24gb-llama-3.1-8b",
            _ms(22.368, 0.050260, 0.082846, 384, 1.11455e-6, 9.9444e-7, 3.38738e-5),
            "a vLLM 0.19 log of a 24 GB card, least squares; its pool of KV",
            gap_s=0.0,  # the engine's own time is in the fit already
            kv_blocks=2_588,
        ),
    )
}
# Those of kernel tables, to begin a fit from: of one that was itself fitted to a log, what its log
# did not tell is a guess already.
OF_TABLES = tuple(model for model in BUILT_IN.values() if not math.isnan(model.mape))
