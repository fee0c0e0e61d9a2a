"""Where may this user's prepared files live?

`$SCORPIO_CACHE`, else `$XDG_CACHE_HOME/scorpio`, else `~/.cache/scorpio`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def cache_dir(environ: Mapping[str, str] | None = None) -> Path:
    """The directory, not created. Relative values of the variables count from home."""
    env = os.environ if environ is None else environ
    if env.get("SCORPIO_CACHE"):
        return Path.home() / Path(env["SCORPIO_CACHE"]).expanduser()
    if env.get("XDG_CACHE_HOME"):
        return Path.home() / Path(env["XDG_CACHE_HOME"]).expanduser() / "scorpio"
    return Path.home() / ".cache" / "scorpio"


def models_dir(environ: Mapping[str, str] | None = None) -> Path:
    """Where the embedded models are published."""
    return cache_dir(environ) / "models"
