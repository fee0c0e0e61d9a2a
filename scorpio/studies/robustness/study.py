"""What breaks Scorpio, and how badly?

Wrong lengths, wrong latencies, bursts, floods, mad tenants, hostile SLOs, a GPU that slows down:
each beside `fcfs` and `qoserve` on the same requests, where those can be touched by it. `scenes.py`
holds the parts, `loads.py` the loads.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

from scorpio.studies.ablation.parts import PARTS as SWITCHED_OFF
from scorpio.studies.ablation.parts import Part, replaced
from scorpio.studies.questions import QUESTIONS
from scorpio.studies.robustness.loads import ATTACKER, LOADS
from scorpio.studies.robustness.scenes import PARTS, Scene, Seen
from scorpio.studies.study import (
    OURS,
    Cells,
    Found,
    Page,
    Rows,
    Study,
    engine,
    flags,
    interval,
    percents,
    reference,
    shown,
    table,
)
from scorpio.twin.run import run_twin
from workloads.load import LoadKey

SEEDS = (0,)
_QUICK = ("latency",)
_HEADS = {
    "lengths": "Predicted answer lengths that are wrong",
    "latency": "A latency profile that is wrong",
    "bursts": "Bursts: the same requests at the same mean rate",
    "flood": "A flood: ten times the load for 30 s",
    "tenant": "A tenant that sends ten times its share",
    "attack": "A tenth more requests, with SLOs made to hurt",
    "shift": "The engine becomes 1.3 times slower after 40 s",
}


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a scene."""

    part: str
    load: LoadKey
    scene: Scene
    policy: str

    @property
    def label(self) -> str:
        """Scene, policy and window."""
        return f"{self.part}, {self.scene.name}: {self.policy} on {self.load.label}"

    def run(self) -> dict[str, Any]:
        """By view of the part: a 0 or 1 per request that it shows."""
        scene, load = self.scene, LOADS[self.scene.load](self.load)
        part = SWITCHED_OFF[scene.off] if scene.off and self.policy == OURS else Part()
        own = replace(
            engine(),
            lengths=scene.lengths,
            profile_bias=scene.profile_bias,
            noise=scene.noise,
            policy_options={OURS: {**part.options, **scene.options}},
            never_refuse=frozenset(r.index for r in load if scene.patient and r.tenant == ATTACKER),
        )
        with replaced(part.patches):
            made = run_twin(own, load, self.policy, self.load.seed)
        seen = Seen.of(made.records)
        views, _ = PARTS[self.part]
        return {view.name: flags(seen.good[view.rows(seen)].tolist()) for view in views}


def _cells(quick: bool) -> Cells:
    seeds = (0,) if quick else SEEDS
    return [
        Trial(part, reference(scene.scale, seed, quick), scene, policy)
        for part in (_QUICK if quick else PARTS)
        for scene in PARTS[part][1]
        for policy in scene.policies
        for seed in seeds
    ]


def _rows(found: Found) -> Rows:
    runs: dict[tuple[str, str, str], list[dict[str, str]]] = defaultdict(list)
    for trial, made in found:
        assert isinstance(trial, Trial)
        runs[trial.part, trial.scene.name, trial.policy].append(made)
    return [
        {
            "part": part,
            "scene": scene,
            "policy": policy,
            "view": view,
            "attainment": _kept(made, view),
        }
        for (part, scene, policy), made in runs.items()
        for view in made[0]
    ]


def _kept(made: list[dict[str, str]], view: str) -> list[float] | None:
    runs = [percents(run[view]) for run in made]
    return interval(runs) if all(runs) else None


def _page(rows: Rows) -> Page:
    tables = []
    for part in dict.fromkeys(row["part"] for row in rows):
        mine = [row for row in rows if row["part"] == part]
        views = list(dict.fromkeys(row["view"] for row in mine))
        lines: dict[tuple[str, str], list[str]] = {}
        for row in mine:
            cells = lines.setdefault((row["scene"], row["policy"]), [])
            cells.append(shown(row["attainment"]))
        heads = ["scene", "system", *(view or "all" for view in views)]
        body = [[scene, f"`{policy}`", *cells] for (scene, policy), cells in lines.items()]
        tables.append(f"## {_HEADS[part]}\n\n{table(heads, body)}")
    text = """\
Attainment in % at x1.6 of the trace's rate where nothing else is said (columns: whose requests),
with a 95 % interval over requests. Reference window, mix `six`, A100 model.

"""
    return Page(text + "\n".join(tables))


STUDY = Study("robustness", QUESTIONS["robustness"], _cells, _rows, _page)
