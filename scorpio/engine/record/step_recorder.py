"""Which steps were executed? Lines of steps.jsonl, while `scorpio profile` asks for them."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TextIO

from scorpio import channel
from scorpio.core.snapshot import StepSample


class StepRecorder:
    """Appends to `run_dir`; the file is closed after an error, and opened again by the next line.

    Raises: OSError, which says nothing about later lines.
    """

    def __init__(self, run_dir: str | None, engine: int = 0) -> None:
        self._run_dir = run_dir
        self._name = channel.of_engine(channel.STEPS, engine)
        self._file: TextIO | None = None
        self._torn = False

    def record(self, sample: StepSample) -> None:
        """One executed step."""
        if self._run_dir is None:
            return
        row = json.dumps({name: getattr(sample, name) for name in StepSample.__slots__})
        try:
            if self._file is None:
                self._file = (Path(self._run_dir) / self._name).open("a", buffering=1)
            self._file.write(("\n" if self._torn else "") + row + "\n")
            self._torn = False
        except OSError:
            self._torn = True  # a part of the line may be there
            self.stop()
            raise

    def stop(self) -> None:
        """Close it; what cannot be written any more is given up."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()
