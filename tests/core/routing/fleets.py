"""Fleets for tests: engines whose numbers are easy to add up by hand."""

from __future__ import annotations

from scorpio.core.latency import StepModel
from scorpio.core.routing.fleet_view import FleetView
from scorpio.core.routing.load import Replica, RoutedRequest
from scorpio.core.slo import Slo

# 10 ms a step, 0.1 ms a prefill token, 0.05 ms a decode.
STEP = StepModel(0.010, 0.00005, 0.0001, 100.0, 0.0, 0.0, 0.0)


def replica(base_s: float = 0.010, seats: int = 64) -> Replica:
    """An engine of 2,048 tokens a step."""
    step = StepModel(base_s, 0.00005, 0.0001, 100.0, 0.0, 0.0, 0.0)
    return Replica(step, 2048, seats, 100_000)


def view(replicas: int = 4, delay_s: float = 0.0) -> FleetView:
    """Equal engines."""
    return FleetView([replica()] * replicas, delay_s)


def request(
    seq: int = 0,
    at_s: float = 0.0,
    prompt: int = 1000,
    ttft_s: float = 1.0,
    tpot_s: float = 0.05,
    prefix: tuple[int, ...] = (),
) -> RoutedRequest:
    """100 tokens are expected."""
    return RoutedRequest(seq, at_s, prompt, Slo(ttft_s, tpot_s), 100.0, prefix, 100)
