"""Several engines behind one address: Ray Serve keeps them, a router of ours shares requests out.

`scorpio.fleet:build_app` is what a Serve config file imports (docs/fleet.md).
"""

from scorpio.fleet.app import build_app

__all__ = ["build_app"]
