"""Does a ledger say of which engine it is, in each file, and do old ones read as before?"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scorpio import channel
from scorpio.engine.ledger import writer as writer_module
from scorpio.engine.ledger.writer import LedgerWriter
from scorpio.engine.virtual.build import EngineSpec
from scorpio.ledger.facts import Facts, facts_of, is_facts
from scorpio.ledger.files import read_ledger
from tests.engine.driver import Engine
from tests.ledger.made import entry, write
from tests.ledger.test_commands import PROFILE

FACTS = Facts(since_unix_s=1.8e9, engine=0, version="0.1.0", policy="fcfs", limits={"a": 1})


def test_an_engine_writes_what_it_is_and_what_is_in_force(tmp_path: Path) -> None:
    spec = EngineSpec(max_num_seqs=4, max_num_batched_tokens=512, num_blocks=99, pipeline_depth=2)
    told: dict[str, Any] = {"policy": "fcfs", "shadow": "scorpio"}
    told |= {"shadow_options": {"patience_s": 7.0}, "shadow_most_share": 1.0}
    told |= {"run_dir": str(tmp_path), "latency": PROFILE.to_dict()}
    classes = {"chat": {"ttft_ms": 500, "value": 4}, "batch": {}}
    engine = Engine(spec, told | {"classes": classes})
    engine.add("a", 32, 3)
    engine.drain()
    channel.write_control(tmp_path, "edf")
    engine.scorpio.virtual_s += 1.0
    engine.add("b", 32, 3)
    engine.drain()
    engine.scheduler.shutdown()
    book = read_ledger(tmp_path)
    assert (len(book.entries), book.damaged) == (2, 0)
    first, then = book.facts
    assert (first.policy, then.policy) == ("fcfs", "edf")
    assert then.since_unix_s > first.since_unix_s
    assert (first.shadow, first.shadow_options) == ("scorpio", {"patience_s": 7.0})
    assert first.latency == PROFILE.to_dict()
    assert first.values == {"chat": 4.0}
    wanted: dict[str, Any] = {"max_num_seqs": 4, "max_num_batched_tokens": 512, "num_blocks": 99}
    wanted |= {"block_size": 16, "pipeline_depth": 2, "enable_prefix_caching": False}
    assert dict(first.limits) | wanted == first.limits


@pytest.mark.parametrize("size", [4, 6])
def test_each_file_begins_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(writer_module, "PERIOD_S", 3600.0)
    head, line = FACTS.to_line(), entry().to_line()
    writer = LedgerWriter(str(tmp_path), 0, 2 * size * len(line))
    writer.begin(head)
    for _ in range(3 * size):
        writer.put(lambda: line)
        writer.flush()
    names = [tmp_path / name for name in (channel.LEDGER, channel.LEDGER_OLD)]
    texts = [name.read_text() for name in names]
    assert all(text.startswith(head) and text.count(head) == 1 for text in texts)
    assert all(len(text) <= size * len(line) for text in texts)
    assert (writer.written, writer.dropped) == (3 * size, 0)
    other = LedgerWriter(str(tmp_path), 0, 2 * size * len(line))  # a restart
    names[0].write_text(names[0].read_text() + '{"id":"cut o')
    other.begin(head)
    other.put(lambda: line)
    other.flush()
    book = read_ledger(tmp_path)
    assert (book.damaged, set(map(Facts.to_line, book.facts))) == (1, {head})
    assert len(book.facts) == sum(name.read_text().count(head) for name in names) >= 2
    assert facts_of(head.encode()) == FACTS


def test_a_head_that_leaves_no_room_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "PERIOD_S", 3600.0)
    line = entry().to_line()
    writer = LedgerWriter(str(tmp_path), 0, 3 * len(line))
    writer.begin("x" * len(line) + "\n")
    writer.put(lambda: line)
    writer.flush()
    assert (tmp_path / channel.LEDGER).read_text() == line


@pytest.mark.parametrize(
    "change", [{"policy": 3}, {"limits": None}, {"latency": []}, {"since_unix_s": True}]
)
def test_a_line_that_is_wrong_is_a_damaged_one(tmp_path: Path, change: dict[str, Any]) -> None:
    raw = json.loads(FACTS.to_line())
    raw["engine_facts"] |= change
    write(tmp_path, entry())
    path = tmp_path / channel.LEDGER
    line = json.dumps(raw, separators=(",", ":"))
    assert is_facts(line.encode())
    path.write_text(line + "\n" + path.read_text())
    book = read_ledger(tmp_path)
    assert (book.damaged, book.facts, len(book.entries)) == (1, (), 1)


def test_a_ledger_of_before_reads_as_before(tmp_path: Path) -> None:
    old = json.loads(entry().to_line())
    del old["shadow"]
    (tmp_path / channel.LEDGER).write_text(json.dumps(old) + "\n")
    book = read_ledger(tmp_path)
    assert (book.entries, book.facts) == ((entry(),), ())


def test_alike_whenever_and_wherever() -> None:
    assert FACTS.alike(replace(FACTS, since_unix_s=7.0, engine=3))
    assert not FACTS.alike(replace(FACTS, policy="edf"))


def test_a_full_disk_costs_lines_and_not_what_they_are_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "PERIOD_S", 3600.0)
    place = tmp_path / "gone"
    writer = LedgerWriter(str(place), 0, 1 << 20)
    writer.begin("{}\n")
    writer.begin(FACTS.to_line())  # of two in a row the later one counts
    writer.put(entry().to_line)
    writer.flush()
    assert (writer.written, writer.dropped) == (0, 1)
    place.mkdir()
    writer.put(entry().to_line)
    writer.flush()
    assert (place / channel.LEDGER).read_text() == FACTS.to_line() + entry().to_line()
