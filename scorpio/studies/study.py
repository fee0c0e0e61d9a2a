"""What is a study? A question, runs that do not depend on each other, and a page made of their
rows.

A study has three steps, so that each can be looked at alone: `cells` names the runs, `rows` makes
plain JSON values of what they returned, `page` makes text and figures of the rows and of nothing
else. So a page that was written can be made again from the JSON beside it, and a test does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scorpio.engine.virtual.build import EngineSpec
from scorpio.twin.config import TwinConfig
from scorpio.twin.gpu.file import gpu_model
from scorpio.twin.pool import Task
from workloads.load import LoadKey
from workloads.results.intervals import mean_interval

GPU = "a100-llama-3.1-8b"
CARD = "24gb-llama-3.1-8b"  # little memory, and most of a step is fixed cost
OURS, STOCK, TUNED = "scorpio", "fcfs", "fcfs-tuned"
Cells = Sequence[Task[Any]]  # each label says all of its run; runs return JSON values
Found = Sequence[tuple[Task[Any], Any]]  # each run with what it returned
Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Page:
    """text: below the heading and the header line. figures: file name -> PNG. blocks: (page from
    the project's root, name of the marks) -> what stands between them, made of the same rows."""

    text: str
    figures: Mapping[str, bytes] = field(default_factory=dict)
    blocks: Mapping[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Study:
    """name: of its page, docs/results/NAME.md. cells(quick): which runs; quick ones only show that
    everything works. Raises WorkloadError when a trace is not on this machine."""

    name: str
    question: str
    cells: Callable[[bool], Cells]
    rows: Callable[[Found], Rows]
    page: Callable[[Rows], Page]


def reference(scale: float, seed: int, quick: bool = False) -> LoadKey:
    """The window that the policy was developed on. Quick: a synthetic one, there on any machine."""
    if quick:
        return LoadKey("azure-conv-synth", "0:60", "six", scale, seed)
    return LoadKey("azure-conv", "2000:2800", "six", scale, seed)


def engine(gpu_name: str = GPU, caching: bool = False) -> TwinConfig:
    """vLLM's defaults with the GPU's KV pool. caching: of prefixes."""
    gpu = gpu_model(gpu_name)
    return TwinConfig(gpu, EngineSpec(num_blocks=gpu.kv_blocks, enable_prefix_caching=caching))


def flags(values: Iterable[bool]) -> str:
    """A 0 or 1 for each request: how runs keep what became of them."""
    return "".join(str(int(value)) for value in values)


def percents(kept: str) -> list[float]:
    """`flags` as 0 or 100 each, so that their mean is a share in percent."""
    return [100.0 * int(flag) for flag in kept]


def interval(values_by_run: Sequence[Sequence[float]]) -> list[float]:
    """[mean, low, high] over runs and requests, as rows keep it."""
    found = mean_interval(values_by_run)
    return [round(value, 4) for value in (found.mean, found.low, found.high)]


def shown(value: Sequence[float] | None, digits: int = 1, sign: bool = False) -> str:
    """[mean, low, high] for people; with a sign, bold when the interval excludes zero."""
    if value is None:
        return "–"
    mean, low, high = (f"{v:{'+' if sign else ''}.{digits}f}" for v in value)
    text = f"{mean} ({low} to {high})"
    excludes_zero = value[1] > 0.0 or value[2] < 0.0
    return f"**{text}**" if sign and excludes_zero else text


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)
