"""`scorpio serve`: how does one command become vLLM's own server with our scheduler in it?"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from predictors.latency.artifact import (
    ProfileFileError,
    cached_profile_path,
    this_machine,
)
from predictors.length.artifact import LengthArtifactError
from predictors.length.shipped import SHIPPED, open_model
from scorpio import channel
from scorpio.models import resolve_model
from scorpio.models.cache import cache_dir
from scorpio.server.accounts.slo_config import ONLY_FLEETS, read_slo_config
from scorpio.server.launch.auto_profile import AUTO, OFF, auto_profile
from scorpio.server.launch.follow import follow_parent
from scorpio.server.launch.mistakes import ServeError, check_early
from scorpio.server.launch.profile_check import PROFILE_SETTINGS, REFUSE, ChosenProfile
from scorpio.server.launch.serve_args import (
    api_processes,
    build_args,
    default_env,
    describe_defaults,
    is_cpu_build,
)
from scorpio.server.launch.several import run_several
from scorpio.server.launch.starting import ending_at_once
from scorpio.server.vllm_api import run_openai_server
from scorpio.settings import CONFIG_KEY, SettingsError

Say = Callable[[str], None]
NO_LENGTH_MODEL = "none"
_PREFIX = "scorpio-run-"


def serve(
    model: str,
    vllm_args: Sequence[str] = (),
    *,
    slo_config: Path | None = None,
    latency: Path | None = None,
    length_model: str | None = None,
    run_dir: Path | None = None,
    profile_mismatch: str = REFUSE,
    profile: str = OFF,
    say: Say | None = None,
    **settings: Any,
) -> None:
    """Serve `model` until SIGINT or SIGTERM; everything runs in this process and its children.

    The caller's main module must be guarded by `if __name__ == "__main__"`: vLLM spawns.
    model: "smollm2", "tiny", a directory, or a Hugging Face id; also the served model name.
    vllm_args: any arguments of vLLM's server, passed on as they are.
    slo_config: TOML file, see scorpio/server/accounts/slo_config.py.
    latency: a file of `scorpio profile`; None = this machine's cached one, if any.
    length_model: a directory of `scorpio train-length`, a name of `shipped.SHIPPED`, or "none";
        None = the one that was trained for this model, if any.
    profile_mismatch: "refuse" or "warn", when the latency profile is of another model.
    profile: "auto" = an engine of which there is none is measured beside its requests; "off".
    run_dir: of the control and status files; None = a fresh directory, removed at the end.
    settings: other ones of `ScorpioSettings`; None = as they are there.

    Raises:
        ServeError: it cannot be started as asked (one line, nothing was started).
        ModelUnavailable: the embedded model could not be prepared.
        SystemExit: vLLM's parser refused an argument.
    """
    check_early(model, vllm_args)
    tell: Say = say or (lambda line: print(f"scorpio: {line}", file=sys.stderr))
    leftovers: list[Path] = []
    with ending_at_once(leftovers), _run_dir(run_dir, leftovers) as directory:
        follow_parent()
        cpu = is_cpu_build()
        try:
            scorpio, model_path = _told_engine(slo_config, tell), str(resolve_model(model))
            scorpio |= {name: value for name, value in settings.items() if value not in (None, {})}
            scorpio |= _length(length_model, model, tell)
            measured = _profile(latency, model, model_path, tell)
            scorpio |= {} if measured is None else measured.settings()
        except (SettingsError, ProfileFileError, LengthArtifactError) as error:
            raise ServeError(str(error)) from None
        # Before vLLM is imported: huggingface_hub reads its variables once.
        env = default_env(model_path, cpu, os.environ)
        scorpio["run_dir"] = _told(directory, tell) if run_dir is None else str(directory)
        args = build_args(model, model_path, vllm_args, scorpio, cpu)
        if measured is not None and not measured.fits(args, profile_mismatch, tell):
            measured = None
            for name in PROFILE_SETTINGS:
                del args.additional_config[CONFIG_KEY][name]
        if measured is None and profile == AUTO:
            _measure(args, directory if run_dir is None else run_dir, model, tell)
        _tell_defaults(describe_defaults(args, env, cpu), tell)
        _run(args, directory, reloads=slo_config is not None)


def _run(args: Any, run_dir: Path, reloads: bool) -> None:
    if api_processes(args) == 1:
        run_openai_server(args)
    else:
        run_several(args, run_dir, reloads)


def _measure(args: Any, run_dir: Path, model: str, tell: Say) -> None:
    out = cached_profile_path(cache_dir(), model, this_machine())
    found = auto_profile(args, run_dir, model, out, tell)
    if isinstance(found, str):
        tell(f"--profile auto: {found}")
    else:
        found.start()


def _tell_defaults(chosen: str, tell: Say) -> None:
    if chosen:
        tell(f"defaults for this machine: {chosen}")


def _told_engine(path: Path | None, tell: Say) -> dict[str, Any]:
    """Of the SLO file: all but its tenants, whose keys no other process and no log needs."""
    if path is None:
        return {}
    table = read_slo_config(path)
    if falling := [name for name, entry in table.get("classes", {}).items() if "fallback" in entry]:
        tell(f"fallback of {', '.join(falling)}: {ONLY_FLEETS}")
    shown = {name: value for name, value in table.items() if name != "tenants"}
    return {**shown, "slo_config": str(path.resolve())}


def _profile(given: Path | None, model: str, model_path: str, tell: Say) -> ChosenProfile | None:
    path = given or _cached(model, model_path, tell)
    return None if path is None else ChosenProfile.read(path, given=path == given)


def _cached(model: str, model_path: str, tell: Say) -> Path | None:
    """This machine's own profile of the model. Without one nothing is predicted, so nothing is
    refused by prediction: a guess about an unknown machine would refuse what it can do."""
    machine = this_machine()
    for name in dict.fromkeys((model, model_path)):
        cached = cached_profile_path(cache_dir(), name, machine)
        if cached.exists():
            tell(f"latency profile: {cached}")
            return cached
    tell("no latency profile of this machine: run `scorpio profile`; until then no step is timed")
    return None


def _length(name: str | None, model: str, tell: Say) -> dict[str, Any]:
    """The trained length predictor. Without one, lengths are learned from traffic alone."""
    if name is None and model in SHIPPED:
        name = model
    if name in (None, NO_LENGTH_MODEL):
        return {}
    digest = open_model(name).digest
    tell(f"length predictor: {name} ({digest[:12]})")
    return {"length_model": name if name in SHIPPED else str(Path(name).resolve())}


@contextmanager
def _run_dir(wanted: Path | None, leftovers: list[Path]) -> Iterator[Path]:
    """A directory for the control and status files; ours is removed, the user's is kept."""
    if wanted is not None:
        try:
            wanted.mkdir(parents=True, exist_ok=True)
            channel.forget(wanted)
            with tempfile.TemporaryFile(dir=wanted):
                pass
        except OSError as error:
            raise ServeError(f"--run-dir {wanted}: {error.strerror or error}") from None
        yield wanted
        return
    _remove_orphans()
    fresh = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    leftovers.append(fresh)
    try:
        yield fresh
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _told(fresh: Path, tell: Say) -> str:
    """Where the ledger is, as long as it is there."""
    tell(f"run dir: {fresh} (removed at the end; --run-dir DIR keeps its ledger)")
    return str(fresh)


def _remove_orphans() -> None:
    """Directories of servers that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            shutil.rmtree(folder, ignore_errors=True)
