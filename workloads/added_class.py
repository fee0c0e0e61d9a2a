"""What if requests of another kind came too? `--add-class review:rps=0.5,ttft=2000,tpot=80`.

They come at random, as many a second as is said, for as long as the traffic lasts. Their prompts
and answers are as long as those of requests that are there, all or of one class; they share no
prompt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from scorpio.core.slo import MAX_SLO_MS
from workloads.errors import UnknownName, WorkloadError
from workloads.request import WorkloadRequest
from workloads.targets import class_of

_OBJECTIVES = {"ttft": "ttft_slo_s", "tpot": "tpot_slo_s", "e2el": "e2e_slo_s"}
_KEYS = ("rps", *_OBJECTIVES, "like")
_STREAM = 7_919
_MOST = 200_000  # requests


@dataclass(frozen=True, slots=True)
class AddedClass:
    """rps: requests a second. slos_s: by field of `WorkloadRequest`. like: the class whose lengths
    it has; "" = those of all."""

    name: str
    rps: float
    slos_s: tuple[tuple[str, float], ...]
    like: str = ""

    def __str__(self) -> str:
        asks = ", ".join(f"{name.removesuffix('_slo_s')} {s:g} s" for name, s in self.slos_s)
        return f"{self.name}: {self.rps:g} requests/s with {asks}"


def parse_class(text: str) -> AddedClass:
    """`NAME:rps=R,ttft=MS,tpot=MS,e2el=MS,like=CLASS`. Raises WorkloadError."""
    name, colon, rest = (part.strip() for part in text.partition(":"))
    given: dict[str, str] = {}
    for part in rest.split(","):
        key, sign, value = (word.strip() for word in part.partition("="))
        if not (name and colon and sign and value) or key in given:
            raise WorkloadError(f"add-class '{text}' must be NAME:rps=R,ttft=MS,tpot=MS,like=CLASS")
        if key not in _KEYS:
            raise UnknownName(f"part of add-class '{name}'", key, _KEYS)
        given[key] = value
    if "rps" not in given or not given.keys() & _OBJECTIVES.keys():
        raise WorkloadError(f"add-class '{name}': needs rps, and one of {', '.join(_OBJECTIVES)}")
    slos_s = tuple(
        (field, _number(name, key, given[key], MAX_SLO_MS) / 1000.0)
        for key, field in _OBJECTIVES.items()
        if key in given
    )
    rps = _number(name, "rps", given["rps"], 1e5)
    return AddedClass(name, rps, slos_s, given.get("like", ""))


def with_class(
    requests: Sequence[WorkloadRequest], added: AddedClass, seed: int = 0
) -> list[WorkloadRequest]:
    """Those and the new ones, in order of arrival; the old ones keep their index.

    Raises:
        UnknownName: no request is of the class that it is to be like.
        WorkloadError: there is such a class already, or so few come that there is none.
    """
    names = {class_of(request.slo_class) for request in requests}
    if added.name in names:
        raise WorkloadError(f"add-class: '{added.name}' is there already; --tighten changes it")
    if added.like and added.like not in names:
        raise UnknownName("class", added.like, names)
    like = [r for r in requests if added.like in ("", class_of(r.slo_class))]
    span_s = max(request.send_s for request in requests)
    draw = np.random.default_rng([seed, _STREAM])
    count = int(min(draw.poisson(added.rps * span_s), _MOST))
    if not count:
        raise WorkloadError(
            f"add-class '{added.name}': rps={added.rps:g} is no request in {span_s:.0f} s"
        )
    first = max(request.index for request in requests) + 1
    sent_s = np.sort(draw.uniform(0.0, span_s, count)).tolist()
    rows = draw.integers(0, len(like), count).tolist()
    none = dict.fromkeys(_OBJECTIVES.values(), math.inf)
    new = [
        replace(
            like[row],
            index=first + number,
            send_s=at_s,
            hash_ids=(),
            slo_class=added.name,
            tenant="",
            value=1.0,
            on_miss="",
            **(none | dict(added.slos_s)),
        )
        for number, (row, at_s) in enumerate(zip(rows, sent_s, strict=True))
    ]
    return sorted([*requests, *new], key=lambda r: (r.send_s, r.index))


def _number(name: str, key: str, text: str, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 < value <= most:
        raise WorkloadError(f"add-class '{name}': {key}={text} must be a number in (0, {most:g}]")
    return value
