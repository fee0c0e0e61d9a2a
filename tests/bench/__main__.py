"""What does Scorpio cost? `make bench`; `--write` makes docs/results/cost.md of it.

Timings of this machine: nothing here is a test. Run it when nothing else runs.
"""

from __future__ import annotations

import argparse
import sys

from scorpio.studies.results import PAGES, header, write_pages
from scorpio.studies.study import Found, Page, Rows, Study
from tests.bench import front_cost, length_cost, route_cost, schedule_cost, twin_speed

QUESTION = "What does Scorpio cost?"


def page(rows: Rows) -> Page:
    """Of one row that holds all parts."""
    (found,) = rows
    return Page(f"""\
## Scheduling

What Scorpio adds to one `schedule()` call, as a share of stock `schedule()` on the same state:
{schedule_cost.RUNNING} running decodes and so many waiting requests, steps of both in turn, median
of the step-by-step ratios with a 95 % interval. Memory for each waiting request, beside vLLM's own:
{found["bytes_per_waiting"]:,.0f} bytes.

{schedule_cost.text(found["schedule"])}
## A length prediction

Processor time in the API process, for each request.

{length_cost.text(found["length"])}
## A router's decision

Processor time of one request's routing; the split between sides is looked at every 2 s.

{route_cost.text(found["route"])}
## The front of a fleet

Processor time of one front ([fleet](../fleet.md)): reading, routing and passing on, without Ray's
own proxy.

{front_cost.text(found["front"])}
## The twin

{twin_speed.text(found["twin"])}""")


def main() -> int:
    """Measure, print, and write the page when asked to."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.bench")
    parser.add_argument("--write", action="store_true", help="docs/results/cost.md; clean tree")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--requests", type=int, default=3000)
    args = parser.parse_args()
    head = header('make bench ARGS="--write"') if args.write else None
    row = {
        "schedule": schedule_cost.rows(args.steps),
        "bytes_per_waiting": round(schedule_cost.bytes_per_waiting()),
        "length": length_cost.rows(args.requests),
        "route": route_cost.rows(args.requests),
        "front": front_cost.rows(args.requests),
        "twin": twin_speed.rows(min(args.requests, 1000)),
    }
    print(page([row]).text)
    if head is not None:
        write_pages([(STUDY, [row])], head, PAGES, None)
    return 0


def _nothing(found: Found) -> Rows:
    return []


STUDY = Study("cost", QUESTION, lambda quick: [], _nothing, page)

if __name__ == "__main__":
    sys.exit(main())
