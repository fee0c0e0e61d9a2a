"""Are days of rates what their file says, and is what is wrong in it told with its line?"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from workloads.errors import TraceError, WorkloadError
from workloads.mixes import get_mix
from workloads.synthetic.from_rates import counts, requests_of
from workloads.traces.rates import (
    ClientTokens,
    Rates,
    is_rates,
    pooled,
    read_client_tokens,
    read_rates,
)

HEAD = "client,window_start_s,rate_rps,gap_cv\n"


def written(folder: Path, lines: str, head: str = HEAD) -> Path:
    path = folder / "rates.csv"
    path.write_text(head + lines)
    return path


def test_windows_of_each_client(tmp_path: Path) -> None:
    path = written(
        tmp_path, "a,600,1.0,2.0\nb,600,3.0,\na,1200,2.0,1.5\nb,1800,5.0,1\na,1800,4.0,1\n"
    )
    rates = read_rates(path)
    assert is_rates(path)
    assert rates.clients == ("a", "b")
    assert rates.rate_rps.tolist() == [[1.0, 2.0, 4.0], [3.0, 0.0, 5.0]]
    assert rates.gap_cv[0].tolist() == [2.0, 1.5, 1.0]
    assert (rates.window_s, rates.span_s, rates.filled) == (600.0, 1800.0, 0)
    assert rates.start_s == 600.0
    assert rates.scaled(0.5).rate_rps[0, 2] == 2.0
    assert rates.scaled(0.5).start_s == 600.0


def test_windows_without_a_line_are_between_their_neighbours(tmp_path: Path) -> None:
    rates = read_rates(written(tmp_path, "a,0,1.0,1\na,600,2.0,1\na,1800,6.0,1\n"))
    assert rates.rate_rps.tolist() == [[1.0, 2.0, 4.0, 6.0]]
    assert rates.filled == 1


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "line 2: no windows"),
        ("a,0,1,1\n", "line 2: one window only"),
        ("a,0,1,1\na,600,fast,1\n", "line 3: rate_rps: 'fast' is no number"),
        ("a,0,1,1\na,600,-1,1\n", "line 3: rate_rps must be 0 to"),
        ("a,0,1,1\na,600,nan,1\n", "line 3: rate_rps must be 0 to"),
        (
            "a,0,1,1\na,600,1,1\na,1300,1,1\n",
            "line 4: window_start_s 1300 is no multiple",
        ),
        ("a,0,1,1\na,600,1,1\na,600,2,1\n", "line 4: client a: a second line for window 600"),
        ("a,0,1\na,,1,1\n", "line 3: window_start_s: '' is no number"),
        ("a,0,1,1\na,10,1,1\na,99999990,1,1\n", "windows, more than"),
        ("a,0,1,1\na,600,1,1\na,605,1,1\n", "line 4: a window of 5 s is no whole number of 10 s"),
        ("a,0,1,1\na,0.5,1,1\n", "line 3: window_start_s: '0.5' is no whole number"),
        ("a,0,1,1\n\n\na,600,fast,1\n", "line 5: rate_rps: 'fast' is no number"),
        ("a,0,1,1\n\na,600,1,1\na,600,2,1\n", "line 5: client a: a second line"),
        ("a,0,0,1\na,600,0,1\n", "line 2: no requests: all rates are 0"),
        (
            "".join(f"c{n},0,1,1\n" for n in range(100)) + "a,600,1,1\na,6000000,1,1\n",
            "line 2: 60606060 times 10 s of all clients together, more than",
        ),
    ],
)
def test_a_mistake_names_file_and_line(tmp_path: Path, lines: str, said: str) -> None:
    path = written(tmp_path, lines)
    with pytest.raises(TraceError) as caught:
        read_rates(path)
    assert str(caught.value).startswith(f"{path}, line ")
    assert said in str(caught.value)


def test_other_files_are_no_rates(tmp_path: Path) -> None:
    path = written(tmp_path, "1,2\n", head="arrival_s,prompt_tokens\n")
    assert not is_rates(path)
    assert not is_rates(tmp_path / "none.csv")
    with pytest.raises(TraceError, match="line 1: no column client"):
        read_rates(path)
    with pytest.raises(WorkloadError, match=r"none\.csv"):
        read_rates(tmp_path / "none.csv")


@pytest.mark.parametrize(
    "content", ["{", "{}", '{"clients": {}}', '{"clients": {"a": {"input": [1, 2]}}}',
                '{"clients": {"a": {"input": [2, 1], "output": [1, 2]}}}'],
)  # fmt: skip
def test_wrong_token_lengths_name_their_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(content)
    with pytest.raises(WorkloadError, match=r"tokens\.json: "):
        read_client_tokens(path)


@pytest.mark.parametrize(
    "lengths",
    ["[[1, 2], [3, 4]]", "7", "[1]", "[2, 1]", '"ab"', "[NaN, 1]", "[1, 1" + "0" * 400 + "]"],
)
def test_a_client_whose_lengths_are_wrong_is_named(tmp_path: Path, lengths: str) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(f'{{"clients": {{"b": {{"input": [1, 2], "output": {lengths}}}}}}}')
    with pytest.raises(WorkloadError, match=r"tokens\.json: client b: ") as caught:
        read_client_tokens(path)
    assert "\n" not in str(caught.value)


def test_lengths_that_are_too_deep_are_told(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    path.write_text('{"clients": ' + "[" * 100_000)
    with pytest.raises(WorkloadError, match=r"tokens\.json: RecursionError"):
        read_client_tokens(path)


def test_lengths_between_quantiles_grow_by_a_factor(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps({"clients": {"a": {"input": [0, 1, 100], "output": [5, 5]}}}))
    found = read_client_tokens(path)["a"]
    assert found.drawn(np.array([0.0, 0.5, 0.75, 1.0]), "prompt") == pytest.approx([1, 1, 10, 100])
    assert found.drawn(np.array([0.3]), "output") == pytest.approx([5])


def test_the_pool_is_mixed_by_what_each_sends() -> None:
    rates = Rates(("a", "b", "c"), 1.0, np.array([[3.0], [1.0], [9.0]]), np.ones((3, 1)))
    one = {name: ClientTokens(np.full(2, size), np.full(2, size)) for name, size in
           (("a", 10.0), ("b", 1000.0))}  # fmt: skip
    found = pooled(rates, one)
    drawn = found.drawn(np.linspace(0.005, 0.995, 100), "prompt")
    assert (drawn < 100).mean() == pytest.approx(0.75, abs=0.02)
    with pytest.raises(WorkloadError, match="no client of the rates"):
        pooled(rates, {"d": one["a"]})


def test_counts_are_as_many_and_as_uneven_as_said() -> None:
    rates = Rates(
        ("even", "uneven"), 600.0, np.full((2, 60), 5.0), np.array([[1.0], [4.0]]) * np.ones(60)
    )
    found = counts(rates, 10.0, 0)
    assert found.shape == (2, 3600)
    assert found.mean(axis=1) == pytest.approx([50.0, 50.0], rel=0.05)
    spread = found.var(axis=1) / found.mean(axis=1)
    assert spread[0] == pytest.approx(1.0, rel=0.1)
    assert spread[1] == pytest.approx(16.0, rel=0.2)
    assert (counts(rates, 10.0, 0) == found).all()
    with pytest.raises(WorkloadError, match="no whole number"):
        counts(rates, 7.0, 0)


def test_requests_are_those_that_were_counted() -> None:
    rates = Rates(("a", "b"), 20.0, np.array([[2.0], [1.0]]), np.ones((2, 1)))
    sent = np.array([[3, 0], [1, 2]])
    long = ClientTokens(np.full(2, 9000.0), np.full(2, 50.0))
    made = requests_of(rates, sent, 10.0, {"a": long}, long, get_mix("product"), 0, 8192)
    assert len(made) == 6
    assert [r.send_s for r in made] == sorted(r.send_s for r in made)
    assert sum(r.send_s < 10.0 for r in made) == 4
    assert {r.tenant for r in made} == {"a", "b"}
    assert all(r.prompt_tokens + r.output_tokens <= 8192 for r in made)
