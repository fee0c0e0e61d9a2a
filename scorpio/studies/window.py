"""Which window of which trace, on which GPU? What the benches of the twin share."""

from __future__ import annotations

import argparse

from scorpio.engine.virtual.build import EngineSpec
from scorpio.twin.config import TwinConfig
from scorpio.twin.gpu.file import gpu_model
from workloads.load import LoadKey


def window_parser(doc: str | None, rate_scale: str = "") -> argparse.ArgumentParser:
    """Arguments that name a window: the reference one unless told otherwise.

    rate_scale: its default loads; none = the bench has no such argument.
    """
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--gpu", default="a100-llama-3.1-8b")
    parser.add_argument("--trace", default="azure-conv")
    parser.add_argument("--rows", default="2000:2800")
    parser.add_argument("--mix", default="six")
    if rate_scale:
        parser.add_argument("--rate-scale", type=numbers, default=rate_scale)
    return parser


def add_runs(parser: argparse.ArgumentParser) -> None:
    """How many runs of a window, on how many processes."""
    parser.add_argument("--seed", type=whole_numbers, default="0,1,2")
    parser.add_argument("--workers", type=int)


def numbers(text: str) -> list[float]:
    """`A,B,C`. Raises ValueError."""
    return [float(part) for part in text.split(",")]


def whole_numbers(text: str) -> list[int]:
    """`A,B,C`. Raises ValueError."""
    return [int(part) for part in text.split(",")]


def workloads(args: argparse.Namespace, scale: float) -> list[LoadKey]:
    """The window at this load, once for each seed."""
    return [LoadKey(args.trace, args.rows, args.mix, scale, seed) for seed in args.seed]


def engine(gpu_name: str) -> TwinConfig:
    """vLLM's defaults with the GPU's KV pool."""
    gpu = gpu_model(gpu_name)
    return TwinConfig(gpu, EngineSpec(num_blocks=gpu.kv_blocks, enable_prefix_caching=False))
