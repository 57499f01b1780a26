"""Scores against truths: the curves over all thresholds and the areas under them. Pure.

Formulas: T. Fawcett, An introduction to ROC analysis, Pattern Recognition Letters 27 (2006); average precision as
scikit-learn has it, the sum of precision times the gain in recall, without interpolation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lakeflow.models.evaluation.values import Floats, Line

Truths = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Steps:
    """Rows that count as positive at each different score taken as the threshold, from the highest on.

    `hits` of them are positive, `misses` are not; equal scores are one step. The last step holds all rows.
    """

    hits: Floats
    misses: Floats

    @property
    def positives(self) -> float:
        return float(self.hits[-1]) if len(self.hits) else 0.0

    @property
    def negatives(self) -> float:
        return float(self.misses[-1]) if len(self.misses) else 0.0


def steps_of(scores: Floats, truths: Truths) -> Steps:
    """The steps of scores without NaN."""
    order = np.argsort(scores)[::-1]
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1) if len(scores) else np.zeros(0, np.int64)
    hits = np.cumsum(truths[order], dtype=np.float64)[ends]
    return Steps(hits, 1.0 + ends - hits)


def roc_auc(steps: Steps) -> float | None:
    """The area under the ROC curve, ties counted half; None where labels are all alike."""
    whole = steps.positives * steps.negatives
    if not whole:
        return None
    return float(np.trapezoid(np.append(0.0, steps.hits), np.append(0.0, steps.misses)) / whole)


def average_precision(steps: Steps) -> float | None:
    """The area under precision over recall; None where no label is positive."""
    if not steps.positives:
        return None
    gained = np.diff(steps.hits, prepend=0.0) / steps.positives
    return float(np.sum(gained * steps.hits / (steps.hits + steps.misses)))


def roc_line(name: str, steps: Steps, most: int) -> Line | None:
    """False positives (x) against true positives (y), as shares, at most `most` points; None where there is no curve."""
    if not steps.positives or not steps.negatives:
        return None
    x, y = np.append(0.0, steps.misses) / steps.negatives, np.append(0.0, steps.hits) / steps.positives
    kept = _spread(len(x), most)
    return Line(name, x[kept], y[kept])


def precision_line(name: str, steps: Steps, most: int) -> Line | None:
    """Recall (x) against precision (y), at most `most` points; None where there is no curve."""
    if not steps.positives:
        return None
    kept = _spread(len(steps.hits), most)
    hits, misses = steps.hits[kept], steps.misses[kept]
    return Line(name, hits / steps.positives, hits / (hits + misses))


def _spread(length: int, most: int) -> npt.NDArray[np.int64]:
    """Places of at most `most` of `length` points, the first and last among them."""
    return np.unique(np.linspace(0, length - 1, min(length, max(2, most))).astype(np.int64))
