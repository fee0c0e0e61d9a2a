"""Do two simulators agree, and which is faster? `python -m tests.bench.beside_vidur --vidur DIR`.

DIR is a checkout of github.com/microsoft/vidur (tried: 7d47513), `--python` an interpreter that has
its requirements. Both serve a thousand requests of the Azure conversation trace first come, first
served with chunks of 2,048 tokens, on the A100 model without noise.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from scorpio.core.latency import StepModel
from scorpio.engine.virtual import EngineSpec
from scorpio.twin.config import TwinConfig
from scorpio.twin.noise import NO_NOISE
from scorpio.twin.run import run_twin
from scorpio.twin.step_models import BUILT_IN
from workloads.catalog import load_workload
from workloads.request import WorkloadRequest

ENGINE = EngineSpec(pipeline_depth=1, enable_prefix_caching=False)
_PREDICTOR = "--random_forrest_execution_time_predictor_config_prediction_max"
ARGUMENTS = (
    "--replica_config_device a100 --replica_config_network_device a100_dgx"
    " --replica_config_model_name meta-llama/Meta-Llama-3-8B"
    " --replica_config_tensor_parallel_size 1 --replica_config_num_pipeline_stages 1"
    " --cluster_config_num_replicas 1 --request_generator_config_type trace_replay"
    " --trace_request_generator_config_max_tokens 8192 --replica_scheduler_config_type sarathi"
    f" --sarathi_scheduler_config_batch_size_cap {ENGINE.max_num_seqs}"
    f" --sarathi_scheduler_config_chunk_size {ENGINE.max_num_batched_tokens}"
    f" {_PREDICTOR}_prefill_chunk_size 4096 {_PREDICTOR}_batch_size {ENGINE.max_num_seqs}"
    f" {_PREDICTOR}_tokens_per_request 8192 --no-metrics_config_store_plots"
    " --no-metrics_config_enable_chrome_trace --no-metrics_config_store_operation_metrics"
    " --no-metrics_config_store_batch_metrics --no-metrics_config_store_utilization_metrics"
    " --no-metrics_config_store_token_completion_metrics"
).split()


def run_vidur(
    python: str, checkout: Path, load: Sequence[WorkloadRequest], step: StepModel
) -> dict[str, object]:
    """What the driver found."""
    with tempfile.TemporaryDirectory(prefix="scorpio-vidur-") as work:
        trace, model, out = (Path(work) / name for name in ("trace.csv", "step.json", "out.json"))
        model.write_text(json.dumps(asdict(step)))
        with trace.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("arrived_at", "num_prefill_tokens", "num_decode_tokens"))
            rows.writerows((r.send_s, r.prompt_tokens, r.output_tokens) for r in load)
        told = [
            *("--trace_request_generator_config_trace_file", str(trace)),
            *("--metrics_config_output_dir", work),
        ]
        driver = Path(__file__).with_name("vidur_driver.py")
        subprocess.run(
            [python, str(driver), str(model), str(out), *ARGUMENTS, *told],
            cwd=checkout,
            env=os.environ | {"PYTHONPATH": str(checkout), "WANDB_MODE": "disabled"},
            stdout=subprocess.DEVNULL,
            timeout=300,
            check=True,
        )
        found: dict[str, object] = json.loads(out.read_text())
    return found


def main() -> None:
    """Both simulators on the same requests, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vidur", type=Path, required=True)
    parser.add_argument("--python", default="python")
    args = parser.parse_args()
    load = load_workload("azure-conv", "0:1000", 1.0, 0, "six")
    gpu = BUILT_IN["a100-llama-3.1-8b"]
    ours = run_twin(TwinConfig(gpu, ENGINE, NO_NOISE), load, "fcfs", 0)
    step = replace(gpu.step, base_s=gpu.step.base_s + gpu.gap_s)
    theirs = run_vidur(args.python, args.vidur, load, step)
    speeds = {"twin": ours.virtual_s / ours.cpu_s, "vidur": theirs["speed"]}
    print(", ".join(f"{name} {speed:.0f} x real time" for name, speed in speeds.items()))
    for name in ("ttft_s", "tpot_s"):
        mine = [getattr(r, name) for r in ours.records if getattr(r, name) is not None]
        for who, values in (("twin", mine), ("vidur", theirs[name])):
            array = np.asarray(values, dtype=float) * 1e3
            cells = (array.mean(), *np.percentile(array, (50, 90, 99)))
            print(f"{name[:4]} ms, {who:5}", *(f"{cell:12.6f}" for cell in cells))


if __name__ == "__main__":
    main()
