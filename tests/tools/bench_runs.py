"""How is vLLM's serve benchmark run where its console script does not start? Several runs in one
process, for vLLM takes half a minute to load: `python -m tests.tools.bench_runs RUNS.json FOLDER`,
a list of lists of arguments, and where their results go."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def main(runs: list[list[str]], folder: str) -> None:
    """As `vllm bench serve ARGUMENTS`, one after the other."""
    from vllm.benchmarks.serve import add_cli_args
    from vllm.benchmarks.serve import main as bench

    parser = argparse.ArgumentParser()
    add_cli_args(parser)
    for run in runs:
        bench(parser.parse_args([*run, "--result-dir", folder]))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), sys.argv[2])
