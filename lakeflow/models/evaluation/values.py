"""What is asked of an evaluation, what a measure is given, and what comes of it: plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakeflow.models.spec import Task

Floats = npt.NDArray[np.float64]
Metrics = Mapping[str, float | None]
"""Metrics by name. None: the rows do not define it, as with an ROC curve of labels that are all alike."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is evaluated: `features` fill INPUT by position, `labels` are what should have come out.

    `task` of None is the model's own. `predictions` and `probabilities` name OUTPUT columns, one a label; empty ones are
    found by name and type. `positive` is the label that a single probability is about, `threshold` the least
    probability that counts as it. `classes` names the places of an OUTPUT list of probabilities.
    """

    labels: tuple[str, ...]
    features: tuple[str, ...]
    task: Task | None = None
    predictions: tuple[str, ...] = ()
    probabilities: tuple[str, ...] = ()
    positive: str | None = None
    classes: tuple[str, ...] = ()
    threshold: float = 0.5


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is held, whatever the number of rows. Beyond it, an even sample with a fixed seed stands for all rows.

    `scores`: probabilities, for the areas under curves; 17 bytes each, up to 80 while they are put together and sorted.
    `vectors`: numbers in the features of a clustering, for Davies-Bouldin; 16 bytes each, up to 80. `silhouette`: rows of
    them whose distances to each other are computed. `points`: rows, or steps of a curve, that are drawn. `classes`: different
    labels and predictions.
    """

    scores: int = 5_000_000
    vectors: int = 5_000_000
    silhouette: int = 10_000
    points: int = 5_000
    classes: int = 1_000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Answered:
    """Rows whose label and answers are all there, each column of the same length.

    `label` is None where a clustering has none. `prediction` or `probability` is None where the model gives no such column.
    """

    label: pa.Array | None
    prediction: pa.Array | None
    probability: pa.Array | None
    features: pa.RecordBatch


@dataclass(frozen=True, slots=True)
class Confusion:
    """`counts[i][j]`: rows with the label `classes[i]` whose prediction was `classes[j]`."""

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    def document(self) -> Mapping[str, Any]:
        return {"classes": self.classes, "counts": self.counts}


@dataclass(frozen=True, slots=True)
class Line:
    """Points of a plot, from left to right."""

    name: str
    x: Floats = field(repr=False)
    y: Floats = field(repr=False)


@dataclass(frozen=True, slots=True)
class Result:
    """What a measure found. `rocs` (false against true positives) and `precisions` (precision against recall) hold a
    curve a class, `actual` the label (x) against the prediction (y) of sampled rows."""

    metrics: Metrics
    confusion: Confusion | None = None
    per_class: Mapping[str, Metrics] = field(default_factory=dict)
    rocs: Sequence[Line] = ()
    precisions: Sequence[Line] = ()
    actual: Line | None = None


class Measure(Protocol):
    """Metrics of one task. Rows come in any cutting; what is held is bounded by `Bounds`."""

    def add(self, rows: Answered) -> None:
        """More rows. Raises UsageError or ModelError for a value that cannot be measured."""
        ...

    def result(self) -> Result:
        """The metrics of the rows so far."""
        ...
