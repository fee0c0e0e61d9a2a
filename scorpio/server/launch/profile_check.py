"""Does the latency profile belong to what is about to be served? Said before the engine starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from predictors.latency.artifact import ProfileFile, read_profile, this_machine
from predictors.latency.belongs import Mismatch, compare_facts
from scorpio.server.launch.mistakes import ServeError
from scorpio.server.vllm_api import engine_facts_of_args
from scorpio.versions import installed_vllm

Say = Callable[[str], None]
PROFILE_SETTINGS = ("latency", "latency_facts")
REFUSE, WARN = "refuse", "warn"


@dataclass(frozen=True, slots=True)
class ChosenProfile:
    """A latency profile and where it is from; given: the user named it."""

    path: Path
    file: ProfileFile
    given: bool

    @classmethod
    def read(cls, path: Path, given: bool) -> ChosenProfile:
        """Raises ProfileFileError."""
        return cls(path, read_profile(path), given)

    def settings(self) -> dict[str, Any]:
        """PROFILE_SETTINGS, as `ScorpioSettings` has them."""
        found: object = self.file.fit
        for name in ("mixed_form", "all", "mape"):
            found = found.get(name) if isinstance(found, Mapping) else None
        error = found if isinstance(found, float) else None
        return {
            "latency": self.file.profile.to_dict(),
            "latency_facts": {
                "created": self.file.created,
                "model": self.file.model,
                "machine": self.file.machine.cpu,
                **({} if error is None else {"step_error": f"{error:.1%}"}),
            },
        }

    def fits(self, args: Any, on_mismatch: str, say: Say) -> bool:
        """False when it must not be used: a cached one of another model. Says what differs.

        Raises:
            ServeError: the user's own is of another model, and `on_mismatch` is not "warn".
        """
        found = compare_facts(
            self.file, engine_facts_of_args(args), this_machine(), _vllm_version()
        )
        lines = warnings(self.path, self.file, found)
        if found.model and on_mismatch != WARN:
            if self.given:
                raise ServeError(
                    f"{lines[0]}: run `scorpio profile` for this one, "
                    "or add --profile-mismatch warn"
                )
            lines = [f"{lines[0]}: not used"]
        for line in lines:
            say(line)
        return not found.model or on_mismatch == WARN


def warnings(path: Path, measured: ProfileFile, found: Mismatch) -> list[str]:
    """A line for each kind of difference."""
    lines = []
    if found.unknown:
        lines.append(
            f"{path}: does not say which model it was measured on (made for {measured.model!r}): "
            "not checked; `scorpio profile` writes one that does"
        )
    for what, differences in (("model", found.model), ("engine", found.other)):
        if differences:
            lines.append(f"{path}: measured on another {what}: {'; '.join(differences)}")
    return lines


def _vllm_version() -> str:
    found = installed_vllm()
    return found[1].partition("+")[0] if found else "unknown"
