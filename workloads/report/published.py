"""What did the SCORPIO paper report? arXiv 2505.23022, to be shown beside our own figures.

Read off its plots (Llama-3.1-8B, one A100, LMSYS prompts): about 0.1 exact. Its goodput is compared
with ours over the whole run, drain included; which of the two it divides by, it does not say.
"""

from __future__ import annotations

from collections.abc import Mapping

# good requests per second, by requests per second offered
GOODPUT: Mapping[str, Mapping[int, float]] = {
    "SCORPIO": {10: 6.9, 12: 7.3, 14: 7.3, 16: 7.7, 18: 7.0, 20: 7.7},
    "best rival": {10: 7.9, 12: 8.4, 14: 6.6, 16: 6.2, 18: 5.8, 20: 5.5},
    "worst rival": {10: 7.5, 12: 6.3, 14: 5.5, 16: 5.0, 18: 4.0, 20: 3.5},
}
# goodput of the ablation at 14 requests/s
GUARDS: Mapping[str, float] = {"TTFT guard": 6.2, "TPOT guard": 3.6, "both": 7.3}
# scheduling as a share of run time
OVERHEAD = (0.0012, 0.0017)
