"""INPUT columns -> the tensors that a tabular graph takes.

A graph with one input takes the columns, in INPUT order, as one matrix [rows, columns]; where INPUT is one column of
lists, these are the matrix. A graph with several inputs takes one column each, [rows] or [rows, 1], found by name.
Numbers become the tensor's type, except that a fraction never becomes an integer; strings go to string tensors only.
A null feature, and NaN unless 'nan' = 'pass', makes its row one that is failed, filled or not asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.errors import ModelError, did_you_mean
from lakeflow.models.providers.onnx_session import Array, Tensor
from lakeflow.models.providers.onnx_settings import NanPolicy, NullPolicy, TabularSettings
from lakeflow.models.providers.task_outputs import is_list


@dataclass(frozen=True, slots=True)
class Feed:
    """An input of the graph and the positions of the INPUT columns that fill it. `width` of None: left open by the graph."""

    tensor: Tensor
    columns: tuple[int, ...]
    matrix: bool
    width: int | None


@dataclass(frozen=True, slots=True)
class Features:
    """The arrays to feed, and which of the rows are in them; `asked` of None means every row."""

    arrays: Mapping[str, Array]
    asked: Array | None
    rows: int


def plan_inputs(label: str, declared: pa.Schema, tensors: Sequence[Tensor]) -> tuple[Feed, ...]:
    """Which columns fill which input. Raises ModelError where names, widths or types do not fit."""
    single = len(tensors) == 1
    feeds = (_single(label, declared, tensors[0]),) if single else _one_each(label, declared, tensors)
    for feed in feeds:
        for position in feed.columns:
            _check_type(label, declared.field(position), feed.tensor)
    return feeds


def _single(label: str, declared: pa.Schema, tensor: Tensor) -> Feed:
    everything = tuple(range(len(declared)))
    lists = [column.name for column in declared if is_list(column.type)]
    if lists and len(declared) > 1:
        raise ModelError(
            f"{label}: INPUT column {lists[0]!r} holds lists, beside other columns; "
            f"the graph's only input is {tensor}, which takes one column of lists or columns of single values"
        )
    rank = len(tensor.shape) if tensor.shape is not None else 2
    if rank == 1 and len(declared) == 1 and not lists:
        return Feed(tensor, everything, matrix=False, width=None)
    if rank != 2:
        raise ModelError(f"{label}: the graph's input {tensor} is no matrix of rows and features; columns can fill only such")
    width = tensor.shape[1] if tensor.shape is not None else None
    given = _list_width(declared.field(0).type) if lists else len(declared)
    if width is not None and given is not None and width != given:
        raise ModelError(
            f"{label}: the graph's input {tensor} takes {width} features, INPUT declares {given}: {', '.join(declared.names)}"
        )
    return Feed(tensor, everything, matrix=True, width=width if width is not None else given)


def _one_each(label: str, declared: pa.Schema, tensors: Sequence[Tensor]) -> tuple[Feed, ...]:
    known = {tensor.name: tensor for tensor in tensors}
    for name in declared.names:
        if name not in known:
            raise ModelError(f"{label}: INPUT column {name!r} is no input of the graph{did_you_mean(name, known)}")
    missing = sorted(set(known) - set(declared.names))
    if missing:
        raise ModelError(
            f"{label}: INPUT has no column for the graph's input {known[missing[0]]}; its inputs: {', '.join(sorted(known))}"
        )
    return tuple(_column_feed(label, position, column, known[column.name]) for position, column in enumerate(declared))


def _column_feed(label: str, position: int, column: pa.Field, tensor: Tensor) -> Feed:
    rank = len(tensor.shape) if tensor.shape is not None else 2
    width = tensor.shape[1] if tensor.shape is not None and rank == 2 else None
    given = _list_width(column.type) if is_list(column.type) else 1
    if rank > 2 or (rank == 1 and is_list(column.type)) or (width is not None and given is not None and width != given):
        raise ModelError(
            f"{label}: INPUT column {column.name!r}, which is {column.type}, does not fit the graph's input {tensor}"
        )
    return Feed(tensor, (position,), matrix=rank == 2, width=width if width is not None else given)


def _check_type(label: str, column: pa.Field, tensor: Tensor) -> None:
    kind = column.type.value_type if is_list(column.type) else column.type
    if not _fits(kind, tensor.dtype):
        raise ModelError(
            f"{label}: INPUT column {column.name!r} is {column.type}, the graph's input {tensor} does not take that",
            next_step="declare the column with the type that the graph takes, or export the graph with another input type",
        )


def _fits(kind: pa.DataType, dtype: np.dtype[Any] | None) -> bool:
    if dtype is None:
        return False
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return dtype.kind == "O"
    if pa.types.is_boolean(kind):
        return dtype.kind in "biuf"
    if pa.types.is_integer(kind):
        return dtype.kind in "iuf"
    return (pa.types.is_floating(kind) or pa.types.is_decimal(kind)) and dtype.kind == "f"


def _list_width(kind: pa.DataType) -> int | None:
    return int(kind.list_size) if pa.types.is_fixed_size_list(kind) else None


def build_features(
    label: str, rows: pa.RecordBatch, feeds: Sequence[Feed], settings: TabularSettings, first_row: int
) -> Features:
    """The arrays for `rows`, the first of which is row `first_row` of its batch.

    Raises ModelError for a null under 'error', for lists of unequal length, and for an integer that the tensor's type
    cannot hold.
    """
    arrays: dict[str, Array] = {}
    missing: Array | None = None
    for feed in feeds:
        array, absent = _filled(label, rows, feed, settings, first_row)
        if settings.nan is NanPolicy.NULL and array.dtype.kind == "f" and array.size and np.isnan(array.min()):
            array, absent = _filled(label, rows, feed, settings, first_row, look_for_nan=True)
        if absent is not None:
            missing = absent if missing is None else missing | absent
        arrays[feed.tensor.name] = array
    if missing is None:
        return Features(arrays, None, rows.num_rows)
    asked = ~missing
    return Features({name: array[asked] for name, array in arrays.items()}, asked, rows.num_rows)


def _filled(
    label: str, rows: pa.RecordBatch, feed: Feed, settings: TabularSettings, first_row: int, *, look_for_nan: bool = False
) -> tuple[Array, Array | None]:
    """The feed's array, and which rows have no value in one of its columns. NaN is sought only on demand: it is rare,
    and one look at the finished array tells whether there is any."""
    array: Array | None = None
    missing: Array | None = None
    for place, position in enumerate(feed.columns):
        name = rows.schema.names[position]
        try:
            values, absent = _values(rows.column(position), feed.width, settings, settings.fills.get(name), look_for_nan)
            array = _place(array, values, feed, place)
        except (pa.ArrowInvalid, ValueError) as error:
            raise ModelError(f"{label}: column {name!r} does not fit the graph's input {feed.tensor}: {error}") from error
        if absent is not None:
            if settings.null_policy is NullPolicy.ERROR:
                raise _null_refused(label, name, first_row + int(absent.argmax()))
            missing = absent if missing is None else missing | absent
    assert array is not None, "a feed has a column"
    return array, missing


def _place(array: Array | None, values: Array, feed: Feed, place: int) -> Array:
    """`values` as column `place` of the feed's array, or as the whole of it where they are a matrix or stand alone."""
    dtype = feed.tensor.dtype
    assert dtype is not None, "plan_inputs has refused the others"
    _check_range(values, dtype)
    with np.errstate(over="ignore"):
        if values.ndim == 2 or not feed.matrix:
            return np.ascontiguousarray(values, dtype=dtype)
        if array is None:
            array = np.empty((len(values), len(feed.columns)), dtype=dtype)
        array[:, place] = values
    return array


def _check_range(values: Array, dtype: np.dtype[Any]) -> None:
    if dtype.kind in "iu" and values.dtype.kind in "iu" and values.size and not np.can_cast(values.dtype, dtype):
        limits = np.iinfo(dtype)
        low, high = int(values.min()), int(values.max())
        if low < limits.min or high > limits.max:
            raise ValueError(f"{low if low < limits.min else high} is outside {limits.min} to {limits.max}")


def _values(
    column: pa.Array, width: int | None, settings: TabularSettings, fill: pa.Scalar | None, look_for_nan: bool
) -> tuple[Array, Array | None]:
    """The column in numpy's terms, nulls replaced, and which rows have none; that is None where all have one."""
    if is_list(column.type):
        values, absent = _list_values(column, width)
    else:
        if pa.types.is_decimal(column.type):
            column = column.cast(pa.float64())
        absent = column.is_null().to_numpy(zero_copy_only=False) if column.null_count else None
        values = _single_values(column if absent is None else column.fill_null(_stand_in(column.type, fill)))
    if look_for_nan and values.dtype.kind == "f":
        holes: Array = np.isnan(values)
        values = np.where(holes, 0 if fill is None else fill.as_py(), values)
        if holes.ndim == 2:
            holes = np.asarray(holes.any(axis=1))
        if holes.any():
            absent = holes if absent is None else absent | holes
    return values, None if settings.null_policy is NullPolicy.FILL else absent


def _stand_in(kind: pa.DataType, fill: pa.Scalar | None) -> pa.Scalar:
    if fill is not None:
        return fill.cast(kind)
    return pa.scalar("" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else 0).cast(kind)


def _single_values(column: pa.Array) -> Array:
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        encoded = column.dictionary_encode()  # each distinct string becomes one Python object, not each row
        words = encoded.dictionary.to_numpy(zero_copy_only=False).astype(object)
        values: Array = words[encoded.indices.to_numpy()]
        return values
    plain: Array = column.to_numpy(zero_copy_only=False)
    return plain


def _list_values(column: pa.Array, width: int | None) -> tuple[Array, Array | None]:
    """Lists as a matrix [rows, width]; a list that is null or holds one makes its row absent."""
    present = column.is_valid().to_numpy(zero_copy_only=False)
    lists = column.drop_null()
    lengths = np.full(len(lists), column.type.list_size) if pa.types.is_fixed_size_list(column.type) else _lengths(lists)
    expected = width if width is not None else int(lengths[0]) if len(lengths) else 0
    if (lengths != expected).any():
        odd = int((lengths != expected).argmax())
        raise ValueError(f"a list of {lengths[odd]} values (row {np.flatnonzero(present)[odd]}) where {expected} are expected")
    flat = lists.flatten()
    dense = _single_values(flat.fill_null(_stand_in(flat.type, None)) if flat.null_count else flat)
    values = np.zeros((len(column), expected), dtype=dense.dtype)
    values[present] = dense.reshape(len(lists), expected)
    absent = ~present
    if flat.null_count:
        absent[present] |= flat.is_null().to_numpy(zero_copy_only=False).reshape(len(lists), expected).any(axis=1)
    return values, absent if absent.any() else None


def _lengths(lists: pa.Array) -> Array:
    lengths: Array = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    return lengths


def _null_refused(label: str, name: str, row: int) -> ModelError:
    return ModelError(
        f"{label}: column {name!r} is null in row {row} of the batch, and 'null_policy' is 'error'",
        next_step="filter such rows in the job, or set 'null_policy' to 'null' or 'fill' in the model's WITH (..)",
    )
