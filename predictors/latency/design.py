"""Which steps shall be measured? A design that covers decodes, prefills and mixtures cheaply.

A decode ladder pays for one prefill and measures many batch sizes: its requests end in groups, so
the batch halves from rung to rung. Several short ladders stand among the other points, and each
passes through the small batches: an engine that is slower for some seconds is then slower at many
sizes, not at one. Points are ordered by what the fit needs most: when time runs out, the tail is
left out and the report says so.
"""

from __future__ import annotations

from dataclasses import dataclass

RUNG_STEPS = 4
_MARGIN_TOKENS = 8  # room under max_model_len for the tokens that a point produces


@dataclass(frozen=True, slots=True)
class Ladder:
    """`batch` requests of `context` prompt tokens; the batch halves every RUNG_STEPS tokens."""

    batch: int
    context: int

    def output_tokens(self) -> list[int]:
        """Tokens of each request: half of those left end at each rung."""
        lengths: list[int] = []
        left, rung = self.batch, 1
        while left > 1:
            ending = left - left // 2
            lengths += [rung * RUNG_STEPS] * ending
            left -= ending
            rung += 1
        return [*lengths, rung * RUNG_STEPS]

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return self.context + max(self.output_tokens())


@dataclass(frozen=True, slots=True)
class Prefills:
    """Prompts of these sizes, one at a time; `prefix` tokens of each are repeated, hence cached."""

    sizes: tuple[int, ...]
    prefix: int = 0

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return self.prefix + max(self.sizes) + 1


@dataclass(frozen=True, slots=True)
class Mixture:
    """`decodes` running requests while prompts of `sizes` arrive one after the other."""

    decodes: int
    sizes: tuple[int, ...]
    context: int = 16

    @property
    def decode_tokens(self) -> int:
        """Enough to outlast the arrivals: each waits for a few steps."""
        return 12 * len(self.sizes)

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return max(max(self.sizes) + 1, self.context + self.decode_tokens)


@dataclass(frozen=True, slots=True)
class RandomLoad:
    """Sizes of an unplanned mix, drawn uniformly, to examine a fit on steps it has not seen."""

    prompts: tuple[int, ...] = (12, 30, 70, 130, 220, 400)
    outputs: tuple[int, ...] = (4, 8, 14, 20)

    @property
    def mean_prompt(self) -> float:
        """Mean prompt tokens."""
        return sum(self.prompts) / len(self.prompts)

    @property
    def mean_output(self) -> float:
        """Mean output tokens."""
        return sum(self.outputs) / len(self.outputs)

    def within(self, max_model_len: int) -> RandomLoad:
        """The sizes that fit a context length."""
        room = max_model_len - max(self.outputs) - _MARGIN_TOKENS
        return RandomLoad(tuple(dict.fromkeys(min(n, room) for n in self.prompts)), self.outputs)


Point = Ladder | Prefills | Mixture


def design_points(max_model_len: int, max_batch: int = 64) -> list[Point]:
    """Points in order of need, cut to the engine's context length and batch."""
    most = max_model_len - _MARGIN_TOKENS
    wanted: list[Point] = [
        Ladder(32, 24),
        Prefills((16, 32, 64, 128, 256, 512)),
        Mixture(8, (32, 128, 256, 16, 64, 384)),
        Ladder(4, 256),
        Mixture(2, (48, 192, 96)),
        Ladder(16, 24),
        Prefills((48, 96, 192, 384, 24)),
        Prefills((64, 256), prefix=512),
        Mixture(24, (16, 64, 192)),
        Ladder(8, 384),
        Ladder(64, 8),
        Prefills((1024,)),
        Ladder(2, 96),
        Ladder(4, 1024),
        Mixture(2, (48, 512, 96)),
        Prefills((2048,)),
        Prefills((128, 512), prefix=1024),
    ]
    cut = (_cut(point, most, max_batch) for point in wanted)
    return list(dict.fromkeys(point for point in cut if point is not None))


def _cut(point: Point, most: int, max_batch: int) -> Point | None:
    """The point within the limits: sizes clipped, or None when nothing of it is left."""
    match point:
        case Ladder():
            small = Ladder(min(point.batch, max_batch), point.context)
            room = most - max(small.output_tokens())
            return Ladder(small.batch, min(small.context, room)) if room >= 1 else None
        case Prefills():
            room = most - point.prefix
            sizes = tuple(dict.fromkeys(min(n, room) for n in point.sizes))
            return Prefills(sizes, point.prefix) if room >= 1 else None
        case Mixture():
            if point.context + point.decode_tokens > most:
                return None
            sizes = tuple(dict.fromkeys(min(n, most) for n in point.sizes))
            return Mixture(min(point.decodes, max(max_batch - 1, 1)), sizes, point.context)
