"""Where may a part of `scorpio` matter? Loads, and what is unusual in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from scorpio.studies.study import CARD, reference
from scorpio.twin.config import TwinConfig
from scorpio.twin.gpu.file import gpu_model
from scorpio.twin.gpu.noise import NoiseSpec
from scorpio.twin.length_hint import LengthHint
from workloads.load import LoadKey


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a part may matter: a load of the reference window or another, and what is unusual."""

    says: str
    scale: float
    mix: str = "six"
    unusual: Callable[[TwinConfig], TwinConfig] = lambda config: config
    window: tuple[str, str] | None = None  # trace and rows
    seeds: int = 1

    def load(self, seed: int, quick: bool) -> LoadKey:
        """Its requests."""
        load = replace(reference(self.scale, seed, quick), mix=self.mix)
        trace, rows = self.window or (load.trace, load.rows)
        return replace(load, trace=trace, rows=rows)


def _wrong_lengths(config: TwinConfig) -> TwinConfig:
    return replace(config, lengths=LengthHint(None, "adversarial"))


def _scatter(config: TwinConfig) -> TwinConfig:
    return replace(config, noise=NoiseSpec(sigma=0.15, stall_probability=0.01, stall_mean_s=0.05))


def _fast_profile(config: TwinConfig) -> TwinConfig:
    return replace(config, profile_bias=0.85)


def _long_steps(config: TwinConfig) -> TwinConfig:
    return replace(config, engine=replace(config.engine, max_num_batched_tokens=8192))


def _little_kv(config: TwinConfig) -> TwinConfig:
    card = gpu_model(CARD)
    return replace(config, gpu=card, engine=replace(config.engine, num_blocks=card.kv_blocks))


SCENES: Mapping[str, Scene] = {
    "room": Scene("load x0.8: nearly all can be kept", 0.8),
    "full": Scene("load x1.6", 1.6),
    "over": Scene("load x2.4", 2.4),
    "lengths": Scene("load x2.4, and predicted lengths that mislead", 2.4, "six", _wrong_lengths),
    "scatter": Scene("load x1.6, steps scatter by 15 %, 1 in 100 stalls", 1.6, "six", _scatter),
    "profile": Scene("load x1.6, and a profile that is 15 % too fast", 1.6, "six", _fast_profile),
    "long steps": Scene("load x1.2 of `product`, 8,192 tokens a step", 1.2, "product", _long_steps),
    "little KV": Scene("load x1.0 of `servegen-r1`, `product`, on a card of 24 GB", 1.0, "product",
                       _little_kv, ("servegen-r1", "1000:1800")),
    "long prompts": Scene("load x1.6 of `mooncake`, three seeds", 1.6, "six",
                          window=("mooncake", "0:400"), seeds=3),
}  # fmt: skip
