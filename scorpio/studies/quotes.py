"""Does a quote hold, and does a refused client get in when it comes back?

Every fifth request asks for a quote first and takes it: its TTFT and TPOT SLOs are what it was
quoted. What the quotes go by is as old as on a server. In runs of their own, all refused clients
come back when they are told to, once.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scorpio.core.routing.load import UNKNOWN_LENGTH, Replica, RoutedRequest
from scorpio.core.routing.quote import Quote, Quotes
from scorpio.core.slo import XARG_FIELDS, XARG_QUOTED
from scorpio.engine.virtual.scorpio import VirtualScorpioScheduler
from scorpio.studies.questions import QUESTIONS
from scorpio.studies.study import OURS, Cells, Found, Page, Rows, Study, engine, table
from scorpio.twin.clients import ClientSpec
from scorpio.twin.engine.arrivals import Arrival
from scorpio.twin.engine.ledger import End, Entry
from scorpio.twin.engine.loop import TwinLoop
from scorpio.twin.run import check_policy, policy_profile, twin_loop
from scorpio.twin.translate import arrivals, index_stride, records
from workloads.load import LoadKey

_EVERY = 5
_TOLD_S = 0.2  # between two reports of an engine, as `STATUS_PERIOD_S` of a server
_SEEDS = (0, 1)
_PLACES = (
    ("azure-conv", "2000:2800", "six", 0.6),
    ("azure-conv", "2000:2800", "six", 1.2),
    ("azure-conv", "2000:4400", "six", 2.0),
    ("azure-conv", "9000:9600", "product", 1.0),
    ("servegen-r1", "1000:1800", "product", 1.0),
    ("toolagent-synth", "0:500", "product", 0.2),
)
_QUICK = (("azure-conv-synth", "0:120", "six", 2.0),)


class QuotedTwin:
    """One run in which every `_EVERY`-th request takes a quote."""

    def __init__(self, load: LoadKey) -> None:
        requests, config = load.requests(), engine()
        self._arrivals = arrivals(requests, config, load.seed)
        self._loop: TwinLoop = twin_loop(
            config, requests, OURS, load.seed, policy_profile(config, load.seed)
        )
        scheduler = self._loop.scheduler
        assert isinstance(scheduler, VirtualScorpioScheduler)
        self._scheduler = scheduler
        self._quotes = Quotes()
        self._row = self._quotes.add(Replica.from_dict(scheduler.replica().to_dict()))
        self._told_s = -math.inf
        self._open: dict[str, Quote] = {}

    def taken(self) -> Iterator[tuple[Quote | None, Entry]]:
        """Each quote asked for, None where there was none, and what became of the request."""
        sent: list[Arrival] = []
        asked: dict[str, Quote | None] = {}
        self._loop.expect(sent)
        for number, arrival in enumerate(self._arrivals):
            self._loop.advance(arrival.arrival_s)
            self._hear(arrival.arrival_s)
            if number % _EVERY == 0:
                arrival, asked[arrival.request_id] = self._quoted(arrival)
            routed = RoutedRequest(number, arrival.arrival_s, arrival.prompt_tokens, arrival.slo)
            self._quotes.sent(self._row, routed, arrival.arrival_s)
            sent.append(arrival)
        self._loop.advance(math.inf)
        check_policy(self._loop, OURS)
        for name, quote in asked.items():
            yield quote, self._loop.ledger.entries[name]

    def _hear(self, now_s: float) -> None:
        if now_s - self._told_s >= _TOLD_S:
            self._told_s = now_s
            self._quotes.report(self._row, self._scheduler.load(now_s))
        for name, quote in list(self._open.items()):
            entry = self._loop.ledger.entries.get(name)
            if entry is not None and (entry.tokens or entry.end is not None):
                self._quotes.came(quote, _ttft_s(entry))
                del self._open[name]

    def _quoted(self, arrival: Arrival) -> tuple[Arrival, Quote | None]:
        quote = self._quotes.quote(
            arrival.prompt_tokens, UNKNOWN_LENGTH, arrival.arrival_s, arrival.slo.tpot_s
        )
        if quote is None:
            return arrival, None
        self._open[arrival.request_id] = quote
        slo = replace(arrival.slo, ttft_s=quote.ttft.high_s, tpot_s=quote.tpot.high_s)
        told = {XARG_FIELDS[0]: slo.ttft_s * 1e3, XARG_FIELDS[1]: slo.tpot_s * 1e3}
        xargs = {**arrival.xargs, **told, XARG_QUOTED: "1"}
        return replace(arrival, slo=slo, xargs=xargs), quote


def _ttft_s(entry: Entry) -> float:
    return entry.first_s - entry.arrival.arrival_s if entry.tokens else math.inf


def fate(quote: Quote | None, entry: Entry) -> str:
    """What became of a quote: none, refused, later, sooner (than its interval), slower (its TPOT
    was broken), held."""
    if quote is None:
        return "none"
    if entry.end is not End.FINISHED:
        return "refused"
    if _ttft_s(entry) > quote.ttft.high_s:
        return "later"
    if entry.last_s - entry.first_s > quote.tpot.high_s * max(entry.tokens - 1, 0) * (1 + 1e-9):
        return "slower"
    return "sooner" if _ttft_s(entry) < quote.ttft.low_s else "held"


@dataclass(frozen=True, slots=True)
class Quoting:
    """A load with quotes."""

    load: LoadKey

    @property
    def label(self) -> str:
        """Which load."""
        return f"quotes: {self.load.label}"

    def run(self) -> dict[str, Any]:
        """Fates, how wide the intervals were (median high over low) and how far off (seconds)."""
        found = list(QuotedTwin(self.load).taken())
        given = [quote for quote, _ in found if quote is not None]
        return {
            "fates": [fate(quote, entry) for quote, entry in found],
            "low_s": float(np.median([quote.ttft.low_s for quote in given])),
            "high_s": float(np.median([quote.ttft.high_s for quote in given])),
        }


@dataclass(frozen=True, slots=True)
class Returning:
    """A load whose refused clients come back once, when they are told to."""

    load: LoadKey

    @property
    def label(self) -> str:
        """Which load."""
        return f"returning: {self.load.label}"

    def run(self) -> dict[str, Any]:
        """Of the first tries: sent, refused; of the second ones: sent, served, good."""
        requests = self.load.requests()
        config = replace(engine(), clients=ClientSpec(retries=1))
        profile = policy_profile(config, self.load.seed)
        loop = twin_loop(config, requests, OURS, self.load.seed, profile)
        loop.run(arrivals(requests, config, self.load.seed))
        check_policy(loop, OURS)
        stride = index_stride(requests)
        entries = list(loop.ledger.entries.values())
        first = [entry for entry in entries if entry.arrival.index < stride]
        again = [entry for entry in entries if entry.arrival.index >= stride]
        served = [entry for entry in again if entry.end is End.FINISHED]
        return {
            "sent": len(first),
            "refused": sum(entry.end is End.REJECTED for entry in first),
            "again": len(again),
            "served": len(served),
            "good": sum(record.good for record in records(again)),
        }


def _cells(quick: bool) -> Cells:
    places, seeds = (_QUICK, _SEEDS[:1]) if quick else (_PLACES, _SEEDS)
    loads = [LoadKey(*place, seed) for place in places for seed in seeds]
    return [*map(Quoting, loads), *map(Returning, loads)]


def _rows(found: Found) -> Rows:
    made: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for run, told in found:
        assert isinstance(run, Quoting | Returning)
        kind = "quotes" if isinstance(run, Quoting) else "returning"
        load = f"{run.load.trace} {run.load.rows}, {run.load.mix}, x{run.load.rate_scale:g}"
        made[kind, load].append(told)
    rows: Rows = []
    for (kind, load), runs in made.items():
        row: dict[str, Any] = {"kind": kind, "load": load}
        if kind == "quotes":
            fates = [one for run in runs for one in run["fates"]]
            row |= {name: fates.count(name) for name in dict.fromkeys(("held", *_FATES, *fates))}
            row |= {
                name: float(np.mean([run[name] for run in runs])) for name in ("low_s", "high_s")
            }
        else:
            row |= {name: sum(run[name] for run in runs) for name in runs[0]}
        rows.append(row)
    return rows


_FATES = ("later", "refused", "slower", "sooner", "none")


def _page(rows: Rows) -> Page:
    quotes = [row for row in rows if row["kind"] == "quotes"]
    back = [row for row in rows if row["kind"] == "returning"]
    return Page(f"""\
In the twin, A100 model, two seeds. Every fifth request asks `POST /v1/slo/quote` (the rule behind
it) and is sent with what it is quoted as its SLOs. A quote holds when the first token comes within
its interval and the TPOT is kept. The first quotes of a run, of which nothing was learned yet, are
in it. Goal: 90 %.

{table(["load", "quotes", "hold, %", "later", "refused", "TPOT broken", "sooner", "no quote",
        "TTFT quoted, s (median)"], [_quoted_line(row) for row in quotes])}

## Clients that come back when they are told to

All refused clients that are told a time (`retry-after`) come back then, once; those that are told
none do not. Above the engine's capacity not all can be served, whenever they come, so a time is
told only as far as it holds. Goal: 95 % served.

{table(["load", "sent", "refused", "told a time", "then served, %", "then good, %"],
       [_back_line(row) for row in back])}""")  # fmt: skip


def _quoted_line(row: dict[str, Any]) -> list[str]:
    given = sum(row[name] for name in ("held", *_FATES[:-1]))
    shares = [f"{100 * row[name] / given:.1f}" for name in ("held", *_FATES[:-1])]
    interval = f"{row['low_s']:.2g} to {row['high_s']:.2g}"
    return [row["load"], str(given), *shares, str(row["none"]), interval]


def _back_line(row: dict[str, Any]) -> list[str]:
    most = max(row["again"], 1)
    shares = [f"{100 * row[name] / most:.1f}" for name in ("served", "good")]
    return [row["load"], *(str(row[n]) for n in ("sent", "refused", "again")), *shares]


STUDY = Study("quotes", QUESTIONS["quotes"], _cells, _rows, _page)
