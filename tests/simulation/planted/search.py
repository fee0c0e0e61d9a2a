"""How many requests until a planted bug is seen? `python -m tests.simulation.planted.search [NAME]`

Seeds from 0 on, up to five minutes' worth; prints the lines of `SEEDS`.
"""

from __future__ import annotations

import sys
from itertools import count

from tests.simulation import pool
from tests.simulation.planted.bugs import BUGS
from tests.simulation.planted.planting import catch

MOST_REQUESTS = 60_000  # at 200 a second: five minutes


def main(names: list[str]) -> int:
    """1 when one was not seen."""
    pool.quiet()
    missed = 0
    for name in names or BUGS:
        found = catch(BUGS[name], count(), MOST_REQUESTS)
        missed += not found.what
        print(
            f'    "{name}": {found.seed},  # {found.requests} requests; {found.what[:80]}',
            flush=True,
        )
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
