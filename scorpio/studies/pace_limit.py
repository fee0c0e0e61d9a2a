"""How much could a batch at one pace serve? `python -m scorpio.studies.pace_limit`.

Every step costs the engine its fixed part, so a batch whose tightest TPOT SLO is S spends
(base + gap) / S of the time on nothing else; what is left serves the cheapest requests first,
their costs known. No bursts, no deadlines, no end effects: not a bound (see
`workloads/bound/ceiling.py`), but it tells what a policy can hope for that always serves its
tightest class.
"""

from __future__ import annotations

import numpy as np

from scorpio.studies.window import window_parser
from scorpio.twin.gpu.file import gpu_model
from workloads.named import load_workload


def main() -> None:
    """One line per load: served share at the pace of each TPOT class and all looser ones."""
    args = window_parser(__doc__, "1.2,1.6,2.4,4").parse_args()
    gpu = gpu_model(args.gpu)
    m = gpu.step
    for scale in args.rate_scale:
        load = load_workload(args.trace, args.rows, scale, 0, args.mix)
        prompt = np.array([r.prompt_tokens for r in load], float)
        output = np.array([r.output_tokens for r in load], float)
        slo_s = np.array([r.tpot_slo_s for r in load])
        prefill_s = prompt * (m.high_token_s + 0.5 * m.prefill_prefix_s * prompt)
        context = prompt + 0.5 * output
        cost_s = prefill_s + (output - 1) * (m.low_token_s + m.context_token_s * context)
        shares = []
        for pace_s in np.unique(slo_s):
            capacity_s = load[-1].send_s * (1.0 - (m.base_s + gpu.gap_s) / pace_s)
            cheapest_s = np.cumsum(np.sort(cost_s[slo_s >= pace_s]))
            served = int(np.searchsorted(cheapest_s, capacity_s))
            shares.append(f"{1e3 * pace_s:.0f} ms and looser {served / len(load):6.1%}")
        print(f"x{scale:<4g} " + "   ".join(shares))


if __name__ == "__main__":
    main()
