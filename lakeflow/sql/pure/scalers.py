"""Scalers of numbers, by statistics that the query gives: those of the training data, or of a window.

Names, order of arguments and what becomes of NULL, NaN and infinities are Confluent's ("ML Preprocessing Functions"). A value
that is NULL, NaN or infinite stays as it is. The results are those of the scalers of scikit-learn of the same names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from lakeflow.errors import UsageError
from lakeflow.sql.pure.arguments import Floats, Kind, Parameter, bound, floats, truths
from lakeflow.sql.pure.registry import Bound, PureFunction

Scale = Callable[[Floats, Sequence[Floats]], Floats]
"""The values, and the other arguments as given, to the scaled values; those that are not finite are not looked at."""


def _number(name: str) -> Parameter:
    return Parameter(name, Kind.NUMBER)


def _truth(name: str) -> Parameter:
    return Parameter(name, Kind.TRUTH)


VALUE: Final = _number("value")


def _scaler(name: str, usage: str, parameters: Sequence[Parameter], needed: int, scale: Scale) -> PureFunction:
    def bind(given: tuple[pa.DataType, ...]) -> Bound:
        return bound(given, parameters, needed, pa.float64())

    def call(rows: pa.RecordBatch) -> pa.Array:
        values = floats(rows.column(0))
        others = [
            truths(column, name, parameter.name) if parameter.kind is Kind.TRUTH else floats(column)
            for column, parameter in zip(rows.columns[1:], parameters[1:], strict=False)
        ]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            scaled = np.where(np.isfinite(values), scale(values, others), values)
        return pa.array(scaled, pa.float64(), mask=np.asarray(rows.column(0).is_null()))

    return PureFunction(name, usage, bind, call)


def _statistic(function: str, name: str, given: Floats, *, infinite: bool = False) -> Floats:
    """A statistic as it is. Raises UsageError for NULL, NaN and, where it may not be, infinity."""
    bad = np.isnan(given) if infinite else ~np.isfinite(given)
    if bad.any():
        what = "infinite" if np.isinf(given[bad][0]) else "NULL or NaN"
        raise UsageError(f"{function}: {name} is {what}; valid: a {'' if infinite else 'finite '}number")
    return given


def _by(values: Floats, divisor: Floats) -> Floats:
    """Divided; by 0 the value stays as it is, by an infinity it becomes 0."""
    quotient = values / np.where(divisor == 0, 1.0, divisor)
    return np.asarray(np.where(np.isinf(divisor), 0.0, quotient))


def _max_abs(values: Floats, others: Sequence[Floats]) -> Floats:
    return _by(values, _statistic("ML_MAX_ABS_SCALER", "absoluteMax", others[0], infinite=True))


def _normalizer(values: Floats, others: Sequence[Floats]) -> Floats:
    return _by(values, _statistic("ML_NORMALIZER", "normValue", others[0], infinite=True))


def _min_max(values: Floats, others: Sequence[Floats]) -> Floats:
    low, high = (_statistic("ML_MIN_MAX_SCALER", name, one) for name, one in zip(("min", "max"), others, strict=True))
    if (high < low).any():
        place = int(np.argmax(high < low))
        raise UsageError(f"ML_MIN_MAX_SCALER: max is {high[place]:g} and min {low[place]:g}; valid: a max of min or more")
    width = np.where(high == low, 1.0, high - low)
    return np.asarray(np.clip((values - low) / width, 0.0, 1.0))


def _flags(values: Floats, given: Sequence[Floats]) -> tuple[Floats, Floats]:
    """withCentering and withScaling, TRUE where they are not given."""
    both = [*given, *[np.ones(len(values), bool)] * (2 - len(given))]
    return both[0], both[1]


def _standard(values: Floats, others: Sequence[Floats]) -> Floats:
    centering, scaling = _flags(values, others[2:])
    mean = _statistic("ML_STANDARD_SCALER", "mean", np.where(centering, others[0], 0.0))
    deviation = _statistic("ML_STANDARD_SCALER", "standardDeviation", np.where(scaling, others[1], 1.0), infinite=True)
    return _by(values - mean, deviation)


def _robust(values: Floats, others: Sequence[Floats]) -> Floats:
    centering, scaling = _flags(values, others[3:])
    median = _statistic("ML_ROBUST_SCALER", "median", np.where(centering, others[0], 0.0))
    first = _statistic("ML_ROBUST_SCALER", "firstQuartile", np.where(scaling, others[1], 0.0))
    third = _statistic("ML_ROBUST_SCALER", "thirdQuartile", np.where(scaling, others[2], 1.0))
    return _by(values - median, third - first)


WITH_FLAGS: Final = (_truth("withCentering"), _truth("withScaling"))
FUNCTIONS: Final = (
    _scaler("ML_MAX_ABS_SCALER", "ML_MAX_ABS_SCALER(value, absoluteMax)", (VALUE, _number("absoluteMax")), 2, _max_abs),
    _scaler("ML_MIN_MAX_SCALER", "ML_MIN_MAX_SCALER(value, min, max)", (VALUE, _number("min"), _number("max")), 3, _min_max),
    _scaler("ML_NORMALIZER", "ML_NORMALIZER(value, normValue)", (VALUE, _number("normValue")), 2, _normalizer),
    _scaler(
        "ML_ROBUST_SCALER",
        "ML_ROBUST_SCALER(value, median, firstQuartile, thirdQuartile [, withCentering [, withScaling]])",
        (VALUE, _number("median"), _number("firstQuartile"), _number("thirdQuartile"), *WITH_FLAGS),
        4,
        _robust,
    ),
    _scaler(
        "ML_STANDARD_SCALER",
        "ML_STANDARD_SCALER(value, mean, standardDeviation [, withCentering [, withScaling]])",
        (VALUE, _number("mean"), _number("standardDeviation"), *WITH_FLAGS),
        3,
        _standard,
    ),
)
