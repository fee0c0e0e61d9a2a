"""Is a line of a decision log told in words, and a damaged one refused?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from scorpio.cli.app import app
from scorpio.ledger.decision import Decision, Other, decision_of
from scorpio.ledger.instead import explain_decision
from tests.ledger.made import entry, refused

CHAT = Other(14, "chat", 512, -20.0, 380.0)
LATER = Other(18, "", 40, 5.0, 505.0)
EQUAL = Other(19, "agent", 1, 5.0, 500.2)
FREE = Other(20, "", 40, 5.0, None)


def decision(**what: Any) -> Decision:
    """Request 17, refused 12.5 s into the run."""
    made = {"id": "request 17", "arrived_unix_s": 12.5, "starts": 3, "steps": 2, "step_tokens": 700}
    given: dict[str, Any] = {
        "entry": refused(**made), "index": 17, "tries": 1, "waiting": 9, "waiting_tokens": 8000,
        "running": 4, "overtaken_by": 2, "started": (CHAT, LATER), "kept": (EQUAL, FREE),
    }  # fmt: skip
    return Decision(**(given | what))


def test_a_refused_request() -> None:
    said = explain_decision(decision())
    assert said[1].startswith("It came 12.500 s into the run with 600 tokens of prompt")
    assert said[4:7] == [
        "When it was refused, 4 requests ran and 9 others waited (8,000 tokens of prompt).",
        "Chosen before it: request 14 (chat, 512 tokens of prompt, due 120 ms before it),"
        " request 18 (40 tokens of prompt, due 5 ms after it), after 1 other."
        " 2 of all 3 had come after it.",
        "Kept waiting instead: request 19 (agent, 1 token of prompt, due when it was),"
        " request 20 (40 tokens of prompt, no SLO), and 7 others.",
    ]
    assert said[-1] == "Policy: scorpio, of Scorpio 0.1.0, on engine 0."


def test_a_served_request_without_an_slo() -> None:
    mine = entry(slo_ttft_ms=None, slo_tpot_ms=None, starts=1)
    said = explain_decision(decision(entry=mine, started=(CHAT,), kept=(), overtaken_by=0))
    assert "When it started, 4 requests ran" in said[4]
    assert said[5].endswith("due, as this one was not). None of all 1 had come after it.")


def test_one_that_met_none() -> None:
    alone = decision(entry=entry(), started=(), kept=(), waiting=0, waiting_tokens=0, running=0)
    assert "no request ran and no other waited" in "\n".join(explain_decision(alone))


def test_a_line_comes_back() -> None:
    assert decision_of(decision().to_line()) == decision()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"index": -1}, "index: must be a whole number"),
        ({"running": True}, "running: must be"),
        ({"kept": {}}, "kept: must be a list"),
        ({"started": [{"index": 1}]}, "another request must have index, slo_class"),
        ({"entry": None}, "entry: not an object"),
    ],
)
def test_a_damaged_line_names_its_field(change: dict[str, Any], reason: str) -> None:
    line = json.dumps(json.loads(decision().to_line()) | change)
    with pytest.raises(ValueError, match=reason):
        decision_of(line)


def comparison(place: Path, *names: tuple[str, float, int], logs: bool = True) -> Path:
    """A directory with runs, each with request 17 alone."""
    runs = []
    for policy, rate_scale, seed in names:
        stem = f"{policy}-{rate_scale}-{seed}"
        runs.append({
            "policy": policy, "rate_scale": rate_scale, "seed": seed,
            "records_file": f"records/{stem}.jsonl",
        })  # fmt: skip
        if logs:
            path = place / "decisions" / f"{stem}.jsonl"
            path.parent.mkdir(exist_ok=True)
            made = decision(entry=refused(id="request 17", policy=policy))
            path.write_text(made.to_line())
    (place / "summary.json").write_text(json.dumps({"runs": runs}))
    return place


def explained(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["explain", *words])
    return done.exit_code, done.stdout, done.stderr


def test_one_run_needs_no_choice(tmp_path: Path) -> None:
    place = comparison(tmp_path, ("scorpio", 1.0, 0))
    for words in ((str(place), "17"), ("17", "--run-dir", str(place))):
        code, said, _ = explained(*words)
        assert (code, said.splitlines()[0]) == (
            0,
            "request 17: refused after 20 ms, ttft_infeasible.",
        )


def test_several_runs_are_told_apart(tmp_path: Path) -> None:
    place = comparison(tmp_path, ("fcfs", 1.0, 0), ("fcfs", 2.0, 0), ("sjf", 2.0, 1))
    code, said, _ = explained(str(place), "17", "--policy", "sjf")
    assert (code, said.splitlines()[-1][:12]) == (0, "Policy: sjf,")
    assert explained(str(place), "17", "--policy", "fcfs", "--rate-scale", "2")[0] == 0


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("17",), "has several runs: say --policy; valid: fcfs, sjf"),
        (("17", "--policy", "edf"), "has no run of edf; valid: fcfs, sjf"),
        (("17", "--policy", "fcfs"), "has several runs: say --rate-scale; valid: 1, 2"),
        (("18", "--policy", "sjf"), "it holds 17 to 17; a log has the first 100,000 of a run"),
        (("x", "--policy", "sjf"), "say its number, as 17"),
        ((), "say where and which: explain DIR REQUEST"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, words: tuple[str, ...], reason: str) -> None:
    place = comparison(tmp_path, ("fcfs", 1.0, 0), ("fcfs", 2.0, 0), ("sjf", 2.0, 1))
    code, said, error = explained(str(place), *words)
    assert (code, said) == (2, "")
    assert reason in error
    assert len(error.splitlines()) == 1


def test_a_comparison_without_a_log_says_how_to_get_one(tmp_path: Path) -> None:
    place = comparison(tmp_path, ("fcfs", 1.0, 0), logs=False)
    assert "kept by `scorpio compare --log-decisions`" in explained(str(place), "17")[2]


def test_a_damaged_log_is_told_with_its_line(tmp_path: Path) -> None:
    place = comparison(tmp_path, ("fcfs", 1.0, 0))
    log = next((place / "decisions").iterdir())
    log.write_text(log.read_text() + "{}\n")
    code, _, error = explained(str(place), "17")
    assert (code, f"{log}:2: entry: not an object" in error) == (2, True)


def test_a_server_has_no_runs_to_choose(tmp_path: Path) -> None:
    code, _, error = explained("abc", "--run-dir", str(tmp_path), "--seed", "1")
    assert (code, "choose a run of a comparison" in error) == (2, True)
