"""Do all API processes of one server go by the same SLO file, whatever lies there meanwhile?"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from scorpio import channel
from scorpio.server.accounts import reload as reloading
from scorpio.server.accounts.reload import Reloader, follow, reload_file
from scorpio.server.shared import Shared
from scorpio.settings import SettingsError
from tests.server.keyed import ACME, Keyed, bearer, slo_file

ADMIN = bearer("sesame")
NEW = "[classes.new]\nttft_ms = 9000\n"
NEWER = "[classes.newer]\nttft_ms = 9000\n"


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORPIO_ADMIN_TOKEN", "sesame")


def two(tmp_path: Path) -> list[Keyed]:
    """Both have started."""
    both = [Keyed(tmp_path, slo_file(), api_process=(rank, 2)) for rank in range(2)]
    assert both[0].context.terms.digest == both[1].context.terms.digest
    return both


async def put(keyed: Keyed, query: str = "") -> int:
    return (await keyed.call("PUT", f"/scorpio/config{query}", headers=ADMIN)).status


async def told(both: list[Keyed]) -> Any:
    """What both say, when each has followed the other."""
    for keyed in both:
        await follow(keyed.context)
    shown = [(await k.call("GET", "/scorpio/status")).json() for k in both]
    assert shown[0]["slo_config"] == shown[1]["slo_config"]
    assert shown[0]["classes"] == shown[1]["classes"]
    return shown[0]


async def test_the_others_take_what_was_read_not_what_lies_there_now(tmp_path: Path) -> None:
    both = two(tmp_path)
    for later in (NEWER, NEW[:20], "[classes", None):
        both[0].file.write_text(NEW)
        assert await put(both[0]) == 200
        both[0].file.unlink() if later is None else both[0].file.write_text(later)
        shown = await told(both)
        assert (shown["classes"], shown["slo_config"]["error"]) == (["new"], "")


async def test_a_bad_file_changes_none_even_when_it_is_mended_at_once(tmp_path: Path) -> None:
    both = two(tmp_path)
    both[0].file.write_text("[classes")
    assert await put(both[0]) == 400
    both[0].file.write_text(NEW)
    shown = await told(both)
    assert shown["classes"] == ["batch", "interactive"]
    assert "not TOML" in shown["slo_config"]["error"]
    assert (await both[1].chat(ACME)).status == 200
    assert await put(both[1]) == 200  # the other one is asked
    shown = await told(both)
    assert (shown["classes"], shown["slo_config"]["error"]) == (["new"], "")


async def test_a_bad_file_hides_no_word_that_was_not_heard_yet(tmp_path: Path) -> None:
    both = two(tmp_path)
    both[0].file.write_text(NEW)
    assert await put(both[1]) == 200
    both[0].file.write_text("[classes")
    assert await put(both[0]) == 400
    assert "not TOML" in both[0].context.reload_error
    shown = await told(both)
    assert shown["classes"] == ["new"]
    assert "not TOML" in shown["slo_config"]["error"]


async def test_a_bad_file_that_was_only_tried_is_told_by_both(tmp_path: Path) -> None:
    both = two(tmp_path)
    both[0].file.write_text("[classes")
    assert await put(both[1], "?dry_run=true") == 400
    assert "not TOML" in (await told(both))["slo_config"]["error"]
    both[0].file.write_text(NEW)
    assert await put(both[1], "?dry_run=true") == 200
    assert (await told(both))["classes"] == ["batch", "interactive"]


async def test_of_two_that_are_asked_at_once_the_last_one_counts(tmp_path: Path) -> None:
    both = two(tmp_path)
    for keyed, text in zip(both, (NEW, NEWER), strict=True):
        both[0].file.write_text(text)
        word = await asyncio.to_thread(keyed.context.agreement.renew)
        assert word.error == ""
    assert (await told(both))["classes"] == ["newer"]
    assert await put(both[0]) == 200  # and it is no news to the one that said it
    assert (await told(both))["classes"] == ["newer"]
    loaded = [keyed.context.loaded_unix_s for keyed in both]
    await told(both)
    assert [keyed.context.loaded_unix_s for keyed in both] == loaded


async def test_reading_and_telling_are_one_act(tmp_path: Path) -> None:
    """Else the older of two texts could be told last."""
    both = two(tmp_path)
    began, may_go_on = threading.Event(), threading.Event()
    agreement = both[0].context.agreement
    source = agreement.source

    class Slow:
        engine = source.engine

        def read(self) -> Any:
            terms = source.read()
            began.set()
            assert may_go_on.wait(10)
            return terms

    agreement.source = Slow()
    both[0].file.write_text(NEW)
    slow = asyncio.create_task(asyncio.to_thread(agreement.renew))
    await asyncio.to_thread(began.wait, 10)
    both[0].file.write_text(NEWER)
    quick = asyncio.create_task(reload_file(both[1].context))
    await asyncio.sleep(0.1)
    assert not quick.done()
    may_go_on.set()
    word, _ = await slow, await quick
    assert both[1].context.word == word.number + 1
    agreement.source = source
    assert (await told(both))["classes"] == ["newer"]


async def test_one_that_starts_late_goes_by_what_the_others_go_by(tmp_path: Path) -> None:
    first = Keyed(tmp_path, slo_file(), api_process=(0, 2))
    assert first.context.word == 1
    first.file.write_text("[classes")
    assert await put(first) == 400
    second = Keyed(tmp_path, NEW, api_process=(1, 2))
    shown = await told([first, second])
    assert shown["classes"] == ["batch", "interactive"]
    assert "not TOML" in shown["slo_config"]["error"]


def test_the_word_of_a_server_that_was_here_before_is_none(tmp_path: Path) -> None:
    for at, text in (((0, 2), slo_file()), ((1, 2), slo_file())):
        assert Keyed(tmp_path, text, api_process=at).context.word == 1
    old = channel.read_reload(tmp_path / "run")
    assert old is not None
    assert old["server"] == Shared().server
    channel.write_reload(tmp_path / "run", old | {"server": "before", "text": NEWER})
    made = Keyed(tmp_path, NEW, api_process=(0, 2))
    assert (sorted(made.context.settings.classes), made.context.word) == (["new"], 1)


async def test_a_word_that_is_removed_or_written_over_takes_nothing_back(tmp_path: Path) -> None:
    both = two(tmp_path)
    both[0].file.write_text(NEW)
    assert await put(both[0]) == 200
    assert (await told(both))["classes"] == ["new"]
    word = both[0].run_dir / channel.RELOAD
    for by_another in (False, True):
        for text, code in (("[classes", 400), (NEWER, 200), (NEW, 200)):
            word.unlink()
            if by_another:
                foreign = {"server": "another", "number": 900, "text": "", "error": ""}
                channel.write_reload(both[0].run_dir, foreign)
            before = (await told(both))["classes"]
            both[0].file.write_text(text)
            assert await put(both[0]) == code
            after = (await told(both))["classes"]
            wanted = {NEW: ["new"], NEWER: ["newer"]}.get(text, before)
            assert (before, after) == (["new"] if text != NEW else ["newer"], wanted)


@pytest.mark.parametrize("wrong", [{"text": 5}, {"number": "9"}, {"number": True}, {"error": []}])
async def test_what_makes_no_sense_is_no_word(tmp_path: Path, wrong: dict[str, Any]) -> None:
    both = two(tmp_path)
    word = channel.read_reload(both[0].run_dir)
    assert word is not None
    channel.write_reload(both[0].run_dir, word | {"number": 9, "text": NEWER} | wrong)
    assert (await told(both))["classes"] == ["batch", "interactive"]
    (both[0].run_dir / channel.RELOAD).write_text("[" * 100_000)
    assert (await told(both))["classes"] == ["batch", "interactive"]
    both[0].file.write_text(NEW)
    assert await put(both[0]) == 200
    assert (await told(both))["classes"] == ["new"]


async def test_what_the_others_cannot_be_told_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    both = two(tmp_path)
    monkeypatch.setattr(channel, "write_reload", full)
    both[0].file.write_text(NEW)
    reply = await both[0].call("PUT", "/scorpio/config", headers=ADMIN)
    said = reply.json()["error"]["message"]
    assert (reply.status, "No space left on device" in said) == (400, True)
    assert sorted(both[0].context.settings.classes) == ["batch", "interactive"]
    assert "No space left" in both[0].context.reload_error
    both[0].file.write_text("[classes")
    with pytest.raises(SettingsError, match="not TOML"):
        await reload_file(both[0].context)


async def test_without_a_run_dir_the_others_cannot_be_told(tmp_path: Path) -> None:
    made = Keyed(tmp_path, slo_file(), api_process=(0, 2), config={"run_dir": None})
    assert made.context.agreement.several
    made.file.write_text(NEW)
    reply = await made.call("PUT", "/scorpio/config", headers=ADMIN)
    assert (reply.status, "no run_dir" in reply.json()["error"]["message"]) == (400, True)
    assert sorted(made.context.settings.classes) == ["batch", "interactive"]


async def test_they_follow_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloading, "PERIOD_S", 0.01)
    both = two(tmp_path)
    tasks = [asyncio.create_task(Reloader(keyed.context).run()) for keyed in both]
    try:
        for text, code, classes in (
            (NEW, 200, ["new"]),
            ("[classes", 400, ["new"]),
            (NEWER, 200, ["newer"]),
        ):
            both[0].file.write_text(text)
            assert await put(both[0]) == code
            loaded = both[0].context.loaded_unix_s
            number = (channel.read_reload(both[0].run_dir) or {})["number"]
            async with asyncio.timeout(10):
                while [keyed.context.word for keyed in both] != [number] * 2:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            shown = [(await k.call("GET", "/scorpio/status")).json() for k in both]
            assert shown[0]["slo_config"] == shown[1]["slo_config"]
            assert [one["classes"] for one in shown] == [classes] * 2
            assert bool(shown[1]["slo_config"]["error"]) == (code != 200)
            assert both[0].context.loaded_unix_s == loaded  # none tells another again
    finally:
        for task in tasks:
            task.cancel()


def test_the_word_is_for_our_user_alone(tmp_path: Path) -> None:
    """It holds the digests of keys."""
    two(tmp_path)
    assert (tmp_path / "run" / channel.RELOAD).stat().st_mode & 0o077 == 0


async def test_one_process_tells_none(tmp_path: Path) -> None:
    alone = Keyed(tmp_path, slo_file())
    assert await put(alone) == 200
    assert not (alone.run_dir / channel.RELOAD).exists()
