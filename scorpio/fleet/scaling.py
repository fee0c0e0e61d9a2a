"""How does Ray Serve learn how many replicas there should be? An autoscaling policy of ours.

The fronts decide (`wanted.py`) and tell the registry; each replica hands that on to Ray's
controller as its autoscaling statistics, and this policy takes the newest. For Ray it is
`AutoscalingPolicy(policy_function=PromisesPolicy, policy_kwargs=...)`; Ray copies this module to
its controller, so it imports little.
"""

from __future__ import annotations

from typing import Any

WANTED = "scorpio_wanted_replicas"
LOOK_BACK_S = 15.0  # Ray asks replicas in a fifth of that


class PromisesPolicy:
    """Called by Ray's controller. min_replicas, max_replicas: Ray's own bounds hold, too."""

    def __init__(self, min_replicas: int = 1, max_replicas: int = 4096) -> None:
        if not 1 <= min_replicas <= max_replicas:
            raise ValueError(
                f"1 <= min_replicas <= max_replicas, got {min_replicas!r} and {max_replicas!r}"
            )
        self._least, self._most = min_replicas, max_replicas

    def __call__(self, ctx: Any) -> tuple[int, dict[str, Any]]:
        """ctx: Ray's AutoscalingContext. As many as there are to be while nothing was told."""
        told = [
            (one.timestamp, one.value)
            for series in ((ctx.raw_metrics or {}).get(WANTED) or {}).values()
            for one in series
        ]
        wanted = int(max(told)[1]) if told else int(ctx.target_num_replicas)
        return min(max(wanted, self._least), self._most), {}


def autoscaling_config(least: int, first: int, most: int) -> dict[str, Any]:
    """Of a deployment. Ray's own delays (30 s up, 600 s down) are off: the rule holds by itself."""
    bounds = {"min_replicas": least, "max_replicas": most}
    return {
        **bounds,
        "initial_replicas": first,
        "upscale_delay_s": 0.0,
        "downscale_delay_s": 0.0,
        "look_back_period_s": LOOK_BACK_S,
        "policy": {
            "policy_function": f"{__name__}:{PromisesPolicy.__name__}",
            "policy_kwargs": bounds,
        },
    }
