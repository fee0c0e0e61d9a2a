"""Where do prepared models go?"""

from __future__ import annotations

from pathlib import Path

from scorpio.models.cache import cache_dir, models_dir


def test_own_variable_wins_over_xdg() -> None:
    both = {"SCORPIO_CACHE": "/data/s", "XDG_CACHE_HOME": "/data/x"}
    assert cache_dir(both) == Path("/data/s")
    assert cache_dir({"XDG_CACHE_HOME": "/data/x"}) == Path("/data/x/scorpio")
    assert cache_dir({}) == Path.home() / ".cache" / "scorpio"
    assert models_dir(both) == Path("/data/s/models")


def test_relative_and_tilde_count_from_home() -> None:
    assert cache_dir({"SCORPIO_CACHE": "~/c"}) == Path.home() / "c"
    assert cache_dir({"SCORPIO_CACHE": "c"}) == Path.home() / "c"
    assert cache_dir({"SCORPIO_CACHE": ""}) == Path.home() / ".cache" / "scorpio"
