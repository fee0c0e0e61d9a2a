"""What is done to the policies, and which requests are looked at? The scenes of `robustness`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from scorpio.core.arrays import BoolArray, FloatArray
from scorpio.studies.ablation.parts import BROKEN_BIND, FIXED, GUARD, OVERDUE, SPEED
from scorpio.studies.robustness.loads import (
    ATTACKER,
    FLOOD_LENGTH_S,
    FLOOD_S,
    HOPELESS,
    LOADS,
    MAD,
    STALLED,
)
from scorpio.studies.study import OURS
from scorpio.twin.gpu.noise import NoiseSpec
from scorpio.twin.length_hint import LengthHint
from workloads.results.records import RequestRecord

ALL = (OURS, "fcfs", "qoserve")
KNOWING = (OURS, "qoserve")  # those that look at a latency profile
SHIFT_S, SHIFT = 40.0, 1.3
RECOVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One run, [n] per request in order of index."""

    send_s: FloatArray
    tenant: np.ndarray[tuple[int], np.dtype[np.str_]]
    good: BoolArray

    @classmethod
    def of(cls, records: Sequence[RequestRecord]) -> Seen:
        """What the views look at."""
        return cls(
            np.array([record.send_s for record in records]),
            np.array([record.tenant for record in records]),
            np.array([record.good for record in records]),
        )


@dataclass(frozen=True, slots=True)
class Scene:
    """A load for some policies under changed conditions.

    options: of scorpio. off: a part that it lacks. patient: the attacker's requests may not be
    refused. scale: of the trace's rate.
    """

    name: str
    load: str = ""
    policies: tuple[str, ...] = ALL
    lengths: LengthHint = field(default_factory=LengthHint)
    profile_bias: float = 1.0
    noise: NoiseSpec = field(default_factory=NoiseSpec)
    options: Mapping[str, float] = field(default_factory=dict)
    off: str = ""
    patient: bool = False
    scale: float = 1.6


@dataclass(frozen=True, slots=True)
class View:
    """Whose attainment a column shows."""

    name: str
    rows: Callable[[Seen], BoolArray]


def _every_row(seen: Seen) -> BoolArray:
    return np.ones(len(seen.good), dtype=np.bool_)


def _others(tenant: str) -> Callable[[Seen], BoolArray]:
    return lambda seen: seen.tenant != tenant


def _sent(first_s: float, last_s: float) -> Callable[[Seen], BoolArray]:
    """Of the window itself, sent within this time."""
    return lambda s: (s.send_s >= first_s) & (s.send_s < last_s) & (s.tenant != "flood")


ENDS_S = FLOOD_S + FLOOD_LENGTH_S
PHASES = (
    View("before", _sent(0.0, SHIFT_S)),
    View(f"next {RECOVERY_S:.0f} s", _sent(SHIFT_S, SHIFT_S + RECOVERY_S)),
    View("later", _sent(SHIFT_S + RECOVERY_S, np.inf)),
)
SLOWER = NoiseSpec(shift_at_s=SHIFT_S, shift_factor=SHIFT)
STALLS = NoiseSpec(stall_probability=1 / 300, stall_mean_s=1.0)
WHOLE = (View("", _every_row),)
PARTS: Mapping[str, tuple[tuple[View, ...], tuple[Scene, ...]]] = {
    "lengths": (
        WHOLE,
        tuple(
            Scene(name, policies=(OURS,), lengths=hint)
            for name, hint in (
                ("truth x lognormal(0.6)", LengthHint()),
                ("oracle", LengthHint(0.0)),
                ("50 % too long", LengthHint(0.0, bias=1.5)),
                ("50 % too short", LengthHint(0.0, bias=0.5)),
                ("constant", LengthHint(None, "constant")),
                ("no predictor", LengthHint(None)),
                ("adversarial", LengthHint(None, "adversarial")),
            )
        ),
    ),
    "latency": (
        WHOLE,
        (
            Scene("as measured"),
            *(Scene(f"profile x {f}", policies=KNOWING, profile_bias=f) for f in (0.85, 1.15)),
            *(
                Scene(
                    f"profile x {f}, speed not followed",
                    "",
                    (OURS,),
                    profile_bias=f,
                    off=SPEED,
                )
                for f in (0.85, 1.15)
            ),
        ),
    ),
    "bursts": (WHOLE, tuple(Scene(name, name) for name in LOADS if name.startswith("gamma"))),
    "flood": (
        (
            View("before", _sent(0.0, FLOOD_S)),
            View("during", _sent(FLOOD_S, ENDS_S)),
            View("next 20 s", _sent(ENDS_S, ENDS_S + 20.0)),
            View("later", _sent(ENDS_S + 20.0, np.inf)),
        ),
        (Scene("no flood"), Scene("10 x for 30 s", "flood")),
    ),
    "tenant": (
        (View("the others", _others(MAD)),),
        (
            *(Scene(name, name) for name in LOADS if name.startswith("tenant")),
            *(
                Scene(
                    f"{name}, tenant_share 1.25, tenant_room {room:g}",
                    name,
                    (OURS,),
                    options={"tenant_share": 1.25, "tenant_room": room},
                )
                for name, room in (("tenant x1", 1.0), ("tenant x10", 1.0), ("tenant x10", 16.0))
            ),
        ),
    ),
    "attack": (
        (View("the others", _others(ATTACKER)),),
        (
            *(
                Scene(name, name, ALL if name in ("no attacker", "attacker, 1 ms") else (OURS,))
                for name in LOADS
                if "attacker" in name and name not in (HOPELESS, STALLED)
            ),
            *(
                Scene(f"{name}, on_miss wait", name, (OURS,), patient=True)
                for name in ("attacker, 20 ms", "attacker, 15 ms", "attacker, 1 ms")
            ),
            *(
                Scene(
                    f"x1.2: {name}{off and f', without: {off}'}",
                    name,
                    (OURS,),
                    off=off,
                    noise=STALLS if name == STALLED else NoiseSpec(),
                    patient=name in (HOPELESS, STALLED),
                    scale=1.2,
                )
                for name, off in (
                    ("attacker, 20 ms", ""),
                    ("attacker, 20 ms", GUARD),
                    ("attacker, 20 ms", FIXED),
                    (HOPELESS, ""),
                    (HOPELESS, OVERDUE),
                    (STALLED, ""),
                    (STALLED, BROKEN_BIND),
                )
            ),
        ),
    ),
    "shift": (
        PHASES,
        (
            Scene("no shift"),
            Scene("1.3 x slower", noise=SLOWER),
            Scene("1.3 x slower, speed not followed", "", (OURS,), noise=SLOWER, off=SPEED),
        ),
    ),
}
