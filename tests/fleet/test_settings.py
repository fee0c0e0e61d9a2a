"""Is a fleet that cannot be is told so in one line, before anything is started?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from scorpio.core.routing.registry import ROUTERS
from scorpio.fleet import build_app
from scorpio.fleet.app import FALLBACK, FRONT, REPLICA
from scorpio.fleet.command import placed
from scorpio.fleet.settings import FleetSettings, fallback_shares, fleet_settings
from scorpio.settings import SettingsError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"router": "best"}, f"router: unknown router 'best'; valid: {', '.join(ROUTERS)}"),
        ({"replicas": 0}, "replicas: Input should be greater than or equal to 1"),
        ({"replicas": "2"}, "replicas: Input should be a valid integer"),
        ({"replica": 2}, "replica: unknown; valid: model, replicas"),
        ({"lost_s": 0}, "lost_s: Input should be greater than 0"),
        ({"model": None}, "model: Input should be a valid string"),
        ({"fallback": {"model": "b", "replicas": 0}}, "fallback.replicas: Input should be gre"),
        ({"fallback": {"modle": "b"}}, "fallback.model: Field required; fallback.modle: unknown;"),
        ({"fallback": {"model": "tiny"}}, "fallback.name: 'tiny' is the first deployment's, too"),
        (
            {"serve_args": ["--served-model-name", "a", "b"], "fallback": {"model": "b"}},
            "fallback.name: 'b' is the first deployment's, too: give it another one",
        ),
        (
            {"fallback": {"model": "b", "name": "b\r\nx-more: 1"}},
            "fallback.name: a header says it, so printable ASCII characters",
        ),
    ],
)
def test_a_mistake_names_its_field(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        fleet_settings({"model": "tiny"} | wrong)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def test_a_file_of_classes_is_read_before_the_start(tmp_path: Path) -> None:
    wrong = tmp_path / "slo.toml"
    wrong.write_text("[classes.fast]\nttft = 3\n")
    with pytest.raises(SettingsError, match=r"classes\.fast\.ttft"):
        build_app({"model": "tiny", "slo_config": str(wrong)})


def test_the_app_is_what_was_asked_for() -> None:
    app = build_app({"model": "m", "replicas": 5, "gpus_per_replica": 4, "fronts": 2})
    front = app._bound_deployment
    (told, engines) = front.init_args
    replica = engines._bound_deployment
    assert (front.name, front.num_replicas) == (FRONT, 2)
    assert (replica.name, replica.num_replicas) == (REPLICA, 5)
    assert replica.ray_actor_options["num_gpus"] == 4
    assert json.loads(json.dumps(told)) == told
    (raw,) = replica.init_args
    assert not {"replicas", "fronts", "router", "lost_s"} & set(raw)
    assert not {"replicas", "fronts"} & set(told)
    assert fleet_settings(raw).model == fleet_settings(told).model == "m"


def test_the_fallback_is_a_deployment_of_its_own() -> None:
    args = ("--api-key", "secret", "--latency", "a.json", "--enable-lora", "--max-model-len=9")
    cheap = {"model": "m8", "replicas": 3, "name": "m-fp8", "serve_args": ["--quantization=fp8"]}
    front = build_app({"model": "m", "serve_args": args, "fallback": cheap})._bound_deployment
    told, first, second = front.init_args
    seen = fleet_settings(told)
    assert (seen.names, seen.fallback_name) == (("m",), "m-fp8")
    assert "secret" not in json.dumps(told)
    (_,), deployment = first._bound_deployment.init_args, second._bound_deployment
    assert not first._bound_deployment.init_kwargs
    assert (deployment.name, deployment.num_replicas) == (FALLBACK, 3)
    (raw,) = deployment.init_args
    assert deployment.init_kwargs == {"fallback": True}
    assert (raw["model"], raw["serve_args"]) == (
        "m8",
        [
            *("--api-key", "secret", "--max-model-len=9", "--quantization=fp8"),
            *("--served-model-name", "m-fp8", "m"),
        ],
    )


def test_a_class_may_only_fall_back_to_what_is_there(tmp_path: Path) -> None:
    file = tmp_path / "slo.toml"
    file.write_text('[classes.chat]\nttft_ms = 5\nfallback = "m9"\nfallback_share = 0.1\n')
    asked = {"model": "m", "slo_config": str(file)}
    said = r"slo\.toml: classes\.chat\.fallback: 'm9' is no deployment of this fleet; valid: "
    with pytest.raises(SettingsError, match=said + "none; --fallback-model starts one"):
        build_app(asked)
    with pytest.raises(SettingsError, match=said + "m8$"):
        build_app(asked | {"fallback": {"model": "m8"}})
    fine = fleet_settings(asked | {"fallback": {"model": "m9"}}).read()[0]
    assert fallback_shares(fine) == {"chat": 0.1}


def test_every_field_is_told_to_a_part_or_is_the_deployments(tmp_path: Path) -> None:
    asked = {"model": "m", "max_replicas": 3, "run_dir": str(tmp_path), "env": {"A": "1"}}
    front = build_app(asked)._bound_deployment
    told, engines = front.init_args
    (raw,) = engines._bound_deployment.init_args
    # What Ray itself reserves for a replica: `ray_actor_options`.
    own = {"cpus_per_replica", "gpus_per_replica"}
    assert set(told) | set(raw) | own == set(FleetSettings.model_fields)
    assert (raw["run_dir"], raw["env"]) == (str(tmp_path), {"A": "1"})


def test_a_serve_config_file_finds_the_app(tmp_path: Path) -> None:
    found = yaml.safe_load_all((ROOT / "deploy/kuberay/rayservice.yaml").read_text())
    made = {manifest["kind"]: manifest for manifest in found}
    (application,) = yaml.safe_load(made["RayService"]["spec"]["serveConfigV2"])["applications"]
    assert application["import_path"] == "scorpio.fleet:build_app"
    settings = fleet_settings(application["args"])
    (file,) = made["ConfigMap"]["data"]
    assert settings.slo_config == Path("/etc/scorpio") / file
    classes = tmp_path / file
    classes.write_text(made["ConfigMap"]["data"][file])
    assert settings.model_copy(update={"slo_config": classes}).read()[0].classes
    overrides = {entry["name"] for entry in application.get("deployments", [])}
    assert overrides <= {FRONT, REPLICA}


@pytest.mark.parametrize(
    ("arguments", "gpus"),
    [
        ([], 1),
        (["--tensor-parallel-size", "4"], 4),
        (["-tp", "2", "--pipeline-parallel-size=2"], 4),
        (["--tensor_parallel_size=2", "--data-parallel-size", "3"], 6),
        (["--tensor-parallel-size", "no"], 1),
    ],
)
def test_a_replica_takes_the_gpus_of_its_engine(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], gpus: int
) -> None:
    monkeypatch.setattr("scorpio.fleet.command.is_cpu_build", lambda: False)
    wanted = FleetSettings(model="m", serve_args=tuple(arguments))
    assert placed(wanted, local=True).gpus_per_replica == gpus
    given = wanted.model_copy(update={"gpus_per_replica": 0.5})
    assert placed(given, local=True).gpus_per_replica == 0.5


def test_a_fallback_takes_the_gpus_of_its_own_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scorpio.fleet.command.is_cpu_build", lambda: False)
    cheap = {"model": "b", "serve_args": ["--tensor-parallel-size=1"]}
    wanted = fleet_settings({"model": "m", "serve_args": ["-tp", "2"], "fallback": cheap})
    made = placed(wanted, local=True)
    assert made.fallback is not None
    assert (made.gpus_per_replica, made.of_fallback(made.fallback).gpus_per_replica) == (2, 1)


def test_replicas_on_one_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    wanted = FleetSettings(model="m", replicas=3)
    assert placed(wanted, local=True).env["OMP_NUM_THREADS"] == "2"
    assert placed(wanted, local=False).env == {}
    monkeypatch.setenv("OMP_NUM_THREADS", "7")  # the user's own word
    assert "OMP_NUM_THREADS" not in placed(wanted, local=True).env
