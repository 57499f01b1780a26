"""Labels against predicted labels: counts that are kept as rows come, and what follows from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakeflow.errors import UsageError
from lakeflow.models.evaluation.values import Confusion, Metrics

Counts = npt.NDArray[np.int64]
AVERAGES = ("precision", "recall", "f1")


class ConfusionCounts:
    """How often each label met each prediction. Holds a count a pair that was seen, of `most` classes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._seen: set[str] = set()

    def add(self, labels: pa.Array, predictions: pa.Array) -> None:
        """Two string arrays of one length. Raises UsageError past `most` classes."""
        pairs = pa.table([labels, predictions], ["label", "prediction"]).group_by(["label", "prediction"])
        for found in pairs.aggregate([([], "count_all")]).to_pylist():
            self._pairs[found["label"], found["prediction"]] += found["count_all"]
            self._seen |= {found["label"], found["prediction"]}
        if len(self._seen) > self._most:
            raise UsageError(
                f"labels and predictions hold more than {self._most:,} different values; a classification is of few classes",
                next_step="evaluate with --task regression or --task text_generation, or with another label",
            )

    def confusion(self) -> Confusion:
        """The counts of all classes that were seen as a label or as a prediction, whole numbers in their order."""
        classes = tuple(in_order(self._seen))
        counts = tuple(tuple(self._pairs[label, predicted] for predicted in classes) for label in classes)
        return Confusion(classes, counts)


def in_order(classes: Iterable[str]) -> list[str]:
    """Numbers by their value, then other texts by theirs."""

    def place(name: str) -> tuple[bool, int, str]:
        whole = name.removeprefix("-").isascii() and name.removeprefix("-").isdigit()
        return (not whole, int(name) if whole else 0, name)

    return sorted(classes, key=place)


def class_metrics(confusion: Confusion) -> Mapping[str, Metrics]:
    """Of each class: precision, recall, F1 (0 where nothing is predicted or labelled so, as in scikit-learn) and `rows`."""
    counts = _matrix(confusion)
    hits, labelled, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    precision, recall = _ratio(hits, predicted), _ratio(hits, labelled)
    f1 = _ratio(2 * hits, labelled + predicted)
    return {
        name: {
            "precision": float(precision[at]),
            "recall": float(recall[at]),
            "f1": float(f1[at]),
            "rows": float(labelled[at]),
        }
        for at, name in enumerate(confusion.classes)
    }


def label_metrics(confusion: Confusion, positive: str | None) -> Metrics:
    """Accuracy, and precision, recall and F1 as the mean over classes (macro), weighted by their rows, and of `positive`.

    Those of `positive` are None where there is no such class to tell from the others.
    """
    rows = int(_matrix(confusion).sum())
    names = [f"{name}_{kind}" for kind in ("macro", "weighted") for name in AVERAGES]
    metrics: dict[str, float | None] = dict.fromkeys(["accuracy", *AVERAGES, *names])
    if not rows:
        return metrics
    each = class_metrics(confusion)
    metrics["accuracy"] = sum(confusion.counts[at][at] for at in range(len(confusion.classes))) / rows
    weights = [found["rows"] or 0.0 for found in each.values()]
    for name in AVERAGES:
        values = [found[name] or 0.0 for found in each.values()]
        metrics[f"{name}_macro"] = float(np.mean(values))
        metrics[f"{name}_weighted"] = float(np.average(values, weights=weights))
        if positive is not None:
            metrics[name] = each[positive][name] if positive in each else 0.0
    return metrics


def _matrix(confusion: Confusion) -> Counts:
    size = len(confusion.classes)
    return np.array(confusion.counts, dtype=np.int64).reshape(size, size)


def _ratio(part: Counts, whole: Counts) -> npt.NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
