"""Are the manifests of deploy/ valid, and about metrics and flags that exist? No cluster."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from yamllint import linter
from yamllint.config import YamlLintConfig

from scorpio.server.accounts.slo_config import read_slo_config
from scorpio.settings import load_settings
from scorpio.versions import is_supported

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
YAML = sorted(path for kind in ("*.yaml", "*.yml") for path in DEPLOY.rglob(kind))
LOGGERS = Path(str(find_spec("vllm").origin)).parent / "v1/metrics/loggers.py"  # type: ignore[union-attr]
LINT = YamlLintConfig(
    "{extends: default, rules: {document-start: disable, line-length: {max: 320},"
    " braces: {max-spaces-inside: 0}, truthy: {check-keys: false}}}"
)
K8S_VERSION = "1.31"
OPERATORS = {
    "ScaledObject",
    "PodMonitor",
    "InferenceObjective",
    "Kustomization",
    "RayService",
}  # not Kubernetes' own
SHUTDOWN_TIMEOUT_S, DRAIN_S = 30, 15  # docs/failures.md


def name(path: Path) -> str:
    return str(path.relative_to(DEPLOY))


def documents(path: Path) -> Iterator[dict[str, Any]]:
    yield from (found for found in yaml.safe_load_all(path.read_text()) if found)


def manifests() -> list[tuple[str, dict[str, Any]]]:
    files = [
        path
        for path in YAML
        if {"k8s", "kuberay"} & set(path.parts) or path.name == "objectives.yaml"
    ]
    return [(name(path), found) for path in files for found in documents(path)]


@pytest.mark.parametrize("path", YAML, ids=name)
def test_yaml_is_clean(path: Path) -> None:
    assert [
        str(p) for p in linter.run(path.read_text(), LINT, str(path)) if p.level == "error"
    ] == []


@pytest.mark.parametrize(
    ("file", "manifest"), manifests(), ids=lambda v: v if isinstance(v, str) else ""
)
def test_manifests_fit_their_schema(file: str, manifest: dict[str, Any]) -> None:
    if manifest["kind"] in OPERATORS:
        assert manifest["apiVersion"].count("/") == 1
    else:
        kubernetes_validate.validate(manifest, K8S_VERSION, strict=True)


@pytest.mark.parametrize(
    "overlay", [path.name for path in sorted((DEPLOY / "k8s/overlays").iterdir())]
)
def test_overlays_build(overlay: str) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not on this machine")
    made = subprocess.run(
        ["kubectl", "kustomize", str(DEPLOY / "k8s/overlays" / overlay)],
        capture_output=True,
        text=True,
        check=True,
    )
    built = {found["kind"]: found for found in yaml.safe_load_all(made.stdout)}
    (container,) = built["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["memory"]
    assert container["image"].startswith("scorpio-vllm:0.32")
    for found in built.values():
        if found["kind"] not in OPERATORS:
            kubernetes_validate.validate(found, K8S_VERSION, strict=True)


# -- what exists ---------------------------------------------------------------------------------


def exported() -> set[str]:
    """Names as Prometheus sees them: ours as docs/observe.md lists them, a front's as docs/fleet.md
    does (tests of the server and of the front hold these to /metrics), vLLM's as its source has
    them."""
    pages = "".join((ROOT / "docs" / page).read_text() for page in ("observe.md", "fleet.md"))
    ours = set(re.findall(r"`(scorpio_\w+)", pages))
    theirs = set(re.findall(r'name="(vllm:\w+)"', LOGGERS.read_text()))
    histograms = {"scorpio_request_ttft_slack_seconds_bucket"}
    return ours | theirs | histograms


def queries() -> list[tuple[str, str]]:
    board = json.loads((DEPLOY / "compose/grafana/dashboards/scorpio.json").read_text())
    found = [(p["title"], t["expr"]) for p in board["panels"] for t in p["targets"]]
    rules = yaml.safe_load((DEPLOY / "compose/alerts.yml").read_text())
    for group in rules["groups"]:
        found += [(rule.get("alert", rule.get("record")), rule["expr"]) for rule in group["rules"]]
    (scaled,) = documents(DEPLOY / "k8s/overlays/keda/scaledobject.yaml")
    found += [("KEDA", trigger["metadata"]["query"]) for trigger in scaled["spec"]["triggers"]]
    return found


@pytest.mark.parametrize(("where", "query"), queries(), ids=lambda text: text[:40])
def test_queries_are_about_metrics_that_exist(where: str, query: str) -> None:
    named = set(re.findall(r"\b(?:scorpio_|vllm:)\w+", query))
    recorded = set(re.findall(r"\bscorpio:\w+(?::\w+)*", query))
    assert named or recorded, where
    assert named <= exported()
    records = {rule for rule, _ in queries()}
    assert recorded <= records
    assert query.count("(") == query.count(")")


def test_ray_alone_scales_a_fleet() -> None:
    """A second scaler would add to what Ray already gives a front that wants replicas."""
    assert not [query for where, query in queries() if where == "KEDA" and "_fleet_" in query]


def test_each_alert_has_a_runbook() -> None:
    rules = yaml.safe_load((DEPLOY / "compose/alerts.yml").read_text())
    alerts = [rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule]
    told = {rule["alert"]: rule["annotations"]["runbook"] for rule in alerts}
    assert told == {name: f"docs/operate.md#{name.lower()}" for name in told}
    assert set(told) == set(
        re.findall(r"^### (\w+)$", (ROOT / "docs/operate.md").read_text(), re.M)
    )


@pytest.mark.parametrize("act", ["check", "test"])
def test_promtool_takes_the_rules(act: str) -> None:
    """`test`: each alert over time, when it fires and when not."""
    if shutil.which("promtool") is None:
        pytest.skip("no promtool here (Debian: apt install prometheus)")
    file = DEPLOY / "compose" / {"check": "alerts.yml", "test": "alerts_test.yml"}[act]
    done = subprocess.run(["promtool", act, "rules", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_tested_over_time() -> None:
    rules = yaml.safe_load((DEPLOY / "compose/alerts.yml").read_text())
    found = [rule for group in rules["groups"] for rule in group["rules"]]
    alerts = {rule["alert"] for rule in found if "alert" in rule}
    tested = (DEPLOY / "compose/alerts_test.yml").read_text()
    assert set(re.findall(r'alertname="(\w+)"', tested)) == alerts


def test_the_dashboard_stands_beside_vllms() -> None:
    board = json.loads((DEPLOY / "compose/grafana/dashboards/scorpio.json").read_text())
    assert board["tags"] == ["vllm"]
    variables = [variable["name"] for variable in board["templating"]["list"]]
    assert variables == ["datasource", "job", "model_name", "instance"]


# -- what they say is true -------------------------------------------------------------------------


def containers() -> list[tuple[str, list[str]]]:
    """Arguments of every container and unit that starts vLLM."""
    (base,) = documents(DEPLOY / "k8s/base/deployment.yaml")
    compose = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())
    stack = yaml.safe_load((DEPLOY / "helm/production-stack-values.yaml").read_text())
    llm_d = yaml.safe_load((DEPLOY / "llm-d/values.yaml").read_text())
    unit = (DEPLOY / "systemd/scorpio.service").read_text()
    (command,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    return [
        ("k8s", base["spec"]["template"]["spec"]["containers"][0]["args"]),
        ("compose", compose["services"]["server"]["command"]),
        ("production-stack", stack["servingEngineSpec"]["modelSpec"][0]["vllmConfig"]["extraArgs"]),
        ("llm-d", llm_d["decode"]["containers"][0]["args"]),
        ("systemd", shlex.split(command)),
    ]


@pytest.mark.parametrize(
    ("where", "args"), containers(), ids=lambda v: v if isinstance(v, str) else ""
)
def test_servers_drain_and_their_settings_are_taken(where: str, args: list[str]) -> None:
    line = " ".join(args)
    assert re.search(r"--shutdown-timeout[= ](\d+)", line)[1] == "30"  # type: ignore[index]
    texts = [arg.partition("=")[2] for arg in args if arg.startswith("--additional-config=")]
    assert bool(texts) == (where in ("production-stack", "llm-d"))
    for text in texts:
        assert load_settings(json.loads(text)).classes


def test_supervisors_wait_for_the_drain() -> None:
    (base,) = documents(DEPLOY / "k8s/base/deployment.yaml")
    compose = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())
    unit = (DEPLOY / "systemd/scorpio.service").read_text()
    wait_s = SHUTDOWN_TIMEOUT_S + DRAIN_S
    assert base["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == wait_s
    assert compose["services"]["server"]["stop_grace_period"] == f"{wait_s}s"
    assert f"TimeoutStopSec={wait_s}\n" in unit
    assert "KillMode=mixed\n" in unit


def test_the_classes_are_taken() -> None:
    files = [DEPLOY / "compose/slo.toml", DEPLOY / "k8s/base/slo.toml"]
    assert files[0].read_text() == files[1].read_text()
    book = read_slo_config(files[0])
    assert book is not None


def test_images_are_pinned_to_the_supported_version() -> None:
    image = (DEPLOY / "docker/Dockerfile").read_text()
    pinned = re.search(r"ARG VLLM_VERSION=v(\S+)\n", image)
    assert pinned
    assert is_supported(pinned[1])
    for path in (DEPLOY / "docker").iterdir():
        assert "\nUSER 10001\n" in path.read_text()
    compose = yaml.safe_load((DEPLOY / "compose/compose.yaml").read_text())
    named = [s["image"] for s in compose["services"].values() if "image" in s]
    assert all(re.search(r":v?\d+\.\d+\.\d+$", image) for image in named)


def test_pods_have_no_rights() -> None:
    (base,) = documents(DEPLOY / "k8s/base/deployment.yaml")
    pod = base["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] == "/scorpio/health"
