"""What do scrapes of vLLM's `/metrics` tell of its steps? Means between two of them, no more.

vLLM counts its steps, the tokens that they computed and the gaps between the tokens of its answers.
It tells neither the length of one step nor which tokens shared it: so one number of a GPU can be
fitted, where a log of requests gives several (docs/calibrate.md).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from workloads.errors import TraceError, WorkloadError
from workloads.traces.text import decoded, raw_lines

STEPS = "vllm:iteration_tokens_total_count"  # steps that gave a token
COMPUTED = "vllm:iteration_tokens_total_sum"  # tokens computed in them; none from the cache
GAPS, GAPS_S = "vllm:inter_token_latency_seconds_count", "vllm:inter_token_latency_seconds_sum"
STARTED = "vllm:time_to_first_token_seconds_count"
PROMPTS, GENERATED = "vllm:prompt_tokens_total", "vllm:generation_tokens_total"
_COUNTERS = (STEPS, COMPUTED, GAPS, GAPS_S, STARTED, PROMPTS, GENERATED)
_DRAFTS = "vllm:spec_decode_num_drafts_total"
_CACHE = "vllm:cache_config_info"
_BLOCK_TOKENS = 16


@dataclass(slots=True)
class Scrape:
    """One read of /metrics. totals: counters by name, over all engines of the page."""

    where: str
    totals: dict[str, float] = field(default_factory=dict)
    seen: set[tuple[str, frozenset[tuple[str, str]]]] = field(default_factory=set)
    kv_blocks: int | None = None


@dataclass(frozen=True, slots=True)
class Stretch:
    """Means over the steps between two scrapes. itl_s: seconds between two tokens of an answer,
    over `gaps` of them; prefill_tokens: per step, `chunk_tokens` at a time; context_tokens: what a
    decode has in KV."""

    where: str
    steps: int
    gaps: int
    itl_s: float
    decodes: float
    prefill_tokens: float
    chunk_tokens: float
    context_tokens: float


def read_scrapes(paths: Sequence[Path]) -> list[Scrape]:
    """In the order given; a file may hold several, one behind the other. Raises WorkloadError
    naming file and line, or the series that is missing."""
    found = [scrape for path in paths for scrape in _scrapes(path)]
    if len(found) < 2:
        raise WorkloadError(
            f"{paths[0]}: one scrape of /metrics: counters tell something between two of them; give"
            " a later one too"
        )
    for scrape in found:
        if missing := [name for name in _COUNTERS if name not in scrape.totals]:
            raise WorkloadError(f"{scrape.where}: no {missing[0]}: is it vLLM's /metrics?")
        if scrape.totals.get(_DRAFTS):
            raise WorkloadError(
                f"{scrape.where}: speculative decoding ({_DRAFTS}): a step gives several tokens, so"
                " gaps between tokens tell no step time"
            )
    return found


def stretches(scrapes: Sequence[Scrape], budget_tokens: int) -> list[Stretch]:
    """What was between neighbours; those in which nothing was decoded are passed over.

    Raises WorkloadError: a counter went back (the server was restarted), or no stretch is left.
    """
    found = [s for pair in itertools.pairwise(scrapes) if (s := _between(*pair, budget_tokens))]
    if not found:
        raise WorkloadError(
            f"{scrapes[0].where} to {scrapes[-1].where}: no token was decoded between them"
        )
    return found


def _between(first: Scrape, last: Scrape, budget_tokens: int) -> Stretch | None:
    grown = {name: last.totals[name] - first.totals[name] for name in _COUNTERS}
    for name, by in grown.items():
        if by < 0.0:
            raise WorkloadError(
                f"{last.where}: {name} is below that of {first.where}: the server was restarted"
                " between them, or they are in the wrong order"
            )
    steps, gaps = grown[STEPS], grown[GAPS]
    if not (steps and gaps and grown[GAPS_S]):
        return None
    decodes = gaps / steps
    prefill = max(grown[COMPUTED] - grown[GENERATED], 0.0) / steps
    started = max(grown[STARTED], 1.0)
    longest = max(budget_tokens - decodes, 1.0)
    return Stretch(
        where=f"{first.where} to {last.where}",
        steps=round(steps),
        gaps=round(gaps),
        itl_s=grown[GAPS_S] / gaps,
        decodes=decodes,
        prefill_tokens=prefill,
        chunk_tokens=max(min(prefill * steps / started, longest), prefill),
        context_tokens=grown[PROMPTS] / started + grown[GENERATED] / started / 2.0,
    )


def _scrapes(path: Path) -> Iterator[Scrape]:
    """A series that comes again begins the next one."""
    number, scrape = 1, Scrape(f"{path}, scrape 1")
    try:
        for row, line in raw_lines(path):
            for name, labels, value in _samples(path, row, line):
                key = (name, frozenset(labels.items()))
                if key in scrape.seen:
                    yield scrape
                    number += 1
                    scrape = Scrape(f"{path}, scrape {number}")
                scrape.seen.add(key)
                if name == _CACHE:
                    scrape.kv_blocks = _kv_blocks(labels)
                elif name in (*_COUNTERS, _DRAFTS):
                    scrape.totals[name] = scrape.totals.get(name, 0.0) + value
    except TraceError as error:
        raise WorkloadError(f"{path}, line {error.line}: {error.reason}") from None
    yield scrape


def _samples(path: Path, row: int, line: bytes) -> Iterator[tuple[str, dict[str, str], float]]:
    try:
        for family in text_string_to_metric_families(decoded(line).strip() + "\n"):
            for sample in family.samples:
                yield sample.name, sample.labels, float(sample.value)
    except ValueError as error:
        raise WorkloadError(f"{path}, line {row}: no line of Prometheus text: {error}") from None


def _kv_blocks(labels: dict[str, str]) -> int | None:
    """Of 16 tokens."""
    try:
        return int(labels["num_gpu_blocks"]) * int(labels["block_size"]) // _BLOCK_TOKENS
    except (KeyError, ValueError):
        return None
