"""Is what is said of the twin's engine, policies, noise and clients understood, or refused?"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from scorpio.cli.errors import UsageError
from scorpio.cli.twin_options import BY_DEFAULT, twin_options
from scorpio.engine.virtual.spec import EngineSpec
from scorpio.twin.clients import ClientSpec
from scorpio.twin.gpu.file import gpu_model, write_gpu
from scorpio.twin.gpu.noise import NO_NOISE, NoiseSpec
from scorpio.twin.gpu.step_models import BUILT_IN
from scorpio.twin.modelled_engine import RANGES, modelled_engine
from workloads.errors import WorkloadError

GPU = "a100-llama-3.1-8b"
POLICIES = ("fcfs", "fcfs-tuned", "scorpio")


def test_nothing_said_is_the_default() -> None:
    assert twin_options(POLICIES) == BY_DEFAULT
    BY_DEFAULT.refuse_beside("live")


def test_engine_options_change_what_is_modelled() -> None:
    said = ["max_num_seqs=64,max_num_batched_tokens=1024", "enable_prefix_caching=true"]
    found = modelled_engine(GPU, False, twin_options(POLICIES, said).engine)
    assert (found.max_num_seqs, found.max_num_batched_tokens) == (64, 1024)
    assert found.enable_prefix_caching is True
    assert found.num_blocks == BUILT_IN[GPU].kv_blocks
    assert modelled_engine(GPU, False, {}) == EngineSpec(num_blocks=BUILT_IN[GPU].kv_blocks)


def test_each_engine_option_is_a_field_whose_default_is_in_its_range() -> None:
    for name, (least, most) in RANGES.items():
        default = getattr(EngineSpec(), name)
        assert default is None or least <= default <= most, name


def test_policy_options_are_of_one_policy() -> None:
    said = ["scorpio.patience_s=2", "fcfs-tuned.max_num_queued_tokens=0"]
    found = twin_options(POLICIES, policy_option=said).policies
    assert found == {"scorpio": {"patience_s": 2.0}, "fcfs-tuned": {"max_num_queued_tokens": 0.0}}


@pytest.mark.parametrize(
    ("text", "noise"),
    [
        ("none", NO_NOISE),
        ("0.1", NoiseSpec(0.1)),
        ("stall_probability=0.01,sigma=0", NoiseSpec(0.0, 0.01)),
    ],
)
def test_noise(text: str, noise: NoiseSpec) -> None:
    assert twin_options(POLICIES, noise=text).noise == noise


def test_clients() -> None:
    assert twin_options(POLICIES, retries=3).clients == ClientSpec(3, math.inf)
    assert twin_options(POLICIES, give_up_s=20.0).clients == ClientSpec(0, 20.0)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"engine_option": ["max_seqs=4"]}, "unknown engine option 'max_seqs'; valid: enable_ch"),
        ({"engine_option": ["max_num_seqs=0"]}, "max_num_seqs=0: must be 1 to 100,000"),
        ({"engine_option": ["max_num_seqs=many"]}, "max_num_seqs=many: must be 1 to"),
        ({"engine_option": ["enable_prefix_caching=2"]}, "must be true or false"),
        ({"engine_option": ["max_num_seqs"]}, "--engine-option: 'max_num_seqs' must be NAME=VALUE"),
        ({"engine_option": ["watermark=0,watermark=0.1"]}, "watermark is given twice"),
        ({"policy_option": ["patience_s=1"]}, "say POLICY.NAME=NUMBER, with POLICY one of fcfs, "),
        ({"policy_option": ["sjf.patience_s=1"]}, "with POLICY one of fcfs, fcfs-tuned, scorpio"),
        ({"policy_option": ["scorpio.patients=1"]}, "scorpio has no option patients; valid: "),
        ({"policy_option": ["scorpio.patience_s=x"]}, "'x' is not a number"),
        ({"policy_option": ["fcfs-tuned.cap=1"]}, "fcfs-tuned has no option cap; valid: max_num_b"),
        ({"noise": "loud"}, "--noise sigma: 'loud' is not a number"),
        ({"noise": "9"}, "sigma must be in [0, 1]"),
        ({"noise": "jitter=1"}, "no 'jitter'; valid: none, sigma, stall_probability"),
        ({"profile_bias": 0.0}, "--profile-bias: must be in (0, 100)"),
        ({"retries": -1}, "retries must be in [0, 100]"),
        ({"give_up_s": 0.0}, "give_up_s must be > 0"),
    ],
)
def test_nonsense_is_one_line(said: dict[str, Any], message: str) -> None:
    with pytest.raises((UsageError, WorkloadError)) as caught:
        twin_options(POLICIES, **said)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_limits_with_which_vllm_does_not_start_are_told() -> None:
    with pytest.raises(WorkloadError, match="is below max_num_seqs"):
        modelled_engine(GPU, False, {"max_num_batched_tokens": 100})


def test_a_real_engine_takes_none_of_them() -> None:
    with pytest.raises(UsageError, match="of --engine twin, not live"):
        twin_options(POLICIES, retries=1).refuse_beside("live")


def test_a_misspelt_engine_key_in_a_latency_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    write_gpu(path, BUILT_IN[GPU], "m", {"max_num_seqs": 8})
    assert gpu_model(str(path)).kv_blocks == BUILT_IN[GPU].kv_blocks
    content = json.loads(path.read_text())
    content["engine"]["max_num_sequences"] = 8
    path.write_text(json.dumps(content))
    with pytest.raises(WorkloadError, match=r"unknown engine\.max_num_sequences; valid: archi"):
        gpu_model(str(path))
