"""Does a name give the workload it promises, and a wrong one a line that helps?"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.shared_data import SHARED_DATA, shared_data
from workloads import named as catalog
from workloads.errors import MissingTraceError, UnknownName, WorkloadError
from workloads.named import External, load_workload, read_entry, workload_names
from workloads.synthetic.fit import columns, ks_distance
from workloads.synthetic.generate import Synthetic, synthetic_rows
from workloads.traces.row import TraceRow, with_unique_hash_ids
from workloads.traces.trace import read_trace, write_trace

SYNTHETIC = [
    "azure-code-synth",
    "azure-conv-synth",
    "azure-day",
    "cpu-demo",
    "gamma-cv5",
    "mooncake-synth",
    "servegen-r1-synth",
    "sharegpt-poisson",
    "toolagent-synth",
]
EXTERNAL = ["azure-conv", "mooncake", "mooncake-prefix", "servegen-r1"]


def test_the_names() -> None:
    assert workload_names() == sorted(SYNTHETIC + EXTERNAL)


@pytest.mark.parametrize("name", SYNTHETIC)
def test_a_synthetic_workload_loads(name: str) -> None:
    requests = load_workload(name, rows="0:200", seed=5)
    assert [r.index for r in requests] == list(range(200))
    assert requests[0].send_s == 0.0
    assert requests == load_workload(name, rows="0:200", seed=5)
    assert requests != load_workload(name, rows="0:200", seed=6)
    counts = Counter(r.slo_class for r in requests)
    assert sorted(counts.values()) == [33, 33, 33, 33, 34, 34]
    window = load_workload(name, rows="100:200", seed=5)
    assert [r.prompt_tokens for r in window] == [r.prompt_tokens for r in requests[100:]]
    assert window[0].send_s == 0.0
    spec = read_entry(name)
    assert isinstance(spec, Synthetic)
    assert len(load_workload(name)) == spec.requests


@pytest.mark.parametrize("name", EXTERNAL)
def test_an_external_workload_says_where_to_get_it(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(catalog.DATA_VARIABLE, str(tmp_path))
    monkeypatch.setattr(catalog, "find_data", lambda files: None)
    with pytest.raises(MissingTraceError) as caught:
        load_workload(name)
    entry = read_entry(name)
    assert isinstance(entry, External)
    assert entry.instead in SYNTHETIC
    for part in (name, entry.instead, "$SCORPIO_DATA", "https://", *entry.files):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_data_is_found_by_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.5,374,44\n"
    (tmp_path / "AzureLLMInferenceTrace_conv.csv").write_text(text)
    monkeypatch.setenv("SCORPIO_DATA", str(tmp_path))
    (request,) = load_workload("azure-conv")
    assert (request.prompt_tokens, request.output_tokens) == (374, 44)


def test_mooncake_is_spread_and_shares_only_when_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = [TraceRow(3.0 * (i // 4), 1024, 5, (0, i + 1)) for i in range(8)]
    write_trace(tmp_path / "conversation_trace.jsonl", rows)
    monkeypatch.setenv("SCORPIO_DATA", str(tmp_path))
    alone, sharing = load_workload("mooncake"), load_workload("mooncake-prefix")
    assert len({i for r in alone for i in r.hash_ids}) == 16
    assert [r.hash_ids for r in sharing] == [r.hash_ids for r in rows]
    assert [r.send_s for r in alone] == [r.send_s for r in sharing]
    assert len({r.send_s for r in alone}) == 8
    assert load_workload("mooncake", seed=1)[1].send_s != alone[1].send_s


def test_rate_scale_multiplies_the_rate() -> None:
    slow, fast = (load_workload("cpu-demo", rate_scale=x) for x in (1.0, 2.5))
    assert fast[-1].send_s == pytest.approx(slow[-1].send_s / 2.5)
    assert [r.slo_class for r in fast] == [r.slo_class for r in slow]


def test_the_reference_point() -> None:
    shared_data("traces/azure2023_conv.csv")
    requests = load_workload("azure-conv", rows="2000:2800", seed=0, mix="six")
    assert len(requests) == 800
    assert len(requests) / requests[-1].send_s == pytest.approx(4.96, abs=0.01)
    assert (requests[0].prompt_tokens, requests[0].output_tokens) == (2739, 97)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            {"name_or_path": "azure"},
            "unknown trace or file 'azure'; valid: azure-code-synth, azure-conv, ",
        ),
        ({"name_or_path": "/no/such.jsonl"}, "unknown trace or file '/no/such.jsonl'; valid: "),
        ({"name_or_path": "mixes"}, "unknown trace or file 'mixes'"),
        (
            {"mix": "seven"},
            "unknown mix 'seven'; valid: artefact-3, cpu, e2e-3, product, six, six-value, trace",
        ),
        ({"rows": "9:3"}, "rows must be A:B"),
        ({"rate_scale": 0.0}, "rate scale must be"),
        ({"seed": -1}, "seed must be >= 0"),
        ({"mix": "trace"}, "no row of the trace states an SLO"),
    ],
)
def test_a_wrong_argument_is_one_clear_line(
    arguments: dict[str, str | int | float], reason: str
) -> None:
    with pytest.raises(WorkloadError) as caught:
        load_workload(**{"name_or_path": "cpu-demo", **arguments})  # type: ignore[arg-type]
    assert str(caught.value).startswith(reason) or reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, UnknownName) == reason.startswith("unknown")


def test_ones_own_table_may_build_on_an_entry(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'kind = "synthetic"\nbase = "cpu-demo"\nrequests = 7\n[output_tokens]\nhigh = 9\n'
    )
    mine, demo = load_workload(str(path)), load_workload("cpu-demo", rows="0:7")
    assert [r.prompt_tokens for r in mine] == [r.prompt_tokens for r in demo]
    assert [r.output_tokens for r in mine] == [min(9, r.output_tokens) for r in demo]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a = ", "Invalid value"),
        ("kind = 'x'", "kind must be 'synthetic' or 'external', got 'x'"),
        ("kind = 'synthetic'", "missing"),
        ("base = 'x'", "unknown base 'x'"),
        ("kind = 'external'\nfiles = ['a']\nsource = 'b'\ninstead = 'c'", "kind must be"),
        ("kind = 'external'", "files"),
    ],
)
def test_a_wrong_table_is_named(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(WorkloadError) as caught:
        load_workload(str(path))
    assert str(path) in str(caught.value)
    assert reason in str(caught.value)


def test_cpu_demo_fits_a_small_model() -> None:
    requests = load_workload("cpu-demo", mix="cpu", rows="0:2000")
    assert {16, 512} <= {r.prompt_tokens for r in requests}
    assert all(16 <= r.prompt_tokens <= 512 for r in requests)
    assert all(4 <= r.output_tokens <= 64 for r in requests)
    sent = np.array([r.send_s for r in requests])
    burst = ((sent >= 30.0) & (sent < 42.0)).sum() / 12.0
    assert 3.0 < burst < 7.0
    assert (sent >= 42.0).sum() / (sent[-1] - 42.0) == pytest.approx(1.2, rel=0.1)


@pytest.mark.parametrize(
    ("name", "file", "rate_rps"),
    [
        ("azure-conv-synth", "traces/azure2023_conv.csv", 5.53),
        ("mooncake-synth", "traces/mooncake_conversation.csv", 3.40),
        ("servegen-r1-synth", "traces/servegen_deepseek-r1_1h.csv", 4.03),
    ],
)
def test_fitted_statistics_hold_on_the_reference(name: str, file: str, rate_rps: float) -> None:
    prompt, output, _ = columns(read_trace(shared_data(file)))
    spec = read_entry(name)
    assert isinstance(spec, Synthetic)
    made_prompt, made_output, made_s = columns(synthetic_rows(spec, 40_000, seed=11))
    assert ks_distance(prompt, made_prompt) < 0.025
    assert ks_distance(output, made_output) < 0.025
    assert ks_distance(output / prompt, made_output / made_prompt) < 0.04
    assert made_prompt.mean() == pytest.approx(prompt.mean(), rel=0.05)
    assert made_output.mean() == pytest.approx(output.mean(), rel=0.03)
    for q in (0.5, 0.9, 0.99):
        assert np.quantile(made_prompt, q) == pytest.approx(np.quantile(prompt, q), rel=0.12)
        assert np.quantile(made_output, q) == pytest.approx(np.quantile(output, q), rel=0.12)
    assert len(made_s) / made_s[-1] == pytest.approx(rate_rps, rel=0.03)


def test_sharegpt_statistics() -> None:
    spec = read_entry("sharegpt-poisson")
    assert isinstance(spec, Synthetic)
    prompt, output, _ = columns(synthetic_rows(spec, 40_000, seed=11))
    # computed from the file itself with SmolLM2's tokenizer (catalog/sharegpt-poisson.toml)
    assert prompt.mean() == pytest.approx(235.6, rel=0.03)
    assert output.mean() == pytest.approx(217.4, rel=0.03)
    assert np.median(prompt) == pytest.approx(108, rel=0.05)
    assert np.median(output) == pytest.approx(140, rel=0.05)


def test_the_project_carries_no_reference_data() -> None:
    """Statistics only: no published trace is copied into the package."""
    packaged = [p for p in Path(catalog.__file__).parent.rglob("*") if p.is_file()]
    assert not [p for p in packaged if p.suffix in {".csv", ".jsonl", ".gz"}]
    assert not SHARED_DATA.resolve().is_relative_to(Path(catalog.__file__).resolve().parents[1])


def test_rows_of_a_file_keep_its_ids(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    rows = with_unique_hash_ids([TraceRow(float(i), 600, 3) for i in range(6)])
    write_trace(path, rows)
    window = load_workload(str(path), rows="2:4")
    assert [r.hash_ids for r in window] == [r.hash_ids for r in rows[2:4]]
    assert [r.send_s for r in window] == [0.0, 1.0]
