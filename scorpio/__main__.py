"""`python -m scorpio` is the command `scorpio`."""

from __future__ import annotations

from scorpio.cli.app import main

if __name__ == "__main__":  # vLLM spawns its engine, which imports this module again
    main()
