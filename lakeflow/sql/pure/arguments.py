"""The arguments of pure functions: which types they may have, and their values as functions work with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pyarrow as pa

from lakeflow.errors import UsageError
from lakeflow.sql.pure.registry import Bound

Floats = np.ndarray


class Kind(StrEnum):
    """What an argument is; a NULL is any of them."""

    NUMBER = "a number"
    WHOLE = "a whole number"
    TRUTH = "TRUE or FALSE"
    TEXT = "a text"
    NUMBERS = "an array of numbers"
    TEXTS = "an array of texts"


CASTS: dict[Kind, pa.DataType] = {
    Kind.NUMBER: pa.float64(),
    Kind.WHOLE: pa.int64(),
    Kind.TRUTH: pa.bool_(),
    Kind.TEXT: pa.string(),
    Kind.NUMBERS: pa.list_(pa.float64()),
    Kind.TEXTS: pa.list_(pa.string()),
}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter by the name that messages give it."""

    name: str
    kind: Kind


def bound(given: Sequence[pa.DataType], parameters: Sequence[Parameter], needed: int, result: pa.DataType) -> Bound:
    """A function of these parameters, the first `needed` of which must be given. Raises UsageError, naming the argument."""
    require_count(given, needed, len(parameters))
    for place, (kind, parameter) in enumerate(zip(given, parameters, strict=False)):
        if not fits(kind, parameter.kind):
            raise UsageError(f"argument {place + 1}, {parameter.name}, is {kind}; valid: {parameter.kind}")
    return Bound(tuple(CASTS[one.kind] for one in parameters[: len(given)]), result)


def require_count(given: Sequence[pa.DataType], least: int, most: int) -> None:
    """Raises UsageError where there are fewer or more arguments."""
    if not least <= len(given) <= most:
        valid = str(most) if least == most else f"{least} to {most}"
        raise UsageError(f"takes {valid} arguments, given: {len(given)}")


def fits(given: pa.DataType, kind: Kind) -> bool:
    """Whether values of a type are of the kind."""
    if pa.types.is_null(given):
        return True
    match kind:
        case Kind.NUMBER:
            return bool(pa.types.is_integer(given) or pa.types.is_floating(given) or pa.types.is_decimal(given))
        case Kind.WHOLE:
            return bool(pa.types.is_integer(given))
        case Kind.TRUTH:
            return bool(pa.types.is_boolean(given))
        case Kind.TEXT:
            return bool(pa.types.is_string(given) or pa.types.is_large_string(given) or pa.types.is_string_view(given))
        case Kind.NUMBERS | Kind.TEXTS:
            lists = pa.types.is_list(given) or pa.types.is_large_list(given) or pa.types.is_fixed_size_list(given)
            return bool(lists) and fits(given.value_type, Kind.NUMBER if kind is Kind.NUMBERS else Kind.TEXT)


def floats(column: pa.Array) -> Floats:
    """Numbers as float64, NaN in place of NULL."""
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def truths(column: pa.Array, function: str, name: str) -> Floats:
    """Truths. Raises UsageError for a NULL."""
    if column.null_count:
        raise UsageError(f"{function}: {name} is NULL; valid: TRUE, FALSE")
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=bool)


def by_settings(answer: Callable[..., pa.Array], result: pa.DataType) -> Callable[[pa.RecordBatch], pa.Array]:
    """A function whose first argument varies and whose others are settings, for the most part the same in all rows.

    `answer` gets values of the first argument as a column, and the settings that they share as plain values.
    """

    def call(rows: pa.RecordBatch) -> pa.Array:
        values, *settings = rows.columns
        if not rows.num_rows:
            return pa.array([], result)
        if all(_is_constant(column) for column in settings):
            return answer(values, *(column[0].as_py() for column in settings))
        each = zip(*(column.to_pylist() for column in settings), strict=True)
        parts = [answer(values.slice(place, 1), *given) for place, given in enumerate(each)]
        return pa.concat_arrays(parts)

    return call


def _is_constant(column: pa.Array) -> bool:
    return bool(column.slice(1).equals(column.slice(0, len(column) - 1)))
