"""When would each replica serve this request? Predicted TTFT and TPOT, [N].

The same two quantities as inside a replica (docs/how-it-works.md): steps are as long as the
tightest TPOT target allows; what decodes leave of them is for prefill, earliest deadline first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scorpio.core.arrays import BoolArray, FloatArray
from scorpio.core.routing.fleet_view import FleetView
from scorpio.core.routing.load import RoutedRequest, due_bucket

LEAST_SHARE = 0.02  # of a step, for prefill: an engine in which decodes leave nothing still ends


@dataclass(frozen=True, slots=True)
class Forecasts:
    """If the request went there, [N]."""

    ttft_s: FloatArray
    tpot_s: FloatArray

    def keeps(self, request: RoutedRequest, now_s: float) -> BoolArray:
        """Would both promises be kept there?"""
        left_s = request.deadline_s - now_s
        kept: BoolArray = (self.ttft_s <= left_s) & (self.tpot_s <= request.slo.tpot_s)
        return kept


def forecasts(view: FleetView, request: RoutedRequest, now_s: float) -> Forecasts:
    """For each replica."""
    new, alone_s = view.new_tokens(request), _alone_s(view, request)
    bucket = due_bucket(request.deadline_s - now_s)
    ahead = view.prefill_tokens[:, : bucket + 1].sum(axis=1)
    no_seat = view.requests >= view.max_num_seqs
    prefill_s = (ahead + new) * _token_s(view, request, alone_s)
    return Forecasts(np.where(no_seat, np.inf, alone_s + prefill_s), alone_s)


def drain_s(view: FleetView, request: RoutedRequest, new: FloatArray) -> FloatArray:
    """Until all prefill work there would be done, the request's own too, [N]."""
    token_s = _token_s(view, request, _alone_s(view, request))
    left_s: FloatArray = (view.queued_tokens + new) * token_s
    return left_s


def _alone_s(view: FleetView, request: RoutedRequest) -> FloatArray:
    """A step of decodes alone, the request one of them."""
    return view.decode_step_s(1.0, request.prompt_tokens + 0.5 * request.expected_output_tokens)


def _token_s(view: FleetView, request: RoutedRequest, alone_s: FloatArray) -> FloatArray:
    """Time per prefill token, as decodes leave it room."""
    # A target that is out of reach there does not shorten steps.
    own_s = np.where(request.slo.tpot_s >= alone_s, request.slo.tpot_s, np.inf)
    longest_s = np.maximum(view.full_s, alone_s)
    limit_s = np.minimum(np.minimum(view.tightest_s, own_s), longest_s)
    per_token: FloatArray = view.token_s / np.clip(1.0 - alone_s / limit_s, LEAST_SHARE, 1.0)
    return per_token
