"""Regression: predicted numbers against numbers, by sums that are kept as rows come."""

from __future__ import annotations

import math

import numpy as np

from lakeflow.models.evaluation.numbers import vector
from lakeflow.models.evaluation.sample import Sample
from lakeflow.models.evaluation.values import Answered, Bounds, Floats, Line, Result

LEAST = float(np.finfo(np.float64).eps)
"""What a label counts as at the least where an error is divided by it, as in scikit-learn."""
METRICS = ("mae", "mse", "rmse", "mape", "r2", "mean_error", "max_error")


class Regression:
    """Metrics in the label's unit (`mse` in its square); `mape` is a share, not per cent; `r2` needs two rows.

    The spread of the labels is merged batch by batch: T. Chan, G. Golub, R. LeVeque, Algorithms for Computing the Sample
    Variance, The American Statistician 37 (1983).
    """

    def __init__(self, bounds: Bounds) -> None:
        self._rows = 0
        self._mean = self._spread = 0.0
        self._low, self._high = math.inf, -math.inf
        self._squares = self._errors = self._signed = self._shares = self._largest = 0.0
        self._points = Sample(bounds.points, bounds.seed)

    def add(self, rows: Answered) -> None:
        assert rows.label is not None, "a regression has a label"
        assert rows.prediction is not None, "a regression has a prediction"
        labels, predicted = vector(rows.label), vector(rows.prediction)
        if not len(labels):
            return
        self._add_spread(labels)
        errors = predicted - labels
        self._squares += float(np.sum(errors**2))
        self._signed += float(errors.sum())
        errors = np.abs(errors)
        self._errors += float(errors.sum())
        self._shares += float(np.sum(errors / np.maximum(np.abs(labels), LEAST)))
        self._largest = max(self._largest, float(errors.max()))
        self._points.add(labels, predicted)

    def _add_spread(self, labels: Floats) -> None:
        mean, count = float(labels.mean()), len(labels)
        apart, whole = mean - self._mean, self._rows + count
        self._spread += float(np.sum((labels - mean) ** 2)) + apart**2 * self._rows * count / whole
        self._mean += apart * count / whole
        self._rows = whole
        self._low, self._high = min(self._low, float(labels.min())), max(self._high, float(labels.max()))

    def result(self) -> Result:
        if not self._rows:
            return Result(dict.fromkeys(METRICS))
        mse = self._squares / self._rows
        metrics = {
            "mae": self._errors / self._rows,
            "mse": mse,
            "rmse": math.sqrt(mse),
            "mape": self._shares / self._rows,
            "r2": self._r2(),
            "mean_error": self._signed / self._rows,
            "max_error": self._largest,
        }
        labels, predicted = self._points.columns()
        return Result(metrics, actual=Line("rows", labels, predicted))

    def _r2(self) -> float | None:
        """Of labels that are all alike: 1 where each is met, 0 elsewhere, as in scikit-learn."""
        if self._rows < 2:
            return None
        if self._low == self._high or not self._spread:
            return 0.0 if self._squares else 1.0
        return 1 - self._squares / self._spread
