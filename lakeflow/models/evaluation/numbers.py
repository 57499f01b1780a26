"""Columns as arrays of floats. Pure."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.errors import ModelError
from lakeflow.models.evaluation.values import Floats


def is_list(kind: pa.DataType) -> bool:
    """Whether values are lists, of whatever length."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def is_number(kind: pa.DataType) -> bool:
    """Whether values are numbers, truths not among them."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def vector(column: pa.Array) -> Floats:
    """A column of numbers without nulls as float64 [rows]."""
    if pa.types.is_decimal(column.type) or not pa.types.is_float64(column.type):
        column = column.cast(pa.float64(), safe=False)
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)


def matrix(column: pa.Array, width: int | None, what: str) -> Floats:
    """A column of lists without nulls as float64 [rows, width]; `width` of None: that of the first.

    Raises ModelError where a list is of another length; `what` says what the lists hold.
    """
    lengths = np.asarray(pc.list_value_length(column).to_numpy(zero_copy_only=False), dtype=np.int64)
    wanted = width if width is not None else int(lengths[0]) if len(lengths) else 0
    wrong = lengths[lengths != wanted]
    if wrong.size:
        raise ModelError(f"a list of {what} holds {int(wrong[0])}, where {wanted} are needed")
    return vector(pc.list_flatten(column)).reshape(len(column), wanted)


def defined(column: pa.Array) -> pa.Array:
    """Whether each row holds a value: no null, no NaN and no infinity, within lists neither."""
    if is_list(column.type):
        return _defined_lists(column)
    present = pc.is_valid(column)
    if pa.types.is_floating(column.type):
        present = pc.and_(present, pc.fill_null(pc.is_finite(column), False))
    return present


def _defined_lists(column: pa.Array) -> pa.Array:
    present = np.array(pc.is_valid(column))
    inner = pc.list_flatten(column)
    parents = np.asarray(pc.list_parent_indices(column))
    wrong = ~np.asarray(defined(inner))
    present[parents[wrong]] = False
    return pa.array(present)
