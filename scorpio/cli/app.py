"""What did the user type? Parses, checks names, wires the parts, calls them; decides nothing else.

Everything heavy is imported inside the command that needs it: `scorpio --help` is instant.
Exit codes: 2 = asked for something that does not exist, nothing was written; 1 = it failed;
3 = it ran, but requests failed, a run is void, or no fleet is enough.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scorpio.cli.about import main_options, version
from scorpio.cli.compare import BOTH, LIVE, TWIN, Extras, compare_in_twin, compare_on_server
from scorpio.cli.errors import one_line_errors
from scorpio.cli.ledger import explain, record
from scorpio.cli.length import collect_pairs, train_from_pairs
from scorpio.cli.options import (
    BlockTokens,
    Columns,
    Lengths,
    Mix,
    Model,
    OutDir,
    Rows,
    SpreadTickS,
    TimeUnit,
    Trace,
)
from scorpio.cli.parse import (
    check_policies,
    listed,
    one_of,
    parse_seed,
    reading_of,
)
from scorpio.cli.plan_command import plan
from scorpio.cli.profile import profile
from scorpio.cli.recorded import shadow_report, what_if
from scorpio.cli.serve import PASS_THROUGH, serve
from scorpio.cli.slo_file import check_config, hash_key, reload
from scorpio.cli.study import study
from scorpio.cli.traces import convert, replay
from scorpio.cli.tuning import Tune, TuneRows, TuneTrials, tune_spec
from scorpio.cli.twin_options import (
    Clients,
    EngineOption,
    GiveUpS,
    LogDecisions,
    Noise,
    PolicyOption,
    ProfileBias,
    Retries,
    twin_options,
)
from scorpio.cli.wanted import wanted

app = typer.Typer(
    name="scorpio",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Console entry point."""
    app()


app.callback()(main_options)
app.command()(version)


app.command(context_settings=PASS_THROUGH)(serve)
app.command()(profile)
app.command()(check_config)
app.command()(hash_key)
app.command()(reload)


@app.command()
def compare(
    trace: Trace,
    policy: Annotated[str, typer.Option(metavar="NAME[,NAME...]", help="policies to compare")],
    out: OutDir,
    engine: Annotated[
        str, typer.Option(help="twin (virtual time), live (a server here), both")
    ] = TWIN,
    gpu: Annotated[str | None, typer.Option(help="twin: a GPU name or a latency.json")] = None,
    rows: Rows = None,
    mix: Mix = None,
    rate_scale: Annotated[str, typer.Option(metavar="X[,X...]", help="arrival rates")] = "1",
    seed: Annotated[str, typer.Option(metavar="N[,N...]", help="seeds")] = "0",
    time_unit: TimeUnit = None,
    block_tokens: BlockTokens = None,
    spread_tick_s: SpreadTickS = 0.0,
    columns: Columns = None,
    bound: Annotated[bool, typer.Option("--bound", help="twin: the clairvoyant bound too")] = False,
    tune: Tune = None,
    tune_rows: TuneRows = None,
    tune_trials: TuneTrials = None,
    lengths: Lengths = "0.6",
    workers: Annotated[int | None, typer.Option(min=1, help="twin: processes")] = None,
    model: Model = "smollm2",
    repeats: Annotated[int, typer.Option(min=1, help="live: runs per seed and policy")] = 2,
    latency: Annotated[
        Path | None, typer.Option(help="live: a latency.json; this machine's by default")
    ] = None,
    engine_option: EngineOption = None,
    policy_option: PolicyOption = None,
    noise: Noise = None,
    profile_bias: ProfileBias = 1.0,
    retries: Retries = 0,
    give_up_s: GiveUpS = None,
    clients: Clients = 0,
    log_decisions: LogDecisions = False,
) -> None:
    """Serve one load under several policies and say which kept its promises."""
    with one_line_errors():
        one_of("engine", engine, (TWIN, LIVE, BOTH))
        reading = reading_of(time_unit, block_tokens, spread_tick_s, columns)
        load = wanted(trace, rows, mix, rate_scale, policy, seed, out, reading)
        words = (engine_option, policy_option, noise, profile_bias, retries, give_up_s, clients)
        options = twin_options(load.policies, *words)
        extras = Extras(bound, tune_spec(tune, tune_rows, tune_trials), log_decisions)
        if engine == TWIN:
            compare_in_twin(load, gpu, lengths, workers, options, extras)
            return
        options.refuse_beside(engine)
        extras.refuse_beside(engine)
        if engine == LIVE:
            from scorpio.live.publish import require_answers

            require_answers(compare_on_server(load, model, repeats, latency))
        else:
            from scorpio.cli.both import compare_on_both

            compare_on_both(load, model, repeats, latency, workers)


app.command()(plan)


@app.command()
def calibrate(
    logs: Annotated[
        list[Path],
        typer.Argument(
            metavar="LOG...",
            help="vllm bench serve --save-detailed, records, a log, or scrapes of /metrics",
        ),
    ],
    out: Annotated[Path, typer.Option(help="file to write, for --gpu")] = Path("gpu.json"),
    base: Annotated[
        str | None, typer.Option(help="built-in GPU to start from; the nearest")
    ] = None,
    free: Annotated[str, typer.Option(help="what is fitted: gap, speed or auto")] = "auto",
    fitted_share: Annotated[float, typer.Option(help="first part of the log; rest = exam")] = 1 / 3,
    kv_blocks: Annotated[int | None, typer.Option(help="16-token KV blocks of that GPU")] = None,
    meta: Annotated[
        Path | None, typer.Option(help="limits of the log's engine; LOG's own *_meta.json")
    ] = None,
) -> None:
    """A GPU model for the twin from a real engine's log, with its error on the unseen part."""
    with one_line_errors():
        from scorpio.cli.fidelity import calibrate_to

        calibrate_to(logs, out, base, free, fitted_share, kv_blocks, meta)


@app.command()
def fidelity(
    log: Annotated[
        Path, typer.Argument(help="vllm bench serve --save-detailed, records, or a log")
    ],
    gpu: Annotated[str, typer.Option(help="the GPU it ran on: a name or a latency.json")],
    fitted_share: Annotated[float, typer.Option(help="part of the log the gap is fitted on")] = 1
    / 3,
    out: Annotated[Path | None, typer.Option(help="directory for fidelity.json")] = None,
) -> None:
    """How close is the twin to a real engine's log? Gap fitted on a part, and as published."""
    with one_line_errors():
        from scorpio.cli.fidelity import print_fidelity

        print_fidelity(log, gpu, fitted_share, out)


@app.command()
def figures(
    names: Annotated[
        list[str] | None, typer.Argument(help="load, cumulative, guards, overhead; all")
    ] = None,
    out: OutDir = Path("out/figures"),
    gap_ms: Annotated[
        float | None, typer.Option(min=0.0, max=100.0, help="per step, of the prefill-first engine")
    ] = None,
    seed: Annotated[str, typer.Option(metavar="N[,N...]", help="seeds")] = "0,1,2",
    quick: Annotated[bool, typer.Option(help="a few requests: shows only that it runs")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="processes")] = None,
) -> None:
    """The figures of the SCORPIO paper, from the twin: its engine and a modern one."""
    with one_line_errors():
        from scorpio.cli.figures import draw_figures

        seeds = tuple(listed("seed", seed, parse_seed))
        draw_figures(names or [], out, seeds, gap_ms, quick, workers)


app.command()(study)
app.command()(explain)
app.command()(record)
app.command()(shadow_report)
app.command()(what_if)
app.command()(replay)
app.command()(convert)


@app.command()
def collect(
    prompts: Annotated[Path, typer.Option(help="JSONL: prompt; system, temperature if you like")],
    out: Annotated[Path, typer.Option(help="JSONL to write, for train-length")],
    model: Model = "smollm2",
    url: Annotated[str | None, typer.Option(help="ask a server that already runs")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="only the first so many")] = None,
    max_tokens: Annotated[int, typer.Option(min=2, help="longest answer")] = 512,
    temperature: Annotated[
        str, typer.Option(metavar="T[,T...]", help="given to the prompts in turn")
    ] = "1",
) -> None:
    """Run prompts through a model and record how long it answers; carries on where it stopped."""
    with one_line_errors():
        temperatures = listed("temperature", temperature, float)
        collect_pairs(prompts, out, model, url, limit, max_tokens, temperatures)


@app.command()
def train_length(
    data: Annotated[Path, typer.Option(help="JSONL: prompt, prompt_tokens, response_tokens")],
    out: OutDir,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Train the output-length predictor on your own traffic; writes artefact and report."""
    with one_line_errors():
        train_from_pairs(data, out, seed)


@app.command()
def demo(
    out: OutDir = Path("out/demo"),
    model: Model = "smollm2",
    policy: Annotated[str, typer.Option(help="policies, one after the other")] = "",
    overload: Annotated[float, typer.Option(min=0.05, max=20.0, help="load / capacity")] = 1.2,
    window_s: Annotated[float, typer.Option(min=5.0, help="seconds of arrivals per policy")] = 27.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    fresh_profile: Annotated[bool, typer.Option(help="measure the engine again")] = False,
) -> None:
    """Stock vLLM and Scorpio under the same overload on this machine's CPU."""
    with one_line_errors():
        from scorpio.live.demo import POLICIES, run_demo
        from scorpio.live.publish import require_answers

        policies = listed("policy", policy, str) if policy else list(POLICIES)
        check_policies(policies)
        require_answers(run_demo(out, model, policies, overload, window_s, seed, fresh_profile))
