"""Is a recorded step there at once, and does a full disk cost no more than its own lines?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scorpio import channel
from scorpio.core.snapshot import StepSample
from scorpio.engine.record.step_recorder import StepRecorder

SAMPLE = StepSample(64, 4096.0, 0.0, 4, 400, 0.05)


class FullDisk:
    """Takes a part of a line, if at all."""

    def write(self, text: str = "") -> None:
        raise OSError(28, "no space left on device")

    close = write


def lines(run_dir: Path) -> list[str]:
    return (run_dir / channel.STEPS).read_text().splitlines()


def test_a_line_is_there_at_once(tmp_path: Path) -> None:
    recorder = StepRecorder(str(tmp_path))
    for count in (1, 2):
        recorder.record(SAMPLE)
        assert len(lines(tmp_path)) == count
    row = json.loads(lines(tmp_path)[0])
    assert row == {name: getattr(SAMPLE, name) for name in StepSample.__slots__}
    recorder.stop()
    recorder.stop()
    recorder.record(SAMPLE)
    assert len(lines(tmp_path)) == 3
    recorder.stop()


def test_after_a_torn_line_a_new_one_begins(tmp_path: Path) -> None:
    recorder: Any = StepRecorder(str(tmp_path))
    recorder.record(SAMPLE)
    file, recorder._file = recorder._file, FullDisk()
    file.write('{"half of a')
    file.close()
    with pytest.raises(OSError, match="no space"):
        recorder.record(SAMPLE)
    for _ in range(2):
        recorder.record(SAMPLE)
    recorder.stop()
    first, torn, *rest = lines(tmp_path)
    assert torn == '{"half of a'
    assert rest == [first, first]


def test_nothing_is_recorded_without_a_folder() -> None:
    StepRecorder(None).record(SAMPLE)
