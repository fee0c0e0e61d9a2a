"""Which options has vLLM's server, in each version? Writes scorpio/server/launch/vllm_flags.json.

    python -m tests.server.flags 0.32=PYTHONPATH 0.33=PYTHONPATH

PYTHONPATH: where that version is; empty for the installed one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from scorpio.server.launch.mistakes import FLAGS

_ASK = "from scorpio.server.vllm_api import server_options; print(*server_options())"


def main() -> None:
    found: dict[str, list[str]] = {}
    for pair in sys.argv[1:]:
        version, _, path = pair.partition("=")
        env = os.environ | ({"PYTHONPATH": path} if path else {})
        asked = subprocess.run(
            [sys.executable, "-c", _ASK], env=env, stdout=subprocess.PIPE, text=True, check=True
        )
        found[version] = asked.stdout.split("\n")[-2].split()
    shared = set.intersection(*map(set, found.values()))
    content = {"all": sorted(shared)}
    content |= {version: sorted(set(flags) - shared) for version, flags in found.items()}
    lines = [f"{json.dumps(name)}: {json.dumps(flags)}" for name, flags in content.items()]
    FLAGS.write_text("{" + ",\n".join(lines) + "}\n")


if __name__ == "__main__":
    main()
