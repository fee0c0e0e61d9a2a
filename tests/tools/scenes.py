"""Which tools are run, how, and what do they say? One function for each tool."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping

from tests.tools.install import tokenizer_cache, tool
from tests.tools.of_guidellm import guidellm
from tests.tools.of_litellm import litellm
from tests.tools.run import Numbers, Run, engine, ours
from tests.tools.stage import (
    ANSWER,
    COUNT,
    HOPELESS,
    PROMPT,
    RATE,
    REFUSED,
    ROOT,
    SLO,
    Stage,
    trace,
)


def vllm_bench(stage: Stage) -> list[Run]:
    """Both of its runs in one process."""
    (stage.folder / "bench").mkdir(exist_ok=True)

    def arguments(name: str, count: int, xargs: Mapping[str, int]) -> list[str]:
        return [
            *("--base-url", stage.server.url, "--model", "smollm2"),
            *("--tokenizer", str(stage.model), "--dataset-name", "random", "--ignore-eos"),
            *("--random-input-len", str(PROMPT), "--random-output-len", str(ANSWER)),
            *("--num-prompts", str(count), "--request-rate", str(RATE)),
            *("--extra-body", json.dumps({"vllm_xargs": xargs})),
            *("--goodput", "ttft:3000", "tpot:300", "--save-result", "--save-detailed"),
            *("--result-filename", f"{name}.json"),
        ]

    both = {"served": (COUNT, SLO), "refused": (REFUSED, HOPELESS)}
    runs = {name: arguments(name, *how) for name, how in both.items()}
    (stage.folder / "runs.json").write_text(json.dumps(list(runs.values())))
    stage.run(
        "", [sys.executable, "-m", "tests.tools.bench_runs", "runs.json", "bench"],
        {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    entries, found = stage.ledger.since(), []
    for name, start in (("served", 0), ("refused", COUNT)):
        told = json.loads((stage.folder / "bench" / f"{name}.json").read_text())
        typed = stage.typed(["vllm", "bench", "serve", *runs[name]])
        run = Run(f"vLLM's serve benchmark, {name}", typed)
        run.said = [
            f"{key}: {told[key]:.4g}"
            for key in ("completed", "failed", "request_goodput", "mean_ttft_ms", "mean_tpot_ms")
        ] + [f"errors: {sorted(set(told['errors']))}"]
        means = told["mean_ttft_ms"], told["mean_tpot_ms"]
        run.told = Numbers(told["completed"], told["failed"], *means)
        run.engine = engine(entries[start : start + both[name][0]])
        if name == "served":
            run.ours = ours(stage.folder / "bench" / f"{name}.json")
        found.append(run)
    return found


def aiperf(stage: Stage) -> list[Run]:
    """A trace whose rows state their SLOs."""
    out, home = stage.folder / "aiperf", stage.folder / "hf"
    rows = trace(stage, REFUSED)
    command = [
        str(tool(stage.venvs, "aiperf")), "profile", "--model", "smollm2",
        "--url", stage.server.url, "--endpoint-type", "completions", "--streaming",
        "--tokenizer", tokenizer_cache(home, stage.model), "--use-server-token-count",
        "--extra-inputs", "ignore_eos:true", "--input-file", str(rows),
        "--custom-dataset-type", "mooncake_trace", "--fixed-schedule",
        "--export-level", "records", "--artifact-dir", str(out), "--ui", "none",
    ]  # fmt: skip
    run = stage.run("AIPerf, a trace", command, {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home)})
    told = json.loads((out / "profile_export_aiperf.json").read_text())
    for name in ("request_count", "error_request_count", "time_to_first_token",
                 "inter_token_latency", "request_latency"):  # fmt: skip
        if isinstance(value := told.get(name), dict):
            run.said.append(f"{name}: {value['avg']:.5g} {value['unit']}")
    details = [one["error_details"] for one in told["error_summary"]]
    run.said += [f"error {one['code']}: {one['message'][:120]}" for one in details]
    refused = int((told.get("error_request_count") or {"avg": 0})["avg"])
    means = (told[name]["avg"] for name in ("time_to_first_token", "inter_token_latency"))
    numbers = Numbers(int(told["request_count"]["avg"]), refused, *means)
    return [stage.finish(run, numbers, out / "profile_export.jsonl", stage.ledger.since())]


def replay(stage: Stage) -> list[Run]:
    """Our own client, with the trace that AIPerf was given."""
    rows, out = trace(stage, REFUSED), stage.folder / "replay"
    command = [
        sys.executable, "-m", "scorpio", "replay", "--url", stage.server.url,
        "--trace", str(rows), "--out", str(out),
    ]  # fmt: skip
    run = stage.run("scorpio replay, the same trace", command, {"PYTHONPATH": str(ROOT)})
    run.command = run.command.replace("python -m scorpio", "scorpio")
    told = json.loads((out / "bench.json").read_text())
    run.said = [
        f"{key}: {told[key]:.4g}"
        for key in ("completed", "failed", "mean_ttft_ms", "mean_tpot_ms", "slo_attainment")
    ]
    means = told["mean_ttft_ms"], told["mean_tpot_ms"]
    numbers = Numbers(told["completed"], told["failed"], *means)
    return [stage.finish(run, numbers, out / "bench.json", stage.ledger.since())]


SCENES: tuple[Callable[[Stage], list[Run]], ...] = (vllm_bench, guidellm, aiperf, replay, litellm)
