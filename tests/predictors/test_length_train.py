"""Does training, from file to served model, learn a known truth and refuse what it cannot use?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from predictors.length.artifact import load_model
from predictors.length.dataset import DataError, read_pairs
from predictors.length.evaluate import figures, main
from predictors.length.quantiles import LEVELS
from predictors.length.request import LengthRequest
from tests.predictors.length_corpus import TYPICAL_TOKENS, write_corpus
from tests.shared_data import shared_data

Trained = tuple[Path, dict[str, Any], list[str]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    pytest.importorskip("lightgbm", reason="training needs scorpio-vllm[train]")
    pytest.importorskip("sklearn", reason="training needs scorpio-vllm[train]")
    from predictors.length.train import train_length

    directory = tmp_path_factory.mktemp("train")
    write_corpus(directory / "pairs.jsonl", 2000)
    said: list[str] = []
    report = train_length(directory / "pairs.jsonl", directory / "out", say=said.append)
    return directory, report, said


def test_it_learns_what_there_is_to_learn(trained: Trained) -> None:
    directory, report, said = trained
    test, baselines = report["test"], report["baselines"]
    assert test["spearman"] > 0.9
    assert test["mae_tokens"] < 0.5 * baselines["median"]["mae_tokens"]
    assert report["agreement_with_lightgbm"] < 1e-9
    for name, share in test["coverage"].items():
        assert share == pytest.approx(float(name[1:]), abs=0.09)
    assert len(said) > 5
    model = load_model(directory / "out", report["digest"])
    for verb, typical in TYPICAL_TOKENS.items():
        ask = LengthRequest(f"Please {verb} number 7: river poem.", 12, model="made-up")
        median = np.expm1(model.quantiles_z([ask])[0, LEVELS.index(0.5)])
        assert median == pytest.approx(typical, rel=0.35)


def test_report_files(trained: Trained) -> None:
    directory, report, _ = trained
    assert json.loads((directory / "out" / "report.json").read_text()) == json.loads(
        json.dumps(report)
    )
    page = (directory / "out" / "report.md").read_text()
    for word in ("Kendall", "Spearman", "TF-IDF + ridge", "decile", "coverage", "p99"):
        assert word in page
    assert sorted(p.name for p in (directory / "out").iterdir()) == [
        "length.json", "length.npz", "report.json", "report.md"]  # fmt: skip


def test_no_text_in_the_artefact(trained: Trained) -> None:
    directory, _, _ = trained
    for name in ("length.json", "length.npz"):
        content = (directory / "out" / name).read_bytes()
        assert b"theorem" not in content
        assert b"made-up" not in content


def test_evaluate_on_shifted_data(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    directory, _, _ = trained
    write_corpus(directory / "long.jsonl", 300, seed=9, stretch=3.0)
    assert main([str(directory / "out"), str(directory / "long.jsonl")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["spearman"] > 0.8
    assert found["coverage"]["q0.9"] < 0.6
    assert 0 < found["online"]["first_demoted_after"] < 150
    assert found["online"]["state"]["demotions"] >= 1
    assert main([str(directory), str(directory / "long.jsonl")]) == 2
    assert "cannot read" in capsys.readouterr().err


def test_evaluate_on_real_prompts(trained: Trained) -> None:
    pairs = read_pairs(shared_data("pairs/gpteacher_gpt4.jsonl"))
    assert len(pairs) + pairs.duplicates == 6456
    z = load_model(trained[0] / "out").quantiles_z(pairs.requests[:500])
    assert np.isfinite(z).all()


def test_split_keeps_conversations_whole(tmp_path: Path) -> None:
    write_corpus(tmp_path / "pairs.jsonl", 2000)
    pairs = read_pairs(tmp_path / "pairs.jsonl")
    parts = pairs.split(seed=1)
    names = [{pairs.conversations[i] for i in part} for part in parts]
    assert not names[0] & names[1]
    assert not names[0] & names[2]
    assert not names[1] & names[2]
    assert sum(map(len, parts)) == 2000
    assert len(parts[0]) == pytest.approx(1300, abs=120)


GOOD = '{"prompt": "a", "prompt_tokens": 1, "response_tokens": 1}'


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ("[1]", "JSON object"),
        ('{"prompt_tokens": 1, "response_tokens": 1}', "prompt must be a string"),
        ('{"prompt": "a", "prompt_tokens": -1, "response_tokens": 1}', "prompt_tokens"),
        ('{"prompt": "a", "prompt_tokens": 1, "response_tokens": true}', "response_tokens"),
        ('{"prompt": "a", "prompt_tokens": 1, "response_tokens": 1e99}', "response_tokens"),
        ('{"prompt": "a", "prompt_tokens": 1, "response_tokens": NaN}', "response_tokens"),
        (GOOD[:-1] + ', "temperature": NaN}', "temperature"),
        (GOOD[:-1] + ', "temperature": "hot"}', "temperature"),
        (GOOD[:-1] + ', "turn": 0}', "turn"),
        (GOOD[:-1] + ', "model": 5}', "model"),
        ("[" * 100_000, "not JSON"),
        ("\udcff", "decode"),
    ],
)
def test_a_bad_line_is_refused_by_file_and_line(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(f"{GOOD}\n\n{line}\n".encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=reason) as failure:
        read_pairs(path)
    assert str(failure.value).startswith(f"{path}:3: ")


def test_too_little_and_repeated_data(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(f"{GOOD}\n" * 500)
    with pytest.raises(DataError, match="1 different requests"):
        read_pairs(path)
    assert read_pairs(path, fewest=1).duplicates == 499
    with pytest.raises(DataError, match="cannot read"):
        read_pairs(tmp_path / "none.jsonl")


def test_a_constant_prediction_orders_nothing() -> None:
    found = figures(np.ones((30, len(LEVELS))), np.linspace(0, 2, 30))
    assert found["kendall"] == 0.0
    assert found["spearman"] == 0.0
