"""Embedding: vectors against the vectors that should have come out."""

from __future__ import annotations

import numpy as np

from lakeflow.models.evaluation.numbers import matrix
from lakeflow.models.evaluation.values import Answered, Floats, Result


class Vectors:
    """Means over rows. Cosine and Jaccard are 0 where one of both vectors is all zeros."""

    def __init__(self) -> None:
        self._rows = 0
        self._cosine = self._jaccard = self._euclidean = 0.0

    def add(self, rows: Answered) -> None:
        assert rows.label is not None, "an embedding has a label"
        assert rows.prediction is not None, "an embedding has a prediction"
        if not len(rows.label):
            return
        predicted = matrix(rows.prediction, None, "the prediction's numbers")
        labels = matrix(rows.label, predicted.shape[1], "the label's numbers")
        self._rows += len(labels)
        self._cosine += float(cosines(labels, predicted).sum())
        self._jaccard += float(jaccards(labels, predicted).sum())
        self._euclidean += float(np.linalg.norm(labels - predicted, axis=1).sum())

    def result(self) -> Result:
        names = ("mean_cosine", "mean_jaccard", "mean_euclidean")
        if not self._rows:
            return Result(dict.fromkeys(names))
        sums = (self._cosine, self._jaccard, self._euclidean)
        return Result({name: total / self._rows for name, total in zip(names, sums, strict=True)})


def cosines(one: Floats, other: Floats) -> Floats:
    """The cosine similarity of each row of two matrices of one shape, -1 to 1."""
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray(np.divide(np.sum(one * other, axis=1), norms, out=np.zeros(len(one)), where=norms > 0))


def jaccards(one: Floats, other: Floats) -> Floats:
    """The Jaccard similarity of each row of two matrices of one shape, 0 to 1; of sets where all values are 0 and 1.

    Of weights it is the sum of minima over that of maxima (Ruzicka's), a negative value being the weight of a place of
    its own.
    """
    one, other = np.hstack([np.maximum(one, 0), np.maximum(-one, 0)]), np.hstack([np.maximum(other, 0), np.maximum(-other, 0)])
    either = np.maximum(one, other).sum(axis=1)
    return np.asarray(np.divide(np.minimum(one, other).sum(axis=1), either, out=np.zeros(len(one)), where=either > 0))
