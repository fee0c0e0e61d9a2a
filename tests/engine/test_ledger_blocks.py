"""Do equal beginnings have equal names in the ledger, and say they nothing else?"""

from __future__ import annotations

from pathlib import Path

import pytest

from scorpio import channel
from scorpio.engine.ledger.blocks import MOST_BLOCKS, picked, salted
from scorpio.engine.ledger.salt import ledger_salt
from scorpio.engine.virtual.build import EngineSpec
from scorpio.engine.virtual.requests import RequestFactory
from scorpio.ledger.ids import hashed
from workloads.traces.row import block_count

SALT, OTHER = b"s" * 32, b"t" * 32


def blocks(
    tokens: int, ids: tuple[int, ...], salt: bytes = SALT, size: int = 16
) -> tuple[int, ...]:
    """Of a prompt that begins with these, 128 tokens each, and goes on as no other does."""
    spec = EngineSpec(block_size=size, enable_prefix_caching=True)
    request = _factory(spec).make("a", 0.0, tokens, 1, {}, prefix_ids=ids, prefix_block_tokens=128)
    return salted(picked(request.block_hashes, tokens, size), salt)


_FACTORIES: dict[int, RequestFactory] = {}


def _factory(spec: EngineSpec) -> RequestFactory:
    return _FACTORIES.setdefault(spec.block_size, RequestFactory(spec))


def test_what_is_shared_has_one_name() -> None:
    one, two = blocks(1500, tuple(range(8))), blocks(1100, tuple(range(8)))
    assert (len(one), len(two)) == (3, 3)
    assert one[:2] == two[:2]
    assert one[2] != two[2]
    assert len({*one, *two}) == 4
    assert blocks(1500, (9, *range(1, 8)))[1] != one[1]  # another beginning, another name


@pytest.mark.parametrize("tokens", [1, 15, 16, 500, 511, 512, 513, 527, 528, 1024, 1500])
@pytest.mark.parametrize("size", [16, 32, 128, 512])
def test_no_more_names_than_a_trace_takes(tokens: int, size: int) -> None:
    names = blocks(tokens, (), size=size)
    assert len(names) in (tokens // 512, block_count(tokens))
    assert all(0 <= name < 2**52 for name in names)


def test_equal_short_prompts_share_and_longer_ones_do_not() -> None:
    ids = (1, 2)
    assert blocks(256, ids) == blocks(256, ids)
    assert set(blocks(256, ids)).isdisjoint(blocks(240, ids))


def test_another_salt_another_name() -> None:
    ids = tuple(range(8))
    assert set(blocks(1024, ids)).isdisjoint(blocks(1024, ids, OTHER))
    assert hashed("acme", SALT) == hashed("acme", SALT)
    assert hashed("acme", SALT) not in (hashed("acme", OTHER), hashed("bcme", SALT))
    assert hashed("", SALT) == ""
    assert hashed("\ud800", SALT)


@pytest.mark.parametrize("size", [48, 96, 1056])
def test_odd_block_sizes_name_what_is_surely_shared(size: int) -> None:
    hashes = [bytes([number]) for number in range(4000 // size)]
    found = picked(hashes, 4000, size)
    for tokens, name in found[:-1]:
        assert (name[0] + 1) * size >= tokens


def test_a_long_prompt_names_its_beginning() -> None:
    hashes = [number.to_bytes(4) for number in range(20_000)]
    found = picked(hashes, 320_000, 16)
    assert len(found) == MOST_BLOCKS
    assert found[-1] == (MOST_BLOCKS * 512, (MOST_BLOCKS * 32 - 1).to_bytes(4))


def test_without_prefix_caching_there_are_none() -> None:
    assert picked([], 5000, 16) == ()


def test_the_salt_outlives_a_restart_and_is_another_elsewhere(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    salt = ledger_salt(str(here))
    assert ledger_salt(str(here)) == salt
    assert ledger_salt(str(there)) != salt
    file = here / channel.LEDGER_SALT
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("not a salt")
    assert len(ledger_salt(str(here))) == 32
    assert ledger_salt(str(tmp_path / "gone")) != ledger_salt(str(tmp_path / "gone"))
    assert [f.name for f in here.iterdir()] == [channel.LEDGER_SALT]  # no temporary is left
