"""The documented example, installed once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.packages.installing import install_example


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that holds the installed package."""
    root = tmp_path_factory.mktemp("package")
    install_example(root / "source", root / "installed")
    return root / "installed"
