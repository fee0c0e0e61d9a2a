"""What does a length prediction cost the API process? CPU time per request.

The whole way of a request: text of its body, ladder, `extra_args`; with the model that comes with
the package, prompts of made-up words (median 25, p99 about 500) and learning from every answer.
Answers are drawn from what was predicted: a model that is wrong would be demoted, and then the
histograms answer beside it. CPU time of the thread, because wall time on a busy machine is the
machine's queue.
"""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np

from predictors.length.ladder import LengthLadder
from predictors.length.shipped import open_model
from scorpio.server.request.lengths import LengthService
from scorpio.server.request.prompt_text import prompt_text
from scorpio.studies.study import Rows, table

_SYLLABLES = ("ka", "lo", "mi", "ne", "ru", "sta", "vor", "xi", "pre", "ing")
_DELTA = SimpleNamespace(name="DELTA")


def bodies(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Chat bodies with prompts of made-up words."""
    rng = np.random.default_rng(seed)
    made = []
    for size in np.maximum(rng.lognormal(np.log(25), 1.3, count), 1).astype(int).tolist():
        words = ["".join(rng.choice(_SYLLABLES, rng.integers(1, 5))) for _ in range(size)]
        made.append({"messages": [{"role": "user", "content": " ".join(words)}]})
    return made


def measure(with_model: bool, count: int) -> dict[str, float]:
    """Microseconds per request at several quantiles."""
    ladder = LengthLadder(open_model("smollm2") if with_model else None)
    lengths = LengthService(ladder, "smollm2")
    spent = []
    level = np.random.default_rng(1).random(count).tolist()
    for i, body in enumerate(bodies(count)):
        prompt = {"prompt_token_ids": range(len(body["messages"][0]["content"]) // 4)}
        params = SimpleNamespace(
            extra_args=None, max_tokens=512, temperature=1.0, ignore_eos=False, output_kind=_DELTA
        )
        started_s = time.thread_time()
        asked = lengths.tell(params, prompt, prompt_text(body))
        spent.append(time.thread_time() - started_s)
        assert asked is not None
        length = round(asked.prediction.remaining(0, level[i]))
        ladder.observe(asked.request, asked.prediction, length)
    assert not ladder.state()["demoted"]
    p50, p90, p99 = np.percentile(spent[count // 10 :], (50, 90, 99)) * 1e6
    return {"p50": float(p50), "p90": float(p90), "p99": float(p99)}


def rows(count: int) -> Rows:
    """With the trained model, and with histograms alone."""
    both = (("trained model", True), ("histograms alone", False))
    return [{"predictor": name} | measure(with_model, count) for name, with_model in both]


def text(found: Rows) -> str:
    """Markdown."""
    names = ("p50", "p90", "p99")
    lines = [[row["predictor"], *(f"{row[name]:.0f}" for name in names)] for row in found]
    return table(["predictor", *(f"{name}, us" for name in names)], lines)
