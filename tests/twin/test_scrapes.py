"""What two scrapes of `/metrics` tell: on pages as the twin's own engine would have shown them."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scorpio.cli.app import app
from scorpio.engine.virtual.spec import EngineSpec
from scorpio.twin.config import TwinConfig
from scorpio.twin.fidelity.scrape_fit import fit_stretches, itl_s
from scorpio.twin.fidelity.scrapes import read_scrapes, stretches
from scorpio.twin.gpu.file import gpu_model
from scorpio.twin.gpu.noise import NO_NOISE
from scorpio.twin.gpu.scaling import Factors, scaled
from scorpio.twin.gpu.step_models import BUILT_IN, GpuModel
from scorpio.twin.run import run_twin
from tests.twin.driving import promised
from workloads.errors import WorkloadError

A100 = BUILT_IN["a100-llama-3.1-8b"]
COUNTERS = {
    "vllm:prompt_tokens_total": 0.0,
    "vllm:generation_tokens_total": 0.0,
    "vllm:iteration_tokens_total_count": 0.0,
    "vllm:iteration_tokens_total_sum": 0.0,
    "vllm:inter_token_latency_seconds_count": 0.0,
    "vllm:inter_token_latency_seconds_sum": 0.0,
    "vllm:time_to_first_token_seconds_count": 0.0,
}


def page(counters: dict[str, float], engine: str = "0") -> str:
    """As /metrics shows them."""
    labels = f'{{engine="{engine}",model_name="m"}}'
    lines = [f"# TYPE {name} counter\n{name}{labels} {value}" for name, value in counters.items()]
    cache = 'vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="12345"} 1.0'
    return "\n".join(["# HELP vllm:x x", *lines, cache, ""])


def served(gpu: GpuModel, rates: Sequence[float], prompt: int = 600) -> list[str]:
    """A page before anything, and one after each load."""
    counters, pages = dict(COUNTERS), [page(COUNTERS)]
    for number, rate in enumerate(rates):
        draw, at_s, load = random.Random(number), 0.0, []
        for index in range(80):
            size = draw.randint(prompt // 2, prompt * 3 // 2)
            load.append(promised(index, at_s, size, draw.randint(60, 200)))
            at_s += draw.expovariate(rate)
        run = run_twin(TwinConfig(gpu, EngineSpec(num_blocks=20_000), NO_NOISE), load, "fcfs")
        rows = run.records
        counters["vllm:prompt_tokens_total"] += sum(r.prompt_tokens for r in rows)
        counters["vllm:generation_tokens_total"] += sum(r.output_tokens for r in rows)
        counters["vllm:iteration_tokens_total_count"] += run.steps
        counters["vllm:iteration_tokens_total_sum"] += sum(
            r.prompt_tokens + r.output_tokens for r in rows
        )
        counters["vllm:time_to_first_token_seconds_count"] += len(rows)
        counters["vllm:inter_token_latency_seconds_count"] += sum(r.output_tokens - 1 for r in rows)
        counters["vllm:inter_token_latency_seconds_sum"] += sum(
            (r.last_token_s or 0.0) - (r.first_token_s or 0.0) for r in rows
        )
        pages.append(page(counters))
    return pages


def written(folder: Path, pages: Sequence[str]) -> list[Path]:
    """A file for each."""
    paths = [folder / f"{number}.prom" for number in range(len(pages))]
    for path, text in zip(paths, pages, strict=True):
        path.write_text(text)
    return paths


@pytest.mark.parametrize(("free", "factor", "gap_s"), [("gap", 1.0, 0.004), ("speed", 1.6, 0.0015)])
def test_the_one_number_is_found_again(
    tmp_path: Path, free: str, factor: float, gap_s: float
) -> None:
    truth = scaled(A100, Factors(factor, factor, factor, factor)).with_gap(gap_s)
    seen = stretches(read_scrapes(written(tmp_path, served(truth, (3.0, 6.0)))), 2048)
    found = fit_stretches(seen, A100, free)  # type: ignore[arg-type]
    assert found.free == free
    assert found.factor == pytest.approx(factor, rel=0.12)
    assert found.gpu.gap_s == pytest.approx(gap_s, abs=0.002)
    for one in seen:  # a mean of steps is not the mean step: a tenth is what this can tell
        assert itl_s(truth, one) == pytest.approx(one.itl_s, rel=0.12)
        assert itl_s(found.gpu, one) == pytest.approx(one.itl_s, rel=0.08)


def test_on_the_command_line(tmp_path: Path) -> None:
    """Two scrapes in one file, one behind the other, and a third in its own."""
    pages = served(A100.with_gap(0.003), (3.0, 6.0))
    (tmp_path / "a.prom").write_text("".join(pages[:2]))
    (tmp_path / "b.prom").write_text(pages[2])
    out = tmp_path / "gpu.json"
    words = ["calibrate", str(tmp_path / "a.prom"), str(tmp_path / "b.prom"), "--out", str(out)]
    refused = CliRunner().invoke(app, words)
    assert (refused.exit_code, out.exists()) == (2, False)
    assert "tells one speed, not which GPU it is of; name the nearest: 24gb" in refused.stderr
    done = CliRunner().invoke(app, [*words, "--base", A100.name, "--fitted-share", "0.5"])
    assert done.exit_code == 0, done.stderr
    assert "fitted on 1 of 2 stretches, tested on the other 1" in done.stdout
    assert "means between scrapes alone" in done.stdout
    assert gpu_model(str(out)).kv_blocks == 12345
    assert json.loads(out.read_text())["fit"]["base"] == A100.name


def test_counters_of_all_engines_are_added(tmp_path: Path) -> None:
    one = dict.fromkeys(COUNTERS, 10.0)
    other = page(one, "1").replace('engine="0",num', 'engine="1",num')
    both = page(one) + other
    first, last = read_scrapes(written(tmp_path, [page(COUNTERS), both]))
    assert last.totals["vllm:prompt_tokens_total"] == 20.0
    assert first.kv_blocks == 12345


BUSY = dict.fromkeys(COUNTERS, 100.0)


@pytest.mark.parametrize(
    ("pages", "reason"),
    [
        ((page(BUSY),), "0.prom: one scrape of /metrics: counters tell something between two"),
        ((page(BUSY), page(BUSY)), "no token was decoded between them"),
        ((page(BUSY), page(COUNTERS)), "the server was restarted between them"),
        (
            (page(BUSY), page(BUSY).replace("inter_token_latency_seconds_sum", "x")),
            "1.prom, scrape 1: no vllm:inter_token_latency_seconds_sum: is it vLLM's /metrics?",
        ),
        ((page(BUSY), "# x\nhello world\n"), "1.prom, line 2: no line of Prometheus text"),
        (
            (page(BUSY), page(BUSY) + "vllm:spec_decode_num_drafts_total 7\n"),
            "speculative decoding",
        ),
    ],
)
def test_what_tells_nothing_is_refused(tmp_path: Path, pages: tuple[str, ...], reason: str) -> None:
    paths = [str(path) for path in written(tmp_path, pages)]
    done = CliRunner().invoke(app, ["calibrate", *paths, "--base", A100.name])
    assert done.exit_code == 2
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_scrape_has_no_requests_for_fidelity(tmp_path: Path) -> None:
    (path,) = written(tmp_path, [page(BUSY)])
    done = CliRunner().invoke(app, ["fidelity", str(path), "--gpu", A100.name])
    assert (done.exit_code, "no single requests" in done.stderr) == (2, True)


def test_nothing_to_fit() -> None:
    with pytest.raises(ValueError, match="at least one stretch"):
        fit_stretches([], A100)
    with pytest.raises(WorkloadError):
        read_scrapes([Path("/nowhere.prom")])
