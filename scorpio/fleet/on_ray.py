"""Where is Ray? The one place that imports it; it is an extra, and untyped."""

from __future__ import annotations

from importlib import import_module
from typing import Any

HOW = "Ray is missing: pip install 'scorpio-vllm[fleet]'"


class NoRayError(RuntimeError):
    """Ray is not installed."""


def ray() -> Any:
    """The module `ray`. Raises NoRayError."""
    return _module("ray")


def serve() -> Any:
    """The module `ray.serve`. Raises NoRayError."""
    return _module("ray.serve")


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise NoRayError(HOW) from None
