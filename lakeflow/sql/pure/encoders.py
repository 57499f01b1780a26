"""Encoders of categories and numbers as classes: ML_BUCKETIZE, ML_LABEL_ENCODER, ML_ONE_HOT_ENCODER, and ML_NGRAMS.

Names, order of arguments, what becomes of NULL and the examples are Confluent's ("ML Preprocessing Functions"). Where its page
says two things of ML_ONE_HOT_ENCODER, its examples are held to: the category that is dropped is the unknown one, which stands
last, and KEEP keeps it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa

from lakeflow.errors import UsageError, did_you_mean
from lakeflow.sql.pure.arguments import Kind, Parameter, bound, by_settings, fits, floats, require_count
from lakeflow.sql.pure.registry import Bound, PureFunction

Category = str | int | float | bool
LABEL: Final = pa.int32()
VECTOR: Final = pa.list_(pa.int32())


class Unknown(StrEnum):
    """What becomes of an input that is none of the categories."""

    ERROR = "ERROR"
    IGNORE = "IGNORE"
    KEEP = "KEEP"


def _bucketize(values: pa.Array, points: Sequence[float | None] | None, names: Sequence[str | None] | None = None) -> pa.Array:
    splits = sorted_points(points)
    shown = bucket_names(splits, names)
    numbers = floats(values)
    places = np.where(np.isnan(numbers), 0, np.searchsorted(splits, numbers, side="right") + 1)
    return pa.array(shown, pa.string()).take(pa.array(places))


def sorted_points(points: Sequence[float | None] | None) -> list[float]:
    """The split points without NULL, NaN and repeats. Raises UsageError where none is left, or they do not ascend."""
    kept = [one for one in points or () if one is not None and not math.isnan(one)]
    if not kept:
        raise UsageError("ML_BUCKETIZE: splitBucketPoints has no number in it")
    for before, after in pairwise(kept):
        if after < before:
            raise UsageError(f"ML_BUCKETIZE: splitBucketPoints must ascend, and {after:g} follows {before:g}")
    return list(dict.fromkeys(kept))


def bucket_names(splits: Sequence[float], names: Sequence[str | None] | None) -> list[str]:
    """The name of the bucket of NULL, then those of the others from below. Raises UsageError for another number of names."""
    if names is None:
        return ["bin_NULL", *(f"bin_{place + 1}" for place in range(len(splits) + 1))]
    given = [one for one in names if one is not None]
    if len(given) != len(splits) + 2 or len(given) != len(names):
        raise UsageError(
            f"ML_BUCKETIZE: {len(splits)} split points make {len(splits) + 2} buckets, that of NULL first; bucketNames has "
            f"{len(given)} names"
        )
    return given


def categories_of(function: str, categories: Sequence[Category | None] | None) -> list[Category]:
    """The categories. Raises UsageError where they are NULL, or hold a NULL or one twice."""
    if categories is None:
        raise UsageError(f"{function}: categories is NULL; valid: an array")
    found: dict[Category, None] = {}
    for one in categories:
        if one is None:
            raise UsageError(f"{function}: categories holds a NULL")
        if one in found:
            raise UsageError(f"{function}: categories holds {one!r} twice")
        found[one] = None
    return list(found)


def _label(values: pa.Array, categories: Sequence[Category | None] | None, zero_label: bool | None = False) -> pa.Array:
    if zero_label is None:
        raise UsageError("ML_LABEL_ENCODER: includeZeroLabel is NULL; valid: TRUE, FALSE")
    known = categories_of("ML_LABEL_ENCODER", categories)
    if known != sorted(known):
        raise UsageError("ML_LABEL_ENCODER: categories must be sorted, ascending")
    first = 0 if zero_label else 1
    labels = {one: place + first for place, one in enumerate(known)}
    return pa.array([labels.get(value, first - 1) for value in values.to_pylist()], LABEL)


def _one_hot(
    values: pa.Array,
    categories: Sequence[Category | None] | None,
    drop_last: bool | None = True,
    unknown: str | None = Unknown.IGNORE,
) -> pa.Array:
    known = categories_of("ML_ONE_HOT_ENCODER", categories)
    if not known:
        raise UsageError("ML_ONE_HOT_ENCODER: categories is empty")
    if drop_last is None:
        raise UsageError("ML_ONE_HOT_ENCODER: dropLast is NULL; valid: TRUE, FALSE")
    mode = _unknown(unknown)
    places = {one: place for place, one in enumerate(known)}
    hot = np.array([places.get(value, len(known)) for value in values.to_pylist()])
    if mode is Unknown.ERROR and (hot == len(known)).any():
        strange = values[int(np.argmax(hot == len(known)))].as_py()
        raise UsageError(
            f"ML_ONE_HOT_ENCODER: {strange!r} is none of the categories{did_you_mean(str(strange), map(str, known))}"
        )
    width = len(known) + (1 if mode is Unknown.KEEP or not drop_last else 0)
    vectors = np.zeros((len(hot), width), dtype=np.int32)
    marked = hot < (width if mode is Unknown.KEEP else len(known))
    vectors[np.flatnonzero(marked), hot[marked]] = 1
    offsets = np.arange(len(hot) + 1, dtype=np.int32) * width
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(vectors.ravel()))


def _unknown(given: str | None) -> Unknown:
    word = "NULL" if given is None else given.upper()
    if word not in list(Unknown):
        raise UsageError(f"ML_ONE_HOT_ENCODER: handleUnknown is {given!r}{did_you_mean(word, Unknown)}")
    return Unknown(word)


def _ngrams(values: pa.Array, length: int | None = 2, separator: str | None = " ") -> pa.Array:
    if length is None or length < 1:
        raise UsageError(f"ML_NGRAMS: nValue is {'NULL' if length is None else length}; valid: 1 or more")
    if separator is None:
        raise UsageError("ML_NGRAMS: separator is NULL; valid: a text")
    return pa.array([ngrams(tokens or (), length, separator) for tokens in values.to_pylist()], pa.list_(pa.string()))


def ngrams(tokens: Sequence[str | None], length: int, separator: str) -> list[str]:
    """The runs of `length` tokens, joined; a NULL is passed over, a token of white space is an empty one."""
    kept = [token if token.strip() else "" for token in tokens if token is not None]
    return [separator.join(kept[start : start + length]) for start in range(len(kept) - length + 1)]


def _bind_bucketize(given: tuple[pa.DataType, ...]) -> Bound:
    points, names = Parameter("splitBucketPoints", Kind.NUMBERS), Parameter("bucketNames", Kind.TEXTS)
    return bound(given, (Parameter("value", Kind.NUMBER), points, names), 2, pa.string())


def _bind_ngrams(given: tuple[pa.DataType, ...]) -> Bound:
    parameters = (Parameter("input", Kind.TEXTS), Parameter("nValue", Kind.WHOLE), Parameter("separator", Kind.TEXT))
    return bound(given, parameters, 1, pa.list_(pa.string()))


def _bind_label(given: tuple[pa.DataType, ...]) -> Bound:
    return _bind_categories(given, (Parameter("includeZeroLabel", Kind.TRUTH),), LABEL)


def _bind_one_hot(given: tuple[pa.DataType, ...]) -> Bound:
    return _bind_categories(given, (Parameter("dropLast", Kind.TRUTH), Parameter("handleUnknown", Kind.TEXT)), VECTOR)


def _bind_categories(given: tuple[pa.DataType, ...], others: Sequence[Parameter], result: pa.DataType) -> Bound:
    """An input, categories of its own kind, and other parameters, none of which is needed."""
    require_count(given, 2, 2 + len(others))
    kind = _category(given[0], given[1])
    rest = bound(given[2:], others, 0, result)
    return Bound((kind, pa.list_(kind), *rest.parameters), result)


def _category(value: pa.DataType, categories: pa.DataType) -> pa.DataType:
    """The type that an input and its categories are compared in. Raises UsageError where there is none."""
    lists = pa.types.is_list(categories) or pa.types.is_large_list(categories) or pa.types.is_fixed_size_list(categories)
    if not lists and not pa.types.is_null(categories):
        raise UsageError(f"argument 2, categories, is {categories}; valid: an array")
    both = (value, categories.value_type if lists else pa.null())
    kinds = {Kind.TRUTH: pa.bool_(), Kind.TEXT: pa.string(), Kind.WHOLE: pa.int64(), Kind.NUMBER: pa.float64()}
    for kind, compared in kinds.items():
        if all(fits(one, kind) for one in both):
            return compared
    raise UsageError(f"the input is {both[0]} and the categories are {both[1]}; valid: texts, numbers or truths, both alike")


FUNCTIONS: Final = (
    PureFunction(
        "ML_BUCKETIZE",
        "ML_BUCKETIZE(value, splitBucketPoints [, bucketNames])",
        _bind_bucketize,
        by_settings(_bucketize, pa.string()),
    ),
    PureFunction(
        "ML_LABEL_ENCODER",
        "ML_LABEL_ENCODER(input, categories [, includeZeroLabel])",
        _bind_label,
        by_settings(_label, LABEL),
    ),
    PureFunction(
        "ML_ONE_HOT_ENCODER",
        "ML_ONE_HOT_ENCODER(input, categories [, dropLast [, handleUnknown]])",
        _bind_one_hot,
        by_settings(_one_hot, VECTOR),
    ),
    PureFunction(
        "ML_NGRAMS", "ML_NGRAMS(input [, nValue [, separator]])", _bind_ngrams, by_settings(_ngrams, pa.list_(pa.string()))
    ),
)
