"""Is a request found by any name its client knows, and is no word of a client in its id?"""

from __future__ import annotations

from pathlib import Path

import pytest

from scorpio.channel import LEDGER_SALT
from scorpio.ledger.files import LedgerError, read_ledger
from scorpio.ledger.find import find
from scorpio.ledger.ids import hashed, ledger_id
from tests.ledger.made import entry, write

SALT, OTHER = bytes(32), bytes(31) + b"1"


@pytest.mark.parametrize(
    "drawn",
    [
        "chatcmpl-9d41c0f2a1b2c3d4e5f60718293a4b5c-5b1e07aa",
        "cmpl-9d41c0f2-0-5b1e07aa",
        "1_cmpl-6f1c2d3e-0a1b-4c2d-8e3f-0123456789ab-2-5b1e07aa",
        "resp_9d41c0f2a1b2c3d4",
        "resp_9d41c0f2a1b2c3d4_0-5b1e07aa",
        "",
    ],
)
def test_what_vllm_or_a_gateway_draws_is_kept(drawn: str) -> None:
    assert ledger_id(drawn, SALT) == drawn


@pytest.mark.parametrize(
    "name", ["a b", '{"prompt": "secret"}', "sk-key", "secret\n-7", "\ud800", "é"]
)
@pytest.mark.parametrize(
    "shape",
    ["{}", "chatcmpl-{}-5b1e07aa", "cmpl-{}-3-5b1e07aa", "2_cmpl-{}-0", "resp_{}_1-5b1e07aa"],
)
def test_a_name_that_a_client_chose_is_hashed(shape: str, name: str) -> None:
    told = ledger_id(shape.format(name), SALT)
    assert told == shape.format("~" + hashed(name, SALT))
    assert told != ledger_id(shape.format(name), OTHER)
    assert name not in told


@pytest.mark.parametrize(
    "typed",
    ["order 7", "cmpl-order 7", "cmpl-order 7-1", "cmpl-order 7-1-0a1b2c3d", "order 7-1-0a1b2c3d"],
)
def test_it_is_found_by_every_name_of_it(tmp_path: Path, typed: str) -> None:
    (tmp_path / LEDGER_SALT).write_text(SALT.hex())
    mine, other = "cmpl-order 7-1-0a1b2c3d", "cmpl-order 71-1-0a1b2c3d"
    path = write(tmp_path, *(entry(id=ledger_id(name, SALT)) for name in (mine, other)))
    for place in (tmp_path, path):
        assert [found.id for found in find(read_ledger(place), typed)] == [ledger_id(mine, SALT)]


def test_the_answer_of_a_turn_is_found(tmp_path: Path) -> None:
    write(tmp_path, entry(id="resp_9d41c0f2a1b2c3d4_0-0a1b2c3d"))
    assert find(read_ledger(tmp_path), "resp_9d41c0f2a1b2c3d4")


def test_a_name_with_a_number_behind_it(tmp_path: Path) -> None:
    (tmp_path / LEDGER_SALT).write_text(SALT.hex())
    write(tmp_path, entry(id=ledger_id("chatcmpl-run-7-0a1b2c3d", SALT)))
    assert find(read_ledger(tmp_path), "run-7")
    with pytest.raises(LedgerError, match="no request 'run'"):
        find(read_ledger(tmp_path), "run")


def test_without_the_salt_it_is_not_found(tmp_path: Path) -> None:
    write(tmp_path, entry(id=ledger_id("chatcmpl-mine-0a1b2c3d", SALT)))
    with pytest.raises(LedgerError, match="no request 'mine'"):
        find(read_ledger(tmp_path), "mine")
