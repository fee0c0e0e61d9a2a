"""What does a plan rest on, and what is kept of it? Assumptions, plan.json and plan.png."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from scorpio.files import write_atomic
from scorpio.studies.fleet_size import ROUTING, FleetSearch
from scorpio.studies.manifest import manifest_of
from workloads.report.plots_replicas import replicas_plot
from workloads.resampled import block_length
from workloads.results.replicas import FleetCurve, by_need
from workloads.slo_changes import SloChange
from workloads.targets import class_counts, class_of

_LIMITS = ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "enable_prefix_caching")


def assumptions(spec: FleetSearch) -> dict[str, Any]:
    """All that the answer hangs on beside the command, as plain JSON values. Raises
    WorkloadError."""
    load, config = spec.load, spec.load.config()
    requests = spec.traffic()[0].requests()
    span_s = requests[-1].send_s - requests[0].send_s
    engine = {name: getattr(config.engine, name) for name in _LIMITS}
    slos_ms = {
        class_of(r.slo_class): {
            "ttft_ms": _ms(r.ttft_slo_s), "tpot_ms": _ms(r.tpot_slo_s), "e2el_ms": _ms(r.e2e_slo_s)
        }
        for r in requests
    }  # fmt: skip
    return {
        "routing": ROUTING,
        "gpu": load.gpu,
        "engine": engine | {"kv_tokens": config.engine.kv_tokens},
        "engine_options": dict(load.engine_options),
        "policy_options": {name: dict(given) for name, given in load.policy_options.items()},
        "noise": _finite(asdict(config.noise)),
        "profile_bias": load.profile_bias,
        "clients": _finite(asdict(load.clients)),
        "lengths": asdict(load.lengths),
        "traffic": {
            "requests": len(requests),
            "requests_per_s": round(len(requests) / span_s, 4) if span_s > 0.0 else None,
            "prompt_tokens": round(sum(r.prompt_tokens for r in requests) / len(requests), 1),
            "output_tokens": round(sum(r.output_tokens for r in requests) / len(requests), 1),
            "draws": spec.draws,
            "block_requests": block_length(len(requests)),
        },
        "mix": load.mix,
        "classes": {
            name: slos_ms[name] | {"requests": count}
            for name, count in class_counts(requests).items()
            if name in slos_ms
        },
    }


def assumption_lines(found: dict[str, Any]) -> list[str]:
    """The same for people."""
    engine, traffic = found["engine"], found["traffic"]
    limits = ", ".join(f"{name} {engine[name]}" for name in _LIMITS)
    drawn = traffic["draws"] - 1
    other = f" and {drawn} draws from it in blocks of {traffic['block_requests']}" if drawn else ""
    return [
        f"routing: {found['routing']}; every replica simulated",
        f"engine: {found['gpu']}, KV for {engine['kv_tokens']:,} tokens, {limits}",
        f"traffic: {traffic['requests']} requests, {traffic['requests_per_s']:g} a second, mean"
        f" prompt {traffic['prompt_tokens']:g} and answer {traffic['output_tokens']:g} tokens;"
        f" the trace{other}",
        f"promises: mix {found['mix']}: "
        + "; ".join(f"{name} {_slo_text(slo)}" for name, slo in found["classes"].items()),
        f"policies know of answer lengths: {_lengths_text(found['lengths'])}",
        f"steps scatter by {100 * found['noise']['sigma']:g} %",
        *_said_lines(found),
    ]


def _said_lines(found: dict[str, Any]) -> Iterator[str]:
    """What is not as it is by default."""
    if said := found["engine_options"]:
        yield "vLLM's flags: " + ", ".join(f"{name} {value:g}" for name, value in said.items())
    for policy, given in found["policy_options"].items():
        yield f"{policy} with " + ", ".join(f"{name} {value:g}" for name, value in given.items())
    if found["profile_bias"] != 1.0:
        yield f"policies take all for {found['profile_bias']:g} times as slow as it is"
    clients = found["clients"]
    if clients["retries"]:
        yield (
            f"clients send a refused request again, {clients['retries']} times at most, to the same"
            " replica"
        )
    if clients["clients"]:
        yield (
            f"a closed loop of {clients['clients']} clients, dealt to the replicas in turn: a fleet"
            " that is slow is asked less"
        )
    if clients["give_up_s"] is not None:
        yield f"clients leave {clients['give_up_s']:g} s after they first asked"


def write_plan(
    spec: FleetSearch,
    plans: Sequence[FleetCurve],
    changes: Sequence[SloChange] = (),
    changed_plans: Sequence[FleetCurve] = (),
) -> None:
    """plan.json and plan.png in the spec's directory. changed_plans: under the changed promises."""
    load = spec.load
    content: dict[str, Any] = {
        "schema": 3,
        "trace": load.trace,
        "rows": load.rows,
        "rate_scale": load.rate_scales[0],
        "seeds": list(load.seeds),
        "targets": dict(spec.targets.shares),
        "max_replicas": spec.max_replicas,
        "assumptions": assumptions(spec),
        "manifest": manifest_of(load),
        "plans": [plan.to_dict() for plan in by_need(plans)],
    }
    if changes:
        content["what"] = {
            "changes": [str(change) for change in changes],
            "plans": [plan.to_dict() for plan in by_need(changed_plans)],
        }
    write_atomic(load.out_dir / "plan.json", json.dumps(content, indent=1) + "\n")
    where = f"{load.trace}, mix {load.mix}, ×{load.rate_scales[0]:g}, {load.gpu} (twin)"
    plot = replicas_plot(plans, spec.targets, where)
    write_atomic(load.out_dir / f"{plot.name}.png", plot.png)


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no infinity."""
    return {name: None if value == math.inf else value for name, value in values.items()}


def _ms(value_s: float) -> float | None:
    return None if value_s == float("inf") else round(1000.0 * value_s, 6)


def _slo_text(slo: dict[str, Any]) -> str:
    names = (("ttft_ms", "TTFT"), ("tpot_ms", "TPOT"), ("e2el_ms", "end to end"))
    stated = [f"{text} {slo[name]:g} ms" for name, text in names if slo[name] is not None]
    return f"({slo['requests']}) {', '.join(stated) or 'no SLO'}"


def _lengths_text(lengths: dict[str, Any]) -> str:
    if lengths["predictor"] is not None:
        return f"what the {lengths['predictor']} predictor says"
    sigma = lengths["sigma"]
    return "nothing" if sigma is None else f"the truth, with a log error of {sigma:g}"
