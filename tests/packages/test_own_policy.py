"""Does the policy of the documented example run wherever a policy does? In processes of its own."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.engine_server import OWN_ENGINE_MARKS, serving
from tests.packages.installing import NAME, environment, python

GPU = "a100-llama-3.1-8b"
# On vLLM's real scheduler in virtual time, twice, where a queue forms; and the command.
RUNS = """
import json, sys
from scorpio.cli.app import app
from scorpio.studies.study import engine
from scorpio.twin.run import run_twin
from workloads.load import LoadKey

out = sys.argv[1]
words = ["compare", "--trace", "azure-conv-synth", "--rows", "0:60", "--gpu", "{gpu}"]
try:
    app([*words, "--policy", "fcfs,{name}", "--workers", "2", "--out", out])
except SystemExit as end:
    assert not end.code, end.code
load = LoadKey("azure-conv-synth", "0:150", "six", 6.0, 0).requests()
runs = [run_twin(engine(), load, "{name}") for _ in range(2)]
ttft = lambda run, short: sorted(
    r.ttft_s for r, w in zip(run.records, load) if (w.prompt_tokens < 500) is short
)
stock = run_twin(engine(), load, "fcfs")
told = {{
    "digests": [run.event_digest for run in runs],
    "planned": runs[0].steps - runs[0].stock_steps,
    "short_s": [ttft(run, True)[-1] for run in (runs[0], stock)],
    "finished": sum(r.outcome == "finished" for r in runs[0].records),
}}
print("TOLD", json.dumps(told))
"""


def test_in_the_twin(example: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = python("-c", RUNS.format(gpu=GPU, name=NAME), str(out), targets=(example,))
    assert done.returncode == 0, done.stderr
    entries = json.loads((out / "summary.json").read_text())
    assert {"fcfs", NAME} <= set(re.findall(r"[\w-]+", json.dumps(entries)))
    told = json.loads(done.stdout.rpartition("TOLD ")[2])
    assert told["digests"][0] == told["digests"][1]
    assert told["planned"] > 10
    assert told["finished"] == 150
    own_s, stock_s = told["short_s"]
    assert own_s < stock_s


def test_the_conformance_suite_takes_it(example: Path) -> None:
    words = ["-m", "pytest", "tests/conformance/test_pure.py", "-k", NAME, "-q"]
    done = python(*words, "-p", "no:cacheprovider", targets=(example,))
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed
    assert int(passed[1]) > 15


def test_it_is_a_policy_of_the_settings_and_its_options_are_checked(example: Path) -> None:
    code = """
from scorpio.settings import load_settings, SettingsError
print(load_settings({"scorpio": {"policy": "short-first"}}).policy)
try:
    load_settings({"scorpio": {"policy": "short-first", "policy_options": {"x": 1}}})
except SettingsError as error:
    print(error)
"""
    done = python("-c", code, targets=(example,))
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == NAME
    assert "short-first has no option x; valid: ageing_tokens_per_s" in second


class TestLive:
    pytestmark = OWN_ENGINE_MARKS

    def test_a_server_runs_it(self, example: Path, tmp_path: Path) -> None:
        with serving(tmp_path, "--policy", NAME, env=environment(example)) as server:
            body = {"model": server.model, "prompt": "hello", "max_tokens": 3}
            assert server.call("POST", "/v1/completions", body)[0] == 200
            status = server.status()
            assert status["policy"] == NAME
            assert NAME in status["policies"]
            assert not status["control_error"]
            assert not status["fallbacks"]
