"""Is all that a run_dir holds read, once and in order, and is it told when there is nothing?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scorpio.ledger.files import LedgerError, read_ledger
from scorpio.ledger.find import body_of, find, names_of
from scorpio.ledger.ids import ledger_id
from tests.ledger.made import entry, write


def test_both_files_of_all_engines_in_order_of_arrival(tmp_path: Path) -> None:
    names = ["ledger.jsonl", "ledger.old.jsonl", "ledger-1.jsonl", "ledger-1.old.jsonl"]
    for name, seconds in zip(names, (3.0, 1.0, 4.0, 2.0), strict=True):
        write(tmp_path, entry(id=name, arrived_unix_s=1_800_000_000.0 + seconds), name=name)
    write(tmp_path, entry(id="stranger"), name="steps.jsonl")
    book = read_ledger(tmp_path)
    assert [e.id for e in book.entries] == [names[1], names[3], names[0], names[2]]
    assert book.span == "2027-01-15 08:00:01 UTC to 2027-01-15 08:00:04 UTC"
    only = read_ledger(tmp_path / "ledger-1.jsonl")
    assert [e.id for e in only.entries] == ["ledger-1.jsonl"]


def fleet_dir(run_dir: Path) -> Path:
    """Two replicas, each with ids that it has hashed by itself; and what is no replica."""
    for number, name in enumerate("ab"):
        (run_dir / name).mkdir()
        salt = bytes([number]) * 16
        (run_dir / name / "ledger.salt").write_text(salt.hex())
        mine = ledger_id("cmpl-mine-0-0a1b2c3d", salt)
        write(run_dir / name, entry(id=f"cmpl-{name}", arrived_unix_s=1_800_000_000.0 - number))
        write(run_dir / name, entry(id=mine, arrived_unix_s=1_800_000_009.0), name="ledger-1.jsonl")
    (run_dir / "logs").mkdir()
    (run_dir / "note").write_text("x")
    return run_dir


def test_a_fleets_folder_is_the_ledger_of_all_its_replicas(tmp_path: Path) -> None:
    book = read_ledger(fleet_dir(tmp_path))
    assert book.replicas == ("a", "b")
    assert [e.id for e in book.entries][:2] == ["cmpl-b", "cmpl-a"]
    assert [book.replica_of(e) for e in book.entries][:2] == ["b", "a"]
    # A name of its client is another hash at each replica: tried at one and served by the other.
    assert {book.replica_of(e) for e in find(book, "cmpl-mine")} == {"a", "b"}
    one = read_ledger(tmp_path / "a")
    assert (one.replicas, [one.replica_of(e) for e in one.entries]) == ((), ["", ""])


def test_a_file_that_is_put_aside_meanwhile_counts_once(tmp_path: Path) -> None:
    write(tmp_path, entry())
    (tmp_path / "ledger.old.jsonl").hardlink_to(tmp_path / "ledger.jsonl")
    assert len(read_ledger(tmp_path).entries) == 1


def test_torn_lines_cost_themselves_alone(tmp_path: Path) -> None:
    path = write(tmp_path, entry(id="a"), entry(id="b"))
    path.write_bytes(
        path.read_bytes() + b'{"id":"half\n\n\xff\xfe\n' + entry(id="c").to_line().encode()
    )
    book = read_ledger(tmp_path)
    assert [e.id for e in book.entries] == ["a", "b", "c"]
    assert book.damaged == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no ledger (ledger.jsonl): name the --run-dir of a server"),
        ("", "it is empty yet; a request is written when it ends"),
        ("{}\n", "ledger.jsonl:1: id: missing or of another kind"),
        ("[" * 100_000 + "\n", "no line of it is a request's"),
    ],
)
def test_nothing_to_read(tmp_path: Path, content: str | None, reason: str) -> None:
    if content is not None:
        (tmp_path / "ledger.jsonl").write_text(content)
    with pytest.raises(LedgerError, match=re.escape(reason)):
        read_ledger(tmp_path)


def test_any_name_that_a_client_may_know() -> None:
    plain = "cmpl-9f2e-0-0a1b2c3d"
    assert body_of(plain) == "cmpl-9f2e"
    assert names_of(plain) >= {plain, "cmpl-9f2e-0", "cmpl-9f2e", "9f2e"}
    assert body_of("1_chatcmpl-mine-0a1b2c3d") == "chatcmpl-mine"
    assert names_of("1_chatcmpl-mine-0a1b2c3d") >= {"chatcmpl-mine", "mine"}
    assert body_of("chatcmpl-run-7-0a1b2c3d") == "chatcmpl-run-7"  # a number of the client's own


def test_a_request_is_found_by_its_beginning(tmp_path: Path) -> None:
    ids = ["chatcmpl-aa11-00000001", "chatcmpl-ab22-00000002", "cmpl-cc-0-00000003"]
    ids += ["cmpl-cc-1-00000004", "0_chatcmpl-dd-00000005", "1_chatcmpl-dd-00000005"]
    write(tmp_path, *[entry(id=name) for name in ids])
    book = read_ledger(tmp_path)

    def found(wanted: str) -> list[str]:
        return [e.id for e in find(book, wanted)]

    assert found("chatcmpl-aa11") == found("aa11") == found("aa") == found(ids[0]) == ids[:1]
    assert found("cmpl-cc") == found("cc") == ids[2:4]  # two prompts of one body
    assert found("cmpl-cc-1") == ids[3:4]
    assert sorted(found("dd")) == ids[4:]
    with pytest.raises(LedgerError, match=r"begins several ids: chatcmpl-aa11, chatcmpl-ab22$"):
        find(book, "a")
    with pytest.raises(LedgerError, match="it holds 6 requests, 2027-01-15"):
        find(book, "zz")
    with pytest.raises(LedgerError, match="at least one character"):
        find(book, "")


def test_an_exact_id_is_no_beginning_of_another(tmp_path: Path) -> None:
    write(tmp_path, entry(id="chatcmpl-a-00000001"), entry(id="chatcmpl-ab-00000002"))
    assert [e.id for e in find(read_ledger(tmp_path), "a")] == ["chatcmpl-a-00000001"]
