"""Where do the tools come from? Each is installed once, pinned, into a venv of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# name -> (what pip installs, the version that the page is of)
PINNED = {
    "guidellm": ("guidellm==0.8.1", "0.8.1"),
    "aiperf": ("aiperf==0.13.0", "0.13.0"),
    "litellm": ("litellm[proxy]==1.108.7", "1.108.7"),
}
_INSTALL_S = 1800.0


def tool(venvs: Path, name: str) -> Path:
    """Its console script; installed first where it is not, or where it is another version."""
    requirement, version = PINNED[name]
    folder = venvs / name
    script, python = folder / "bin" / name, folder / "bin" / "python"
    if _version(python, name) != version:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", requirement]
        subprocess.run(install, check=True, timeout=_INSTALL_S)
    return script


def _version(python: Path, name: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({name!r}))"
    if not python.exists():
        return ""
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True).stdout.strip()


def tokenizer_cache(home: Path, model: Path) -> str:
    """A Hugging Face cache that holds the tokenizer of a local model, and its name there: AIPerf's
    workers take no folder."""
    entry = home / "hub" / "models--local--smollm2"
    (entry / "snapshots" / "0").mkdir(parents=True, exist_ok=True)
    (entry / "refs").mkdir(exist_ok=True)
    (entry / "refs" / "main").write_text("0")
    for file in model.glob("*.json"):
        link = entry / "snapshots" / "0" / file.name
        link.unlink(missing_ok=True)
        link.symlink_to(file)
    return "local/smollm2"
