"""What do gradient-boosted trees say about these rows? Plain arrays, checked on load, all at once.

Node i of the flat table: feature[i], threshold[i], left[i], right[i], value[i]. A row goes left
when its feature is <= the threshold. A leaf points at itself, so walking `depth` steps from a root
ends at a leaf whatever its depth. Trees of one output stand together, the same number for each.

All inner nodes are decided first, walked through or not: that leaves one look-up per level, and
numpy's price is the number of its calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from scorpio.core.arrays import FloatArray, IntArray

MAX_DEPTH: Final = 12
MAX_NODES: Final = 1_000_000
MAX_VALUE: Final = 100.0  # leaves hold parts of a logarithm; anything larger is damage
ARRAYS: Final = ("roots", "feature", "threshold", "left", "right", "value")


class BadTrees(ValueError):
    """Arrays that are not a forest this module can evaluate; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class TreeEnsemble:
    """A checked forest; made by `checked_ensemble` only. Inner nodes come first, then the leaves.

    feature, threshold, left, right: of the inner nodes. leaves: where a leaf leads, to itself.
    """

    roots: IntArray
    feature: IntArray
    threshold: FloatArray
    left: IntArray
    right: IntArray
    leaves: IntArray
    value: FloatArray
    outputs: int
    depth: int

    def predict(self, rows: FloatArray) -> FloatArray:
        """Sums of leaves, [N, outputs], for rows [N, features]; a non-finite entry counts as 0."""
        if not np.isfinite(rows).all():
            rows = np.where(np.isfinite(rows), rows, 0.0)
        found = np.empty((len(rows), self.outputs))
        for i, row in enumerate(rows):
            goes_right = row.take(self.feature) > self.threshold
            after = np.concatenate((np.where(goes_right, self.right, self.left), self.leaves))
            node = self.roots
            for _ in range(self.depth):
                node = after.take(node)
            self.value.take(node).reshape(self.outputs, -1).sum(axis=1, out=found[i])
        return found


def _array(arrays: Mapping[str, NDArray[Any]], name: str, kind: str, size: int) -> NDArray[Any]:
    found = arrays.get(name)
    if found is None or found.ndim != 1 or found.dtype.kind != kind:
        raise BadTrees(f"{name}: must be a one-dimensional array of kind {kind!r}")
    if size >= 0 and len(found) != size:
        raise BadTrees(f"{name}: must have {size} entries, has {len(found)}")
    return found.astype(np.int64 if kind == "i" else np.float64)


def checked_ensemble(
    arrays: Mapping[str, NDArray[Any]], outputs: int, features: int
) -> TreeEnsemble:
    """A forest that ends, stays in range and gives finite numbers, or BadTrees."""
    roots = _array(arrays, "roots", "i", -1)
    feature = _array(arrays, "feature", "i", -1)
    n = len(feature)
    threshold = _array(arrays, "threshold", "f", n)
    left, right = (_array(arrays, name, "i", n) for name in ("left", "right"))
    value = _array(arrays, "value", "f", n)
    if not 0 < n <= MAX_NODES or len(roots) == 0 or outputs < 1 or len(roots) % outputs:
        raise BadTrees(f"{len(roots)} trees of {n} nodes do not make {outputs} outputs")
    if roots[0] != 0 or np.any(np.diff(roots) <= 0) or roots[-1] >= n:
        raise BadTrees("roots: must ascend from 0 and stay below the number of nodes")
    if np.any((feature < 0) | (feature >= features)):
        raise BadTrees(f"feature: must lie in [0, {features})")
    if not np.all(np.isfinite(threshold)):
        raise BadTrees("threshold: must be finite")
    if not np.all(np.isfinite(value)) or np.any(np.abs(value) > MAX_VALUE):
        raise BadTrees(f"value: must be finite and within +-{MAX_VALUE:g}")
    depth = _checked_depth(roots, left, right, n)
    leaf = left == np.arange(n)
    inner, order = np.flatnonzero(~leaf), np.argsort(leaf, kind="stable")
    place = np.argsort(order)
    return TreeEnsemble(
        place[roots],
        feature[inner],
        threshold[inner],
        place[left[inner]],
        place[right[inner]],
        np.arange(len(inner), n),
        value[order],
        outputs,
        depth,
    )


def _checked_depth(roots: IntArray, left: IntArray, right: IntArray, n: int) -> int:
    """Depth of the deepest tree. Children stand after their parent, so no walk can come back."""
    at = np.arange(n)
    leaf = (left == at) & (right == at)
    inner = np.flatnonzero(~leaf)
    ends = np.append(roots[1:], n)
    end = ends[np.searchsorted(roots, at, side="right") - 1]
    for name, side in (("left", left), ("right", right)):
        if np.any((side[inner] <= inner) | (side[inner] >= end[inner])):
            raise BadTrees(f"{name}: a child must stand after its parent, in the same tree")
    parents = np.bincount(np.concatenate([left[inner], right[inner]]), minlength=n)
    parents[roots] += 1
    if np.any(parents != 1):
        raise BadTrees("each node must be a root or the child of exactly one other")
    level, depth = roots, 0
    while True:
        level = level[~leaf[level]]
        if len(level) == 0:
            return depth
        depth += 1
        if depth > MAX_DEPTH:
            raise BadTrees(f"a tree is deeper than {MAX_DEPTH}")
        level = np.concatenate([left[level], right[level]])
