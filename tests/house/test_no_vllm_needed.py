"""Do the policy, the workloads and the predictors load where no vLLM is installed?"""

from __future__ import annotations

import subprocess
import sys

import pytest

_FORBIDDING_IMPORT = """
import importlib, pkgutil, sys

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"vllm", "torch", "transformers", "lightgbm", "sklearn"}:
            raise ImportError(f"{name} must not be needed here")

sys.meta_path.insert(0, Forbid())
package = importlib.import_module(sys.argv[1])
skipped = tuple(sys.argv[2:])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if module.name.rpartition(".")[2] not in skipped:
        importlib.import_module(module.name)
"""
# modules whose purpose is to train or convert; the serving process never loads them
_TRAINING = ("train", "convert", "__main__")


@pytest.mark.parametrize("package", ["scorpio.core", "workloads", "predictors", "scorpio.models"])
def test_imports_without_vllm(package: str) -> None:
    skipped = _TRAINING if package in ("predictors", "scorpio.models") else ("__main__",)
    done = subprocess.run(
        [sys.executable, "-c", _FORBIDDING_IMPORT, package, *skipped],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_hook_itself_forbids() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FORBIDDING_IMPORT, "torch"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "torch must not be needed here" in done.stderr
