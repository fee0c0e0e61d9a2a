"""What is to be different? Of the traffic: its rate, its promises, a class more. Of the engine: its
GPU, its flags, its policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from scorpio.engine.virtual.spec import EngineSpec
from scorpio.twin.gpu.step_models import GpuModel
from scorpio.twin.modelled_engine import EngineOptions, checked
from workloads.added_class import AddedClass, with_class
from workloads.errors import WorkloadError
from workloads.request import WorkloadRequest
from workloads.slo_changes import SloChange, changed

_GPU_BLOCK = 16  # tokens to a block of `GpuModel.kv_blocks`


@dataclass(frozen=True, slots=True)
class Change:
    """Each as it is by default: no change.

    Raises:
        WorkloadError: nothing is to be different.
    """

    rate: float = 1.0
    tighten: tuple[SloChange, ...] = ()
    added: tuple[AddedClass, ...] = ()
    gpu: GpuModel | None = None
    policy: str | None = None
    engine_options: EngineOptions = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.told():
            raise WorkloadError(
                "what if what? Say what is to be different: --rate, --tighten, --add-class, --gpu,"
                " --policy or --engine-option"
            )

    def told(self) -> list[str]:
        """A phrase for each."""
        found = [] if self.rate == 1.0 else [f"{self.rate:g} times as many requests a second"]
        found += [f"{change} ms" for change in self.tighten]
        found += [f"also {added}" for added in self.added]
        if self.gpu is not None:
            found.append(f"GPU {self.gpu.name}")
        if self.policy is not None:
            found.append(f"policy {self.policy}")
        return found + [f"{name}={value}" for name, value in self.engine_options.items()]

    def engine(self, base: EngineSpec) -> EngineSpec:
        """Another GPU has its own KV pool. Raises WorkloadError: vLLM does not start so."""
        if self.gpu is not None:
            base = replace(base, num_blocks=self.gpu.kv_blocks * _GPU_BLOCK // base.block_size)
        flags: Mapping[str, Any] = self.engine_options
        return checked(replace(base, **flags))

    def requests(self, base: Sequence[WorkloadRequest]) -> list[WorkloadRequest]:
        """What would be sent; those that are there keep their index.

        Raises:
            WorkloadError: a class that is not there, is there already, or would have no request.
        """
        found = [replace(request, send_s=request.send_s / self.rate) for request in base]
        found = changed(found, self.tighten)
        for number, added in enumerate(self.added):
            found = with_class(found, added, number)
        return found
