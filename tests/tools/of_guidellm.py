"""What does GuideLLM say? Its poisson, replay, goodput and knee profiles."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from typing import Any

from scorpio.ledger.entry import Entry
from tests.tools.install import tool
from tests.tools.run import Numbers, Run
from tests.tools.stage import ANSWER, COUNT, HOPELESS, PROMPT, RATE, REFUSED, SLO, Stage, trace


def _guidellm(stage: Stage, title: str, profile: str, data: str, *more: str) -> Run:
    report = stage.folder / "guidellm.json"
    target = f"kind=openai_http,target={stage.server.url},model=smollm2"
    xargs = {} if "extras" in "".join(more) else SLO
    extras = "".join(f",extras.body.vllm_xargs.{name}={value}" for name, value in xargs.items())
    command = [
        str(tool(stage.venvs, "guidellm")), "run",
        "--backend", f"{target},request_format=/v1/completions{extras}{''.join(more[:1])}",
        "--tokenizer", f"kind=huggingface_auto,model={stage.model}",
        "--profile", profile, "--data", data, *more[1:],
        "--output", f"kind=json,path={report}", "--disable-console",
    ]  # fmt: skip
    run = stage.run(f"GuideLLM, {title}", command, {"HF_HUB_OFFLINE": "1"})
    told = json.loads(report.read_text())
    for benchmark in told["benchmarks"]:
        run.said.append(_line(benchmark))
    run.said += [f"conclusion: {json.dumps(one)[:400]}" for one in told["conclusions"]]
    first, totals = told["benchmarks"][0]["metrics"], [0, 0]
    for benchmark in told["benchmarks"]:
        counts = benchmark["metrics"]["request_totals"]
        totals = [totals[0] + counts["successful"], totals[1] + counts["errored"]]
    one_load = len(told["benchmarks"]) == 1 and totals[0]
    ttft, tpot = (_mean(first, f"{n}_ms") for n in ("time_to_first_token", "inter_token_latency"))
    numbers = Numbers(totals[0], totals[1], ttft, tpot) if one_load else None
    reported = {
        str(request["response_id"])
        for benchmark in told["benchmarks"]
        for request in benchmark["requests"]["successful"]
    }
    run.said += _unreported(entries := stage.ledger.since(), reported)
    # of the same requests: those that it reports
    same = [e for e in entries if e.outcome != "finished" or _name(e) in reported]
    return stage.finish(run, numbers, report if one_load else None, same)


def _name(entry: Entry) -> str:
    """Of `cmpl-NAME-0-12345678` what its client was told."""
    return entry.id.rsplit("-", 2)[0]


def _unreported(entries: Sequence[Entry], reported: Set[str]) -> list[str]:
    lost = sum(e.outcome == "finished" and _name(e) not in reported for e in entries)
    return [f"(the engine served {lost} more, which are not in the report)"] if lost else []


def _mean(metrics: Mapping[str, Any], name: str) -> float:
    return float((metrics[name]["successful"] or {}).get("mean") or 0.0)


def _line(benchmark: Mapping[str, Any]) -> str:
    metrics = benchmark["metrics"]
    counts = metrics["request_totals"]
    goodput = metrics.get("slo_attainment")
    kept = "" if goodput is None else f"; slo_attainment {json.dumps(goodput)[:120]}"
    strategy = benchmark["config"]["strategy"]
    name = strategy.get("type_") or strategy.get("kind")
    load = strategy.get("streams") or strategy.get("rate") or ""
    ttft, itl = (_mean(metrics, f"{n}_ms") for n in ("time_to_first_token", "inter_token_latency"))
    return (
        f"{name} {load}: {counts['successful']} successful, {counts['errored']} errored,"
        f" {counts['incomplete']} incomplete; TTFT {ttft:.0f} ms, ITL {itl:.1f} ms{kept}"
    )


def guidellm(stage: Stage) -> list[Run]:
    """Its profiles."""
    data = f"kind=synthetic_text,prompt_tokens={PROMPT},output_tokens={ANSWER}"
    rows = trace(stage, 0)
    slo = ("--metrics", "kind=generative,slo.ttft_ms=6000,slo.tpot_ms=400")

    def most(count: int) -> tuple[str, str]:
        return "--constraint", f"kind=max_requests,count={count}"

    hopeless = f",extras.body.vllm_xargs.slo_ttft_ms={HOPELESS['slo_ttft_ms']}"
    poisson = f"kind=poisson,rate={RATE}"
    # few requests: how sure it must be of a probe is set low, or it ends undecided
    goodput = "kind=goodput,initial_streams=1,max_streams=4,tolerance=0.5,confidence=0.5"
    return [
        _guidellm(stage, "poisson", poisson, data, "", *most(COUNT)),
        _guidellm(stage, "poisson, refused", poisson, data, hopeless, *most(REFUSED)),
        _guidellm(
            stage, "replay", "kind=replay,schedule_turn=timestamp,time_scale=0.001",
            f"kind=mooncake,source.kind=json_file,source.path={rows}",
        ),
        _guidellm(
            stage, "goodput", goodput, data, "", *most(12), *slo,
        ),
        _guidellm(
            stage, "knee", "kind=knee,min_streams=1,max_streams=5,count=5", data, "", *most(8),
        ),
    ]  # fmt: skip
