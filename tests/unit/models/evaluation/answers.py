"""Rows for measures, in any cutting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakeflow.models.evaluation.values import Answered, Measure, Result

NONE = pa.RecordBatch.from_pydict({})


def answered(
    label: pa.Array | None,
    prediction: pa.Array | None = None,
    probability: pa.Array | None = None,
    features: Mapping[str, npt.NDArray[np.float64]] | None = None,
) -> Answered:
    return Answered(label, prediction, probability, NONE if features is None else pa.RecordBatch.from_pydict(dict(features)))


def measured(measure: Measure, rows: Answered, cuts: Sequence[int] = ()) -> Result:
    """What the measure finds in the rows, which it is given in pieces that end at `cuts`."""
    length = max(len(column) for column in (rows.label, rows.prediction, rows.probability) if column is not None)
    places = sorted({0, *(cut % (length + 1) for cut in cuts), length})
    for start, stop in pairwise(places):
        size = stop - start
        label, prediction, probability = (
            None if part is None else part.slice(start, size) for part in (rows.label, rows.prediction, rows.probability)
        )
        features = rows.features.slice(start, size) if rows.features.num_columns else NONE
        measure.add(Answered(label, prediction, probability, features))
    return measure.result()


def lists(matrix: npt.NDArray[np.float64]) -> pa.Array:
    """The rows of a matrix as lists."""
    return pa.array(matrix.tolist(), pa.list_(pa.float64()))
