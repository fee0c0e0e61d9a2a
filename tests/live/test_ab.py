"""Are the runs of a comparison in the right order, under the right policy, with new prompts?"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from scorpio.live.ab import AbRun, Load, plan_runs, run_ab
from scorpio.live.control.admin import Admin, AdminError
from scorpio.live.control.scrape import sampled, scrape
from scorpio.live.host.process import ServerProcess
from scorpio.live.host.server import LiveServer
from tests.live.fake_engine import FakeEngine, in_thread
from workloads.load import LoadKey
from workloads.request import WorkloadRequest
from workloads.results.record_files import read_records
from workloads.results.summary import Comparison


def load(seed: int = 0, count: int = 5) -> Load:
    requests = [
        WorkloadRequest(i, 0.02 * i, 20 + i, 2 + i, (i,), "gold", 600.0, 600.0)
        for i in range(count)
    ]
    return Load(LoadKey("made-up", None, "cpu", 1.0, seed), requests)


def live(fake: FakeEngine, url: str, tmp_path: Path, token: str = "secret") -> LiveServer:
    process = ServerProcess(["true"], url, tmp_path / "server.log")  # never started
    return LiveServer(url, fake.run_dir, Admin(url, token), process, 0.0)


def test_order_alternates_and_prompts_differ() -> None:
    runs = plan_runs([load(0), load(1)], ["a", "b"], repeats=3)
    assert [r.policy for r in runs] == ["a", "b", "b", "a"] * 3
    assert [r.repeat for r in runs] == [0, 0, 1, 1, 2, 2] * 2
    assert len({r.prompt_seed for r in runs}) == len(runs)


@pytest.mark.parametrize(("policies", "repeats"), [(["a"], 4), (["a", "b", "c"], 2)])
def test_every_policy_is_run_as_often(policies: list[str], repeats: int) -> None:
    runs = plan_runs([load()], policies, repeats)
    assert sorted((r.policy, r.repeat) for r in runs) == sorted(
        (policy, repeat) for policy in policies for repeat in range(repeats)
    )


def test_seeds_far_apart_never_share_prompts() -> None:
    runs: list[AbRun] = plan_runs([load(s) for s in range(4)], ["a", "b"], repeats=5)
    assert len({r.prompt_seed for r in runs}) == len(runs)


def test_each_run_is_served_by_its_policy_and_recorded(tmp_path: Path) -> None:
    fake, out = FakeEngine(tmp_path), tmp_path / "out"
    comparison, said = Comparison(out), list[str]()
    with in_thread(fake) as url:
        runs = plan_runs([load()], ["fcfs", "scorpio-paper"], repeats=2)
        summaries = run_ab(live(fake, url, tmp_path), runs, comparison, "a CPU", 500, said.append)
    assert [s.policy for s in summaries] == ["fcfs", "scorpio-paper", "scorpio-paper", "fcfs"]
    assert all(s.sent == s.good == 5 for s in summaries)
    # one probe after each switch, then the run
    assert fake.history == [p for p in (s.policy for s in summaries) for _ in range(6)]
    texts = [tuple(r["prompt"]) for r in fake.requests if r.get("stream")]
    assert len(set(texts)) == len(texts) == 20
    for summary in summaries:
        assert summary.records_file is not None
        assert len(read_records(out / summary.records_file)) == 5
        assert summary.steps is not None
        assert summary.steps > 0
    assert not list(out.glob("running*"))
    assert len(said) == 8


def test_a_refused_switch_is_said(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path)
    with in_thread(fake) as url, pytest.raises(AdminError, match="HTTP 401: needs a token"):
        Admin(url, "wrong").switch("fcfs")
    with pytest.raises(AdminError, match="GET /scorpio/status"):
        Admin("http://127.0.0.1:9", "").status()


def test_a_switch_that_never_comes_into_force_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scorpio.live.control.admin._FOLLOW_S", 0.0)
    fake = FakeEngine(tmp_path, follows_control=False)
    with in_thread(fake) as url, pytest.raises(AdminError, match="not in force within"):
        Admin(url, "secret").switch("fcfs")


def test_metrics_are_summed_over_labels(tmp_path: Path) -> None:
    fake = FakeEngine(tmp_path)
    with in_thread(fake) as url:
        totals = scrape(url)
        assert totals["vllm:num_preemptions_total"] == 3.0
        assert totals["vllm:num_requests_running"] == 0.0
    assert scrape(url, timeout_s=1.0) == {}


def test_the_engine_is_sampled_while_a_run_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scorpio.live.control.scrape._PERIOD_S", 0.01)
    with in_thread(FakeEngine(tmp_path)) as url, sampled(url) as samples:
        while len(samples) < 3:
            time.sleep(0.01)
    times = [sample["t_s"] for sample in samples]
    assert times == sorted(times)
    assert samples[0] == {
        "t_s": times[0],
        "waiting": 2,
        "running": 0,
        "kv_used_fraction": 0.25,
        "rejected_total": 0,
    }
