"""Where is this embedded model? `python -m scorpio.models smollm2` prints the directory."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from scorpio.models.errors import DamagedModel, ModelUnavailable
from scorpio.models.manifest import check_manifest
from scorpio.models.resolve import embedded_names, ready_directory, resolve_model


def main(argv: list[str] | None = None) -> int:
    """Exit 0 with the directory on stdout, or 1 with one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m scorpio.models", description=__doc__)
    parser.add_argument("name", choices=embedded_names())
    parser.add_argument("--verify", action="store_true", help="also read and check every byte")
    parser.add_argument("--if-ready", action="store_true", help="make nothing; exit 1 when absent")
    arguments = parser.parse_args(argv)
    if arguments.if_ready and ready_directory(arguments.name) is None:
        return 1
    try:
        directory = Path(resolve_model(arguments.name))
        if arguments.verify:
            check_manifest(directory, full=True)
    except ModelUnavailable as error:
        print(f"model {arguments.name}: {error}", file=sys.stderr)
        return 1
    except DamagedModel as error:
        print(f"model {arguments.name}: {error}; delete it and run again", file=sys.stderr)
        return 1
    print(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
