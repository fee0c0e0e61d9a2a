"""What breaks `scorpio`, and how badly?

`python -m scorpio.studies.robustness.tables PART --out FILE`

Wrong lengths, wrong latencies, bursts, floods, mad tenants, hostile SLOs, a GPU that slows down:
each beside `fcfs` and `qoserve` on the same requests, where those can be touched by it. Attainment
in %, 95 % interval over requests and seeds; `robust_scenes.py` holds the parts, `robust_loads.py`
the loads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from scorpio.studies.ablation import CALIBRATION, Part, replaced
from scorpio.studies.ablation import PARTS as SWITCHED_OFF
from scorpio.studies.grid import OURS
from scorpio.studies.robustness.loads import ATTACKER, LOADS
from scorpio.studies.robustness.scenes import ALL, PARTS, RECOVERY_S, SHIFT_S, Scene, Seen, View
from scorpio.studies.step_tracking import follow, recorded
from scorpio.studies.window import add_runs, engine, window_parser, workloads
from scorpio.twin.config import TwinConfig
from scorpio.twin.pool import run_jobs
from scorpio.twin.run import run_twin
from workloads.load import LoadKey
from workloads.results.intervals import mean_interval


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a scene."""

    config: TwinConfig
    load: LoadKey
    scene: Scene
    policy: str

    @property
    def label(self) -> str:
        """Scene, policy and window."""
        return f"{self.scene.name}: {self.policy} on {self.load.label}"

    def run(self) -> Seen:
        """Do it here and now."""
        scene, load = self.scene, LOADS[self.scene.load](self.load)
        own = replace(
            self.config,
            lengths=scene.lengths,
            profile_bias=scene.profile_bias,
            noise=scene.noise,
            policy_options={OURS: scene.options},
            never_refuse=frozenset(r.index for r in load if scene.patient and r.tenant == ATTACKER),
        )
        part = SWITCHED_OFF[scene.off] if scene.off and self.policy == OURS else Part()
        with recorded() as (models, steps), replaced(part.patches):
            made = run_twin(own, load, self.policy, self.load.seed)
        known = models and steps
        end_s, error = (
            follow(models[0], steps, scene.off != CALIBRATION) if known else (np.empty(0),) * 2
        )
        return Seen(
            np.array([record.send_s for record in made.records]),
            np.array([record.tenant for record in made.records]),
            np.array([100.0 * record.good for record in made.records]),
            end_s,
            error,
        )


def attainment(seen: list[Seen], view: View) -> str:
    """Mean with interval; a dash where there is nobody in some run."""
    good = [run.good[view.rows(run)] for run in seen]
    if not all(map(len, good)):
        return "-"
    found = mean_interval(good)
    return f"{found.mean:.1f} ({found.low:.1f}..{found.high:.1f})"


def step_errors(seen: list[Seen]) -> str:
    """Mean absolute error of the predicted step time before the shift, and in stretches after."""
    if not all(len(run.step_error) for run in seen):
        return "-"
    edges_s = (0.0, SHIFT_S, SHIFT_S + 2.0, SHIFT_S + 10.0, SHIFT_S + RECOVERY_S, np.inf)
    texts = []
    for first_s, last_s in pairwise(edges_s):
        errors = [
            np.abs(run.step_error[(run.step_end_s >= first_s) & (run.step_end_s < last_s)])
            for run in seen
        ]
        texts.append(f"{100.0 * np.concatenate(errors).mean():.1f}")
    return " / ".join(texts)


def main() -> None:
    """Print one part's table, a line as soon as it is known."""
    parser = window_parser(__doc__, "1.2,2.4")
    add_runs(parser)
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--policy", nargs="+", choices=ALL, default=ALL)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    config, scales = engine(args.gpu), args.rate_scale
    views, scenes = PARTS[args.part]
    names = [f"x{scale:g} {view.name}".strip() for scale in scales for view in views]
    steps = args.part == "shift"
    with args.out.open("w", buffering=1) as file:
        columns = ["", "policy", *names, *(f"x{scale:g} step error %" for scale in scales if steps)]
        print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), file=file)
        for scene in scenes:
            for policy in (name for name in scene.policies if name in args.policy):
                cells, errors = [], []
                for scale in scales:
                    keys = workloads(args, scale)
                    seen = run_jobs([Trial(config, k, scene, policy) for k in keys], args.workers)
                    cells += [attainment(seen, view) for view in views]
                    if steps:
                        errors.append(step_errors(seen) if policy == OURS else "-")
                print("| " + " | ".join([scene.name, policy, *cells, *errors]) + " |", file=file)


if __name__ == "__main__":
    main()
