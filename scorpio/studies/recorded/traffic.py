"""What did a server really serve, on what, and what came of it? A ledger as the twin needs it.

Nothing here needs vLLM: what is wrong or missing in a ledger is told at once.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

from scorpio import channel
from scorpio.core.latency import LatencyProfile
from scorpio.core.slo import OnMiss, Slo
from scorpio.engine.virtual.spec import EngineSpec
from scorpio.ledger.as_trace import recorded
from scorpio.ledger.entry import Entry
from scorpio.ledger.facts import Facts
from scorpio.ledger.files import Book, LedgerError, time_text
from scorpio.settings import NO_CLASS
from scorpio.twin.gpu.file import gpu_model
from scorpio.twin.gpu.step_models import GpuModel
from scorpio.twin.modelled_engine import EngineOptions, modelled_engine
from scorpio.twin.systems import check_system
from workloads.errors import WorkloadError
from workloads.request import WorkloadRequest, request_of
from workloads.results.records import Outcome, RequestRecord

LAST = 3000  # requests, unless more or fewer are asked for
FITTED = "fitted"  # in place of a GPU's name: as the ledger's own times say
NOT_MODELLED = {"num_speculative_tokens": "speculative decoding", "max_loras": "LoRA adapters"}
LEAST_TO_FIT = 100  # requests that finished
_OUTCOMES = {
    "finished": Outcome.FINISHED,
    "rejected": Outcome.REJECTED,
    "aborted": Outcome.TIMED_OUT,
    "failed": Outcome.FAILED,
}


@dataclass(frozen=True, slots=True)
class Recorded:
    """The last part of a ledger that was served by one engine under one policy.

    entries, requests and real (what came of each) are in order of arrival, the same number of each;
    `compared` are the indices of those that were served to the end or refused: of a client that
    left nothing can be said. gpu: None = it is to be fitted. profile: what policies believe of it.
    """

    place: str
    policy: str
    options: Mapping[str, float]
    facts: Facts | None
    engine: EngineSpec
    gpu: GpuModel | None
    profile: LatencyProfile | None
    entries: tuple[Entry, ...]
    requests: tuple[WorkloadRequest, ...]
    real: tuple[RequestRecord, ...]
    told: tuple[str, ...]

    @property
    def compared(self) -> frozenset[int]:
        """Indices of requests with an end that a policy is to answer for."""
        ends = (Outcome.FINISHED, Outcome.REJECTED)
        return frozenset(record.index for record in self.real if record.outcome in ends)

    @property
    def span(self) -> str:
        """When they came."""
        return " to ".join(time_text(self.entries[at].arrived_unix_s) for at in (0, -1))


def recorded_traffic(
    book: Book, last: int = LAST, gpu: str | None = None, options: EngineOptions | None = None
) -> Recorded:
    """The traffic of a ledger. last: at most so many requests, the newest. gpu: in place of the
    profile that its engine was started with; FITTED = as its times say. options: flags, likewise.

    Raises:
        LedgerError: no request with a prompt in it, or one policy cannot be told.
        WorkloadError: no such GPU; or nothing says how fast the engine was or what its limits are.
    """
    entries, facts = _one_period(book)
    entries = [entry for entry in entries if entry.prompt_tokens][-last:]
    if not entries:
        raise LedgerError(f"{book.place}: none of its requests had a prompt")
    policy = _policy(book.place, entries, facts)
    rows = recorded(entries)
    values = {} if facts is None else facts.values
    requests = tuple(
        _request(index, entry, row, values)
        for index, (entry, row) in enumerate(zip(entries, rows.rows, strict=True))
    )
    profile = None
    if gpu in (None, FITTED) and facts is not None and facts.latency is not None:
        profile = _profile(book.place, facts)
    found = Recorded(
        place=book.place,
        policy=policy,
        options={} if facts is None else facts.policy_options,
        facts=facts,
        engine=_engine(book.place, facts, gpu, requests, options or {}),
        gpu=None,
        profile=profile,
        entries=tuple(entries),
        requests=requests,
        real=tuple(_record(i, e, entries[0]) for i, e in enumerate(entries)),
        told=tuple(rows.lines()),
    )
    if not found.compared:
        raise LedgerError(f"{book.place}: none of its requests was served to the end or refused")
    return replace(found, gpu=_gpu(found, gpu))


def as_measured(profile: LatencyProfile, engine: EngineSpec) -> GpuModel:
    """A GPU whose steps take what a profile says; it was measured output to output, so the engine's
    own time is in it already."""
    return GpuModel(
        "as measured", profile.step, profile.source, gap_s=0.0, kv_blocks=engine.num_blocks
    )


def shadow_of(traffic: Recorded) -> tuple[str, Mapping[str, float]]:
    """Which policy watched, and with which options; "" for none."""
    if traffic.facts is not None and traffic.facts.shadow is not None:
        return traffic.facts.shadow, traffic.facts.shadow_options
    names = Counter(entry.shadow.policy for entry in traffic.entries if entry.shadow)
    return next(iter(dict(names.most_common(1))), ""), {}


def _one_period(book: Book) -> tuple[list[Entry], Facts | None]:
    """The newest requests that were served by an engine which did not change meanwhile. Raises
    LedgerError: they are of several engines."""
    if book.replicas:
        raise LedgerError(
            f"{book.place}: of a fleet; the twin asked here is of one engine: name a replica's"
            f" folder in it ({', '.join(book.replicas)}), or `scorpio record` all and ask `plan`"
        )
    if len(engines := sorted({entry.engine for entry in book.entries})) > 1:
        files = ", ".join(channel.of_engine(channel.LEDGER, engine) for engine in engines)
        raise LedgerError(
            f"{book.place}: of {len(engines)} data-parallel engines; the twin asked here is of one:"
            f" name the file of one in it ({files})"
        )
    if not book.facts:
        return list(book.entries), None
    starts = [book.facts[0].since_unix_s]
    for before, after in pairwise(book.facts):
        if not after.alike(before):
            starts.append(after.since_unix_s)
    end = math.inf
    for start in reversed(starts):
        found = [entry for entry in book.entries if start <= entry.arrived_unix_s < end]
        if found:
            known = [fact for fact in book.facts if fact.since_unix_s < end]
            return found, known[-1]
        end = start
    return list(book.entries), None


def _policy(place: str, entries: Sequence[Entry], facts: Facts | None) -> str:
    names = Counter(entry.policy for entry in entries if entry.policy)
    name = facts.policy if facts is not None else next(iter(dict(names.most_common(1))), "")
    if not name:
        raise LedgerError(f"{place}: none of its requests was decided by a policy")
    try:
        check_system(name, {} if facts is None else facts.policy_options)
    except ValueError as error:
        raise LedgerError(f"{place}: served under policy {name!r}: {error}") from None
    return name


def _profile(place: str, facts: Facts) -> LatencyProfile:
    try:
        return LatencyProfile.from_dict(facts.latency or {})
    except (ValueError, TypeError) as error:
        raise LedgerError(f"{place}: {error}") from None


def _engine(
    place: str,
    facts: Facts | None,
    gpu: str | None,
    requests: Sequence[WorkloadRequest],
    options: EngineOptions,
) -> EngineSpec:
    changes: dict[str, Any] = dict(options)
    if facts is not None:
        known = {field.name for field in fields(EngineSpec)} - set(NOT_MODELLED)
        stated = {name: value for name, value in facts.limits.items() if name in known}
        try:
            return replace(EngineSpec(), **(stated | changes))
        except (TypeError, ValueError) as error:
            raise LedgerError(f"{place}: limits of its engine: {error}") from None
    if gpu in (None, FITTED):
        raise WorkloadError(
            f"{place}: a ledger of an older version, which says nothing of its engine: name its"
            " GPU or latency.json, and its flags with --engine-option"
        )
    return modelled_engine(gpu, any(r.hash_ids for r in requests), options)


def _gpu(found: Recorded, named: str | None) -> GpuModel | None:
    if named not in (None, FITTED):
        return gpu_model(named)
    if named is None and found.profile is not None:
        return as_measured(found.profile, found.engine)
    finished = sum(record.tpot_s is not None for record in found.real)
    if found.policy != "fcfs" or finished < LEAST_TO_FIT:
        none = "" if named else "its engine had no latency profile, and "
        raise WorkloadError(
            f"{found.place}: {none}{finished} answers under '{found.policy}' are not enough to fit"
            f" its speed ({LEAST_TO_FIT} under 'fcfs' are): name its GPU or latency.json"
        )
    return None


def _request(index: int, entry: Entry, row: Any, values: Mapping[str, float]) -> WorkloadRequest:
    ttft_s, tpot_s, e2e_s = (
        math.inf if ms is None else ms / 1000.0
        for ms in (entry.slo_ttft_ms, entry.slo_tpot_ms, entry.slo_e2el_ms)
    )
    name = "" if entry.slo_class == NO_CLASS else entry.slo_class
    slo = Slo(ttft_s, tpot_s, e2e_s, value=float(values.get(name, 1.0)))
    on_miss = "" if entry.on_miss == OnMiss.REJECT.value else entry.on_miss
    return replace(
        request_of(index, row, slo, name, on_miss),
        max_tokens=max(entry.max_tokens, 1),
        predicted_tokens=entry.predicted_tokens,
    )


def _record(index: int, entry: Entry, first: Entry) -> RequestRecord:
    """What a client of no distance would have seen."""
    sent_s = entry.arrived_unix_s - first.arrived_unix_s
    first_s = None if entry.first_token_ms is None else sent_s + entry.first_token_ms / 1000.0
    outcome = _OUTCOMES.get(entry.outcome, Outcome.FAILED)
    if outcome is Outcome.FINISHED and first_s is None:
        outcome = Outcome.FAILED
    if outcome is Outcome.REJECTED:
        first_s = None
    gaps_s = (entry.mean_gap_ms or 0.0) / 1000.0 * max(entry.output_tokens - 1, 0)
    inf = math.inf
    return RequestRecord(
        index=index,
        slo_class="" if entry.slo_class == NO_CLASS else entry.slo_class,
        tenant=entry.tenant,
        send_s=sent_s,
        scheduled_send_s=sent_s,
        prompt_tokens=entry.prompt_tokens,
        output_tokens=max(entry.output_tokens, 0 if first_s is None else 1),
        ttft_slo_s=inf if entry.slo_ttft_ms is None else entry.slo_ttft_ms / 1000.0,
        tpot_slo_s=inf if entry.slo_tpot_ms is None else entry.slo_tpot_ms / 1000.0,
        e2e_slo_s=inf if entry.slo_e2el_ms is None else entry.slo_e2el_ms / 1000.0,
        outcome=outcome,
        reject_reason=entry.reason or "unknown" if outcome is Outcome.REJECTED else None,
        first_token_s=first_s,
        last_token_s=None if first_s is None else first_s + gaps_s,
        preemptions=entry.preemptions,
        ended_s=sent_s + entry.ended_ms / 1000.0,
    )
