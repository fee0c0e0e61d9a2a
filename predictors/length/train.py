"""How is the length model made? Linear scores out of fold, quantile trees on top, then calibration.

The serving process never loads this module. Fixed seeds, one thread: the same file gives the same
model. Nothing of the text reaches the artefact but weights of 65,536 hash buckets.
"""

from __future__ import annotations

import math
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import lightgbm
import numpy as np
import scipy.sparse
import sklearn
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

from predictors.length.artifact import load_model, write_model
from predictors.length.convert import convert
from predictors.length.dataset import Pairs, read_pairs
from predictors.length.evaluate import figures, latency_us, mae, pinball, ranks
from predictors.length.features import Features, extract
from predictors.length.model import BUCKETS, ROW_LENGTH, SHORT_TOKENS, bag_weights
from predictors.length.quantiles import LEVELS, conformal
from predictors.length.report import write_report
from predictors.length.trees import checked_ensemble
from scorpio.core.arrays import FloatArray, IntArray

FOLDS: Final = 5
RIDGE_ALPHA: Final = 3.0
TREES: Final = 60  # of each quantile
GROUPS: Final = 4  # of calibration, by predicted median
AGREEMENT: Final = 1e-9  # between LightGBM's sums and ours: the order of summation, no more
TIMED_REQUESTS: Final = 1000
TREE_OPTIONS: Final[dict[str, Any]] = {
    "objective": "quantile", "num_leaves": 12, "max_depth": 4, "learning_rate": 0.1,
    "min_data_in_leaf": 30, "feature_fraction": 0.5, "bagging_fraction": 0.8, "bagging_freq": 1,
    "num_threads": 1, "deterministic": True, "force_row_wise": True, "seed": 1, "verbose": -1,
}  # fmt: skip
Say = Callable[[str], None]


class TrainingFailed(RuntimeError):
    """The model could not be made; the message says which check failed."""


def _silent(line: str) -> None:
    del line


def train_length(data: Path, out: Path, *, seed: int = 0, say: Say = _silent) -> dict[str, Any]:
    """Train on a JSONL file; write length.json, length.npz, report.json and report.md to `out`.

    `say` gets a line per stage. Returns the report.

    Raises:
        DataError: bad data, by file and line. TrainingFailed, ConversionFailed: nothing is written.
    """
    pairs = read_pairs(data)
    parts = pairs.split(seed)
    fit, calibrate, test = parts
    if min(map(len, parts)) < 20:
        raise TrainingFailed(f"{data}: too few conversations to split into three parts")
    say(f"{len(pairs)} requests, {pairs.duplicates} repeated ones dropped")
    features = [extract(request) for request in pairs.requests]
    idf = _idf([features[i] for i in fit])
    bags = _bags(features, idf)
    targets = _targets(pairs)
    say("linear scores")
    scores, linear = _scores(bags, targets, fit)
    rows = np.concatenate((np.stack([f.dense for f in features]), scores), axis=1)
    truth = pairs.truth_z
    boosters = [_booster(level, rows[fit], truth[fit], say) for level in LEVELS]
    say("conversion and check")
    with tempfile.TemporaryDirectory(prefix="scorpio-length-") as scratch:
        arrays = convert([booster.model_to_string() for booster in boosters], Path(scratch))
    trees = checked_ensemble(arrays, len(LEVELS), ROW_LENGTH)
    raw = trees.predict(rows)
    theirs = np.stack([booster.predict(rows, num_threads=1) for booster in boosters], axis=1)
    difference = float(np.abs(raw - theirs).max())
    if not difference <= AGREEMENT:
        raise TrainingFailed(f"numpy and LightGBM differ by {difference:g} on the same trees")
    calibration = conformal(raw[calibrate], truth[calibrate], GROUPS)
    arrays |= {
        "table": np.column_stack([idf, linear.coef_.T]).astype(np.float32),
        "intercept": linear.intercept_.astype(np.float64),
        "edges": calibration.edges,
        "offsets": calibration.offsets,
    }
    counts = {"fit": len(fit), "calibrate": len(calibrate), "test": len(test), "seed": seed}
    counts |= {"rows": len(pairs), "duplicates": pairs.duplicates}
    provenance = {"data_sha256": pairs.sha256, **counts, **_versions()}
    digest = write_model(out, arrays, provenance)
    model = load_model(out, digest)
    say("report")
    test_requests = [pairs.requests[i] for i in test]
    report = {
        "digest": digest,
        "data": {"sha256": pairs.sha256, **counts},
        "agreement_with_lightgbm": difference,
        "test": figures(model.quantiles_z(test_requests), truth[test]),
        "baselines": _baselines(pairs, fit, test),
        "pinball_of_all_answers": pinball(_same_quantiles(truth[fit], len(test)), truth[test]),
        "latency_us": latency_us(model, test_requests[:TIMED_REQUESTS]),
        "versions": _versions(),
    }
    write_report(out, report)
    return report


def _booster(level: float, rows: FloatArray, truth: FloatArray, say: Say) -> lightgbm.Booster:
    """Trees of one quantile."""
    say(f"trees of quantile {level:g}")
    options = {**TREE_OPTIONS, "alpha": level}
    return lightgbm.train(options, lightgbm.Dataset(rows, truth), TREES)


def _versions() -> dict[str, str]:
    return {
        "lightgbm": lightgbm.__version__,
        "sklearn": sklearn.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _idf(features: list[Features]) -> FloatArray:
    """Weight of a bucket; 0 for one seen in a single request, which says nothing general."""
    seen = np.zeros(BUCKETS)
    for one in features:
        seen[one.buckets] += 1.0
    idf = np.log((1.0 + len(features)) / (1.0 + seen)) + 1.0
    # as stored: what is trained on is what is served
    return np.where(seen >= 2.0, idf, 0.0).astype(np.float32).astype(np.float64)


def _bags(features: list[Features], idf: FloatArray) -> Any:
    ends = np.cumsum([0, *(len(one.buckets) for one in features)])
    weights = np.concatenate([bag_weights(one.counts, idf[one.buckets]) for one in features])
    buckets = np.concatenate([one.buckets for one in features])
    return scipy.sparse.csr_matrix((weights, buckets, ends), shape=(len(features), BUCKETS))


def _targets(pairs: Pairs) -> FloatArray:
    long = [pairs.response_tokens > tokens for tokens in SHORT_TOKENS]
    return np.stack([pairs.truth_z, *long], axis=1).astype(np.float64)


def _ridge(bags: Any, targets: NDArray[Any]) -> Any:
    return Ridge(alpha=RIDGE_ALPHA, solver="sparse_cg", tol=1e-4).fit(bags, targets)


def _scores(bags: Any, targets: FloatArray, fit: IntArray) -> tuple[FloatArray, Any]:
    """Scores of all rows and the served model. Rows to fit are scored by models that left them out:
    the trees would otherwise trust a score that has seen the answer."""
    linear = _ridge(bags[fit], targets[fit])
    scores = np.asarray(linear.predict(bags))
    fold = np.random.default_rng(0).permutation(len(fit)) % FOLDS
    for k in range(FOLDS):
        kept, left_out = fit[fold != k], fit[fold == k]
        scores[left_out] = _ridge(bags[kept], targets[kept]).predict(bags[left_out])
    return scores, linear


def _same_quantiles(seen_z: FloatArray, requests: int) -> FloatArray:
    """The quantiles of all answers seen, said of every request."""
    return np.tile(np.quantile(seen_z, LEVELS), (requests, 1))


def _baselines(pairs: Pairs, fit: IntArray, test: IntArray) -> dict[str, dict[str, float]]:
    """What is to be beaten on the same rows: the median, and TF-IDF with ridge on log length."""
    truth = pairs.truth_z
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=2)
    bags = words.fit_transform([pairs.requests[i].prompt for i in fit])
    ridge = Ridge(alpha=1.0).fit(bags, truth[fit])
    predicted = ridge.predict(words.transform([pairs.requests[i].prompt for i in test]))
    constant = np.full(len(test), float(np.median(truth[fit])))
    mean = np.full(len(test), math.log1p(float(pairs.response_tokens[fit].mean())))
    return {
        name: {**ranks(z, truth[test]), "mae_tokens": mae(z, truth[test])}
        for name, z in (("median", constant), ("mean", mean), ("TF-IDF + ridge", predicted))
    }
