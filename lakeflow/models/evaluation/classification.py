"""Classification: predicted labels, probabilities, or both, against labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import assert_never

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.errors import ModelError, UsageError, did_you_mean
from lakeflow.models.evaluation import curves
from lakeflow.models.evaluation.confusion import ConfusionCounts, class_metrics, label_metrics
from lakeflow.models.evaluation.numbers import matrix, vector
from lakeflow.models.evaluation.sample import Sample
from lakeflow.models.evaluation.values import Answered, Bounds, Floats, Line, Result

ROUNDING = 1e-6
"""How far a probability may be outside of 0 to 1, or a sum of them from 1 for each place, by rounding alone."""
LEAST = float(np.finfo(np.float64).eps)
"""Probabilities are taken to be this far from 0 and 1 at the least in log loss, as in scikit-learn."""
FALSE, TRUE = "false", "true"


class Classes(Enum):
    """What stands for a class in a column."""

    TEXT = auto()
    WHOLE = auto()
    TRUTH = auto()


@dataclass(frozen=True, slots=True)
class OneProbability:
    """OUTPUT holds the probability of `positive`. Labels other than `positive` and `negative` are refused where
    `negative` is one of the labels, and all count as it where `others` says so."""

    positive: str
    negative: str
    others: bool
    threshold: float


@dataclass(frozen=True, slots=True)
class ManyProbabilities:
    """OUTPUT holds a list with the probability of each of `classes`; None: of 0, 1, 2 and so on."""

    classes: tuple[str, ...] | None


def class_names(column: pa.Array, as_number: bool) -> pa.Array:
    """A column of labels as strings; truths as 0 and 1 where they stand beside numbers."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_boolean(column.type) and as_number:
        column = column.cast(pa.int8())
    return column.cast(pa.string())


class Classification:
    """The measure of one label. `numbers`: the label or the prediction is a whole number, so truths count as such.

    `positive` is the class that precision, recall and F1 are of; with `negative`, only where there is no third one.
    """

    def __init__(
        self,
        probabilities: OneProbability | ManyProbabilities | None,
        bounds: Bounds,
        *,
        numbers: bool = False,
        positive: str | None = None,
        negative: str | None = None,
    ) -> None:
        self._numbers = numbers
        self._positive = positive
        self._negative = negative
        self._counts = ConfusionCounts(bounds.classes)
        self._scores = _scores_of(probabilities, bounds)

    def add(self, rows: Answered) -> None:
        assert rows.label is not None, "a classification has a label"
        labels = class_names(rows.label, self._numbers)
        predicted = None if rows.prediction is None else class_names(rows.prediction, self._numbers)
        if self._scores is not None:
            assert rows.probability is not None, "probabilities were chosen"
            labels_of_scores, chosen = self._scores.add(labels, rows.probability)
            labels, predicted = (labels, predicted) if predicted is not None else (labels_of_scores, chosen)
        self._counts.add(labels, predicted)

    def result(self) -> Result:
        confusion = self._counts.confusion()
        third = self._negative is not None and not {self._positive, self._negative}.issuperset(confusion.classes)
        metrics = label_metrics(confusion, None if third else self._positive)
        per_class = class_metrics(confusion)
        if self._scores is None:
            return Result(metrics, confusion, per_class)
        found = self._scores.result()
        per_class = {name: {**values, **found.per_class.get(name, {})} for name, values in per_class.items()}
        return Result({**metrics, **found.metrics}, confusion, per_class, found.rocs, found.precisions)


def _scores_of(probabilities: OneProbability | ManyProbabilities | None, bounds: Bounds) -> _One | _Many | None:
    match probabilities:
        case None:
            return None
        case OneProbability():
            return _One(probabilities, bounds)
        case ManyProbabilities():
            return _Many(probabilities, bounds)
        case _:
            assert_never(probabilities)


class _One:
    """Scores of one class against all others."""

    def __init__(self, asked: OneProbability, bounds: Bounds) -> None:
        self._asked = asked
        self._bounds = bounds
        self._kept = Sample(bounds.scores, bounds.seed)
        self._loss = 0.0
        self._rows = 0

    def add(self, labels: pa.Array, answers: pa.Array) -> tuple[pa.Array, pa.Array]:
        """The labels as positive and negative ones, and what the threshold makes of the answers."""
        asked = self._asked
        if not asked.others:
            _refuse_others(labels, (asked.negative, asked.positive))
        scores = _checked(vector(answers))
        truths = np.asarray(pc.equal(labels, asked.positive))
        given = np.clip(scores, LEAST, 1 - LEAST)
        self._loss -= float(np.where(truths, np.log(given), np.log1p(-given)).sum())
        self._rows += len(scores)
        self._kept.add(scores, truths)
        return self._named(truths), self._named(scores >= asked.threshold)

    def _named(self, truths: npt.NDArray[np.bool_]) -> pa.Array:
        return pc.if_else(pa.array(truths), self._asked.positive, self._asked.negative)

    def result(self) -> Result:
        scores, truths = self._kept.columns() or (np.zeros(0), np.zeros(0, dtype=np.bool_))
        steps = curves.steps_of(scores, truths)
        name, most = self._asked.positive, self._bounds.points
        metrics = {
            "log_loss": self._loss / self._rows if self._rows else None,
            "roc_auc": curves.roc_auc(steps),
            "pr_auc": curves.average_precision(steps),
            "score_rows": float(len(scores)),
        }
        roc, precision = curves.roc_line(name, steps, most), curves.precision_line(name, steps, most)
        return Result(metrics, rocs=_lines([roc]), precisions=_lines([precision]))


class _Many:
    """Scores of each class against all others."""

    def __init__(self, asked: ManyProbabilities, bounds: Bounds) -> None:
        self._classes = asked.classes or ()
        self._bounds = bounds
        self._kept: Sample | None = None
        self._loss = 0.0
        self._rows = 0
        self._sums_to_one = True

    def add(self, labels: pa.Array, answers: pa.Array) -> tuple[pa.Array, pa.Array]:
        """The labels, and the most probable class of each row, the first of several."""
        scores = _checked(matrix(answers, len(self._classes) or None, "probabilities, one a class"))
        if not len(scores):
            return labels, labels
        self._classes = self._classes or tuple(map(str, range(scores.shape[1])))
        self._kept = self._kept or Sample(self._bounds.scores // scores.shape[1], self._bounds.seed)
        _refuse_others(labels, self._classes)
        classes = pa.array(self._classes, pa.string())
        places = np.asarray(pc.index_in(labels, classes), dtype=np.int64)
        self._sums_to_one &= bool((np.abs(scores.sum(axis=1) - 1) <= ROUNDING * scores.shape[1]).all())
        given = np.clip(scores[np.arange(len(scores)), places], LEAST, 1 - LEAST)
        self._loss -= float(np.log(given).sum())
        self._rows += len(scores)
        self._kept.add(scores, places)
        return labels, classes.take(pa.array(np.argmax(scores, axis=1)))

    def result(self) -> Result:
        size = len(self._classes)
        empty = np.zeros((0, size)), np.zeros(0, dtype=np.int64)
        scores, places = empty if self._kept is None else self._kept.columns()
        each = [curves.steps_of(scores[:, at], places == at) for at in range(size)]
        rocs, precisions = [curves.roc_auc(steps) for steps in each], [curves.average_precision(steps) for steps in each]
        weights = [steps.positives for steps in each]
        areas = zip(self._classes, rocs, precisions, strict=True)
        named = list(zip(self._classes, each, strict=True))
        most = self._bounds.points
        return Result(
            {
                "log_loss": self._loss / self._rows if self._rows and self._sums_to_one else None,
                "roc_auc": rocs[1] if size == 2 else None,
                "pr_auc": precisions[1] if size == 2 else None,
                **_averages("roc_auc", rocs, weights),
                **_averages("pr_auc", precisions, weights),
                "score_rows": float(len(scores)),
            },
            per_class={name: {"roc_auc": roc, "pr_auc": precision} for name, roc, precision in areas},
            rocs=_lines([curves.roc_line(name, steps, most) for name, steps in named]),
            precisions=_lines([curves.precision_line(name, steps, most) for name, steps in named]),
        )


def _averages(name: str, values: Sequence[float | None], weights: Sequence[float]) -> Mapping[str, float | None]:
    """Over the classes that have an area: those that some labels bear, and some do not."""
    defined = [(value, weight) for value, weight in zip(values, weights, strict=True) if value is not None and weight]
    if not defined:
        return {f"{name}_macro": None, f"{name}_weighted": None}
    found, by = zip(*defined, strict=True)
    return {f"{name}_macro": float(np.mean(found)), f"{name}_weighted": float(np.average(found, weights=by))}


def _lines(lines: Sequence[Line | None]) -> tuple[Line, ...]:
    return tuple(line for line in lines if line is not None)


def _checked(scores: Floats) -> Floats:
    """Probabilities, what rounding put outside of 0 to 1 put back. Raises ModelError."""
    outside = scores[(scores < -ROUNDING) | (scores > 1 + ROUNDING)]
    if outside.size:
        raise ModelError(
            f"an answer is {outside.flat[0]:g}, which is no probability: it is not within 0 and 1",
            next_step="name the OUTPUT column that holds probabilities with --probability, or the labels with --prediction",
        )
    return np.clip(scores, 0.0, 1.0)


def _refuse_others(labels: pa.Array, known: Sequence[str]) -> None:
    for name in pc.unique(labels).to_pylist():
        if name not in known:
            raise UsageError(
                f"the label {name!r} is none that the probabilities are about{did_you_mean(name, known)}",
                next_step="name them: --positive LABEL for one probability, --classes A,B,C for a list of them",
            )
