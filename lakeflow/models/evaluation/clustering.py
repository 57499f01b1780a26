"""Clustering: how close rows are to their own cluster and how far from the others, by the features that the model was given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import comb

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakeflow.errors import UsageError
from lakeflow.models.evaluation.classification import class_names
from lakeflow.models.evaluation.numbers import is_list, matrix, vector
from lakeflow.models.evaluation.sample import Sample
from lakeflow.models.evaluation.values import Answered, Bounds, Floats, Result

Places = npt.NDArray[np.int64]
ROWS_AT_ONCE = 256


@dataclass(slots=True)
class _Cluster:
    """Rows, their mean, and the sum of their squared distances to it."""

    rows: int
    mean: Floats
    spread: float

    def merge(self, rows: int, mean: Floats, spread: float) -> None:
        """With more rows of the cluster; as `Regression` merges the spread of labels."""
        apart, whole = mean - self.mean, self.rows + rows
        self.spread += spread + float(apart @ apart) * self.rows * rows / whole
        self.mean = self.mean + apart * (rows / whole)
        self.rows = whole


class Clustering:
    """Exact: `intra_cluster_variance`, the mean squared distance of a row to the mean of its cluster, and with a label
    `adjusted_rand`. Of a sample beyond `Bounds`: `davies_bouldin` and `silhouette`, with the rows that they are of."""

    def __init__(self, bounds: Bounds, *, labelled: bool) -> None:
        self._bounds = bounds
        self._labelled = labelled
        self._clusters: dict[str, _Cluster] = {}
        self._places: dict[str, int] = {}
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._kept: Sample | None = None
        self._silhouette = Sample(bounds.silhouette, bounds.seed)

    def add(self, rows: Answered) -> None:
        assert rows.prediction is not None, "a clustering has a prediction"
        names = class_names(rows.prediction, as_number=False)
        if not len(names):
            return
        points = features_matrix(rows.features)
        codes = names.dictionary_encode()
        within, found = np.asarray(codes.indices, dtype=np.int64), codes.dictionary.to_pylist()
        for at, name in enumerate(found):
            self._add_cluster(name, points[within == at])
        if len(self._places) > self._bounds.classes:
            raise UsageError(f"the model gives more than {self._bounds.classes:,} different clusters; they cannot be compared")
        places = np.array([self._places[name] for name in found])[within]
        self._kept = self._kept or Sample(self._bounds.vectors // max(1, points.shape[1]), self._bounds.seed)
        self._kept.add(points, places)
        self._silhouette.add(points, places)
        if self._labelled:
            assert rows.label is not None, "a label was chosen"
            self._add_pairs(class_names(rows.label, as_number=False), names)

    def _add_cluster(self, name: str, points: Floats) -> None:
        self._places.setdefault(name, len(self._places))
        mean = points.mean(axis=0)
        spread = float(np.sum((points - mean) ** 2))
        if name in self._clusters:
            self._clusters[name].merge(len(points), mean, spread)
        else:
            self._clusters[name] = _Cluster(len(points), mean, spread)

    def _add_pairs(self, labels: pa.Array, names: pa.Array) -> None:
        pairs = pa.table([labels, names], ["label", "cluster"]).group_by(["label", "cluster"]).aggregate([([], "count_all")])
        for pair in pairs.to_pylist():
            self._pairs[pair["label"], pair["cluster"]] += pair["count_all"]
        if len({label for label, _ in self._pairs}) > self._bounds.classes:
            raise UsageError(f"the label holds more than {self._bounds.classes:,} different values, too many to be clusters")

    def result(self) -> Result:
        rows = sum(cluster.rows for cluster in self._clusters.values())
        metrics: dict[str, float | None] = dict.fromkeys(("davies_bouldin", "intra_cluster_variance", "silhouette"))
        metrics |= {"davies_bouldin_rows": 0.0, "silhouette_rows": 0.0, "clusters": float(len(self._clusters))}
        if self._labelled:
            metrics["adjusted_rand"] = adjusted_rand(self._pairs)
        if self._kept is None:
            return Result(metrics)
        points, places = self._kept.columns()
        few, few_places = self._silhouette.columns()
        metrics |= {
            "davies_bouldin": davies_bouldin(points, places),
            "davies_bouldin_rows": float(len(points)),
            "intra_cluster_variance": sum(cluster.spread for cluster in self._clusters.values()) / rows,
            "silhouette": silhouette(few, few_places),
            "silhouette_rows": float(len(few)),
        }
        return Result(metrics, per_class={name: {"rows": float(one.rows)} for name, one in self._clusters.items()})


def features_matrix(features: pa.RecordBatch) -> Floats:
    """Numbers as a column each, lists of numbers as one for each place: float64 [rows, columns]."""
    parts = [
        matrix(column, None, f"feature {name!r}") if is_list(column.type) else vector(column)[:, None]
        for name, column in zip(features.schema.names, features.columns, strict=True)
    ]
    return np.hstack(parts)


def davies_bouldin(points: Floats, places: Places) -> float | None:
    """The mean, over clusters, of the worst (spread + other's spread) / distance of means; 0 is best.

    None unless there are at least two clusters and fewer than rows. Source: D. Davies, D. Bouldin, A Cluster Separation
    Measure, IEEE TPAMI 1 (1979); clusters whose means are alike have no part in each other's worst, as in scikit-learn.
    """
    present = np.unique(places)
    if not 2 <= len(present) < len(points):
        return None
    means = np.array([points[places == place].mean(axis=0) for place in present])
    spreads = np.array([np.linalg.norm(points[places == place] - means[at], axis=1).mean() for at, place in enumerate(present)])
    worst = []
    for at in range(len(present)):
        apart = np.linalg.norm(means - means[at], axis=1)
        ratios = np.divide(spreads + spreads[at], apart, out=np.zeros(len(apart)), where=apart > 0)
        worst.append(ratios.max())
    return float(np.mean(worst))


def silhouette(points: Floats, places: Places) -> float | None:
    """The mean silhouette of all rows, -1 to 1; 0 for a row alone in its cluster.

    None unless there are at least two clusters and fewer than rows. Holds 256 rows' distances to all others at a time.
    Source: P. Rousseeuw, Silhouettes, Journal of Computational and Applied Mathematics 20 (1987).
    """
    order = np.argsort(places, kind="stable")
    points, places = points[order] - points.mean(axis=0), places[order]
    _, starts, sizes = np.unique(places, return_index=True, return_counts=True)
    if not 2 <= len(starts) < len(points):
        return None
    own = np.repeat(np.arange(len(starts)), sizes)
    norms = np.sum(points**2, axis=1)
    total = 0.0
    for first in range(0, len(points), ROWS_AT_ONCE):
        rows = np.arange(first, min(first + ROWS_AT_ONCE, len(points)))
        squared = norms[rows, None] + norms[None, :] - 2 * points[rows] @ points.T
        squared[np.arange(len(rows)), rows] = 0.0
        sums = np.add.reduceat(np.sqrt(np.maximum(squared, 0.0)), starts, axis=1)
        total += _silhouettes(sums, own[rows], sizes)
    return total / len(points)


def _silhouettes(sums: Floats, own: Places, sizes: Places) -> float:
    """The sum of the silhouettes of rows whose distances to each cluster add up to `sums` [rows, clusters]."""
    at = np.arange(len(own))
    others = sizes[own] - 1
    within = sums[at, own] / np.maximum(others, 1)
    means = sums / sizes
    means[at, own] = np.inf
    nearest = means.min(axis=1)
    larger = np.maximum(within, nearest)
    each = np.divide(nearest - within, larger, out=np.zeros(len(own)), where=(larger > 0) & (others > 0))
    return float(each.sum())


def adjusted_rand(pairs: Counter[tuple[str, str]]) -> float | None:
    """How far clusters and labels agree beyond chance, 1 at most. Source: L. Hubert, P. Arabie, Comparing Partitions,
    Journal of Classification 2 (1985). None without a row."""
    rows = pairs.total()
    if not rows:
        return None
    labels, clusters = Counter[str](), Counter[str]()
    for (label, cluster), count in pairs.items():
        labels[label] += count
        clusters[cluster] += count
    both, by_label, by_cluster = _pairs_within(pairs.values()), _pairs_within(labels.values()), _pairs_within(clusters.values())
    if both == by_label == by_cluster:
        return 1.0
    expected = by_label * by_cluster / comb(rows, 2)
    return (both - expected) / ((by_label + by_cluster) / 2 - expected)


def _pairs_within(counts: Iterable[int]) -> int:
    return sum(comb(count, 2) for count in counts)
