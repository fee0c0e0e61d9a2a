"""Is this profile of the engine that is about to run? Facts recorded with it, against facts now.

Another model's speed is a wrong belief that refuses what could be served, so that is an error.
Another machine, version or limit may be near enough: each is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from predictors.latency.artifact import Machine, ProfileFile

# Keys of `ProfileFile.engine`: what the model is, and how it is run.
MODEL_FACTS = (
    "architecture",
    "layers",
    "hidden_size",
    "intermediate_size",
    "attention_heads",
    "vocab_size",
    "dtype",
    "quantization",
)
ENGINE_FACTS = (
    "max_num_seqs",
    "max_num_batched_tokens",
    "tensor_parallel_size",
    "enforce_eager",
    "kv_cache_dtype",
    "drafts",
)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One line each, "what: in the profile, here". unknown: the profile does not say its model."""

    model: tuple[str, ...]
    other: tuple[str, ...]
    unknown: bool


def compare_facts(
    measured: ProfileFile, engine: Mapping[str, object], machine: Machine, vllm: str
) -> Mismatch:
    """What differs between the profile's facts and those of the engine that is to run.

    Facts that either side does not know are not compared.
    """
    known = [name for name in MODEL_FACTS if name in measured.engine and name in engine]
    model = _differences(known, measured.engine, engine)
    limits = [name for name in ENGINE_FACTS if name in measured.engine and name in engine]
    there: dict[str, object] = {"vllm": measured.vllm, "cpu": measured.machine.cpu}
    here: dict[str, object] = {"vllm": vllm, "cpu": machine.cpu}
    there |= {"cores": measured.machine.cores, "gpus": _listed(measured.machine)}
    here |= {"cores": machine.cores, "gpus": _listed(machine)}
    other = _differences(list(here), there, here) + _differences(limits, measured.engine, engine)
    return Mismatch(model, other, unknown=not known)


def _listed(machine: Machine) -> str:
    return ", ".join(machine.accelerators) or "none"


def _differences(
    names: list[str], there: Mapping[str, object], here: Mapping[str, object]
) -> tuple[str, ...]:
    return tuple(
        f"{name}: {there[name]}, here {here[name]}" for name in names if there[name] != here[name]
    )
