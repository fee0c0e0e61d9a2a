"""What did a new vLLM change in the parts that Scorpio stands on? `compare_vllm.py 0.32 0.33`

A version is one that `vllm_tree.py` can fetch, or a directory that holds `vllm/`. Printed are the
changes of every method, attribute and function that scorpio/engine/seams.py and
scorpio/server/vllm_api.py name, of the routes, and of the modules that they are in.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCHEDULER = "v1/core/sched/scheduler.py"
# Where a seam can be defined. Of names that several define, all are compared.
MODULES = (
    SCHEDULER,
    "v1/core/sched/async_scheduler.py",
    "v1/core/sched/interface.py",
    "v1/core/sched/output.py",
    "v1/core/sched/request_queue.py",
    "v1/core/kv_cache_manager.py",
    "v1/core/kv_cache_coordinator.py",
    "v1/core/block_pool.py",
    "v1/request.py",
    "v1/engine/__init__.py",
    "v1/engine/core.py",
    "v1/structured_output/__init__.py",
    "v1/metrics/prometheus.py",
    "entrypoints/serve/middleware/authenticate.py",
    "entrypoints/serve/middleware/register.py",
    "entrypoints/launchers/api_server/entry.py",
    "entrypoints/launchers/launcher.py",
    "entrypoints/launchers/cli_args.py",
    "entrypoints/common/cli_args.py",
    "entrypoints/serve/utils/api_utils.py",
    "entrypoints/common/startup.py",
)
OURS = ("scorpio/engine/seams.py", "scorpio/server/vllm_api.py")
ROUTE = re.compile(r'@router\.(?:post|get|api_route|websocket)\(\s*"(/[^"]*)"')


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old")
    parser.add_argument("new")
    args = parser.parse_args()
    old, new = _tree(args.old), _tree(args.new)
    seams = _names_we_use()
    changed = 0
    for module in MODULES:
        for line in _compare(old / module, new / module, seams):
            changed += line.startswith("##")
            print(line)
    for sign, routes in (("-", _routes(old) - _routes(new)), ("+", _routes(new) - _routes(old))):
        for route in sorted(routes):
            changed += 1
            print(f"## route {sign}{route}")
    print(f"{changed} changed, of {len(seams)} names in {', '.join(OURS)}")
    return 0


def _tree(version: str) -> Path:
    if Path(version, "vllm").is_dir():
        return Path(version, "vllm")
    fetch = [sys.executable, str(ROOT / "deploy/dev/vllm_tree.py"), version]
    return Path(
        subprocess.run(fetch, check=True, stdout=subprocess.PIPE, text=True).stdout.strip(), "vllm"
    )


def _names_we_use() -> set[str]:
    """Every text and every imported name in our lists of seams; paths by their last part."""
    found: set[str] = set()
    for file in OURS:
        for node in ast.walk(ast.parse((ROOT / file).read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value.rpartition(".")[2])
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vllm"):
                found.update(alias.name for alias in node.names)
    return {name for name in found if name.isidentifier() and len(name) > 3}


def _compare(old: Path, new: Path, names: set[str]) -> Iterator[str]:
    if not new.exists() or not old.exists():
        if old.exists() != new.exists():
            yield f"## {old.name}: {'is gone' if old.exists() else 'is new'}"
        return
    before, after = _defined(old, names), _defined(new, names)
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name, ""), after.get(name, "")
        if was != now:
            yield f"## {old.parent.name}/{old.name}: {name}" + ("" if now else " IS GONE")
            yield from difflib.unified_diff(was.splitlines(), now.splitlines(), lineterm="", n=2)


def _defined(file: Path, names: set[str]) -> dict[str, str]:
    """Source of each method, function or attribute with one of these names, without its comments
    and layout: what it does is compared."""
    found: dict[str, str] = {}
    tree = ast.parse(file.read_text())
    for scope in (tree, *(n for n in ast.walk(tree) if isinstance(n, ast.ClassDef))):
        prefix = "" if scope is tree else f"{scope.name}."  # type: ignore[attr-defined]
        for node in scope.body:  # type: ignore[attr-defined]
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                if node.name in names:
                    found[prefix + node.name] = ast.unparse(node)
                if node.name == "__init__":
                    found |= _attributes(node, names, prefix)
            elif (
                isinstance(node, ast.AnnAssign)
                and isinstance(node.target, ast.Name)
                and node.target.id in names
            ):
                found[prefix + node.target.id] = ast.unparse(node)
    return found


def _attributes(init: ast.AST, names: set[str], prefix: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for node in ast.walk(init):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            if isinstance(target, ast.Attribute) and target.attr in names:
                found[prefix + target.attr] = ast.unparse(node)
    return found


def _routes(tree: Path) -> set[str]:
    files = (tree / "entrypoints").rglob("*.py")
    return {route for file in files for route in ROUTE.findall(file.read_text())}


if __name__ == "__main__":
    sys.exit(main())
