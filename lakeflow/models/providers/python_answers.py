"""Rows that a class of the project is given, and what it may give back, as OUTPUT columns. Pure.

An answer is one of: a record batch, a table or a data frame with OUTPUT's columns; a mapping of columns by name; where OUTPUT
is one column, that column. A column is a list, a NumPy array ([rows], or [rows, width] for lists; [rows, 1] counts as [rows]),
or whatever Arrow or NumPy can read: Arrow arrays, series of Polars and pandas, tensors of PyTorch in main memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.errors import ModelError
from lakeflow.models.columns import castable
from lakeflow.models.providers.task_outputs import is_list
from lakeflow.models.remote.settings import NullPolicy
from lakeflow.models.spec import ModelSpec

NOT_AS_DECLARED = "change what predict returns, or OUTPUT"


def asked_rows(spec: ModelSpec, rows: pa.RecordBatch, policy: NullPolicy, first_row: int) -> pa.Array | None:
    """Which rows are handed over; None for all. A null, NaN, or a list with one of them in it, is a missing value.

    `first_row` is the number of the first one among all that were handed over. Raises ModelError under 'error'.
    """
    if policy is NullPolicy.ASK:
        return None
    complete: pa.Array | None = None
    for column, declared in zip(rows.columns, spec.input, strict=True):
        missing = _missing(column)
        if missing is None or not pc.any(missing).as_py():
            continue
        if policy is NullPolicy.ERROR:
            number = first_row + pc.index(missing, True).as_py()
            raise ModelError(
                f"{spec.label}: INPUT {declared.name!r} is null in row {number} of those handed over",
                next_step="filter such rows out in the job, or say 'null_policy' = 'null' or 'ask'",
            )
        complete = pc.invert(missing) if complete is None else pc.and_(complete, pc.invert(missing))
    return complete


def _missing(column: pa.Array) -> pa.Array | None:
    """Which rows have no whole value; None where all have one."""
    kind = column.type
    if pa.types.is_floating(kind):
        return pc.is_null(column, nan_is_null=True)
    missing = pc.is_null(column) if column.null_count else None
    if is_list(kind):
        inner = _missing(pc.list_flatten(column))
        if inner is not None and pc.any(inner).as_py():
            holes = np.zeros(len(column), dtype=np.bool_)
            holes[pc.list_parent_indices(column).filter(inner).to_numpy()] = True
            missing = pa.array(holes) if missing is None else pc.or_(missing, pa.array(holes))
    return missing


def spread(column: pa.Array, asked: pa.Array) -> pa.Array:
    """The answers of the rows that were asked as a column of all rows, null for the others."""
    places = pc.subtract(pc.cumulative_sum(asked.cast(pa.int64())), 1)
    return column.take(pc.if_else(asked, places, pa.scalar(None, pa.int64())))


def output_columns(spec: ModelSpec, answer: object, rows: int) -> list[pa.Array]:
    """The OUTPUT columns of an answer to `rows` rows. Raises ModelError, with both sides, where it is of another shape."""
    given = _by_name(spec, answer)
    if set(given) != set(spec.output.names):
        raise _not_as_declared(
            spec, f"gave the columns {', '.join(map(str, given)) or 'none'}; OUTPUT declares {', '.join(spec.output.names)}"
        )
    return [_column(spec, given[declared.name], declared, rows) for declared in spec.output]


def _by_name(spec: ModelSpec, answer: object) -> Mapping[Any, object]:
    if isinstance(answer, pa.RecordBatch | pa.Table):
        return dict(zip(answer.schema.names, answer.columns, strict=True))
    if isinstance(answer, Mapping):
        return answer
    if hasattr(answer, "__arrow_c_stream__") and hasattr(answer, "columns"):
        return _by_name(spec, pa.table(answer))
    if len(spec.output) > 1:
        raise _not_as_declared(
            spec,
            f"gave {_kind(answer)}; OUTPUT declares {len(spec.output)} columns, {', '.join(spec.output.names)}, "
            "which a mapping of columns by name or a record batch holds",
        )
    return {spec.output.names[0]: answer}


def _column(spec: ModelSpec, value: object, declared: pa.Field, rows: int) -> pa.Array:
    try:
        array = _array(value, declared.type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise _not_as_declared(
            spec, f"gave {_kind(value)} for OUTPUT {declared.name!r}, {declared.type}, which is no column: {error}"
        ) from error
    if len(array) != rows:
        raise _not_as_declared(spec, f"gave {len(array)} values for OUTPUT {declared.name!r} to {rows} rows")
    if not _fits(array.type, declared.type):
        raise _not_as_declared(
            spec, f"gave {array.type} for OUTPUT {declared.name!r}, which is declared {declared.type}; such a cast is not made"
        )
    try:
        return array.cast(declared.type, safe=not pa.types.is_floating(declared.type))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise _not_as_declared(
            spec, f"gave {array.type} for OUTPUT {declared.name!r}, where a value does not fit {declared.type}: {error}"
        ) from error


def _array(value: Any, declared: pa.DataType) -> pa.Array:
    if isinstance(value, pa.Array | pa.ChunkedArray):
        return value.combine_chunks() if isinstance(value, pa.ChunkedArray) else value
    if isinstance(value, list | tuple):
        return pa.array(value)
    if hasattr(value, "__arrow_c_array__"):
        return pa.array(value)
    if hasattr(value, "__arrow_c_stream__"):
        return pa.chunked_array(value).combine_chunks()
    if not hasattr(value, "__array__"):
        raise TypeError("valid: a list, an array of NumPy or Arrow, a series, a tensor")
    array = value if isinstance(value, np.ndarray) else np.asarray(value)
    if array.ndim == 2 and array.shape[1] == 1 and not is_list(declared):
        array = array[:, 0]
    if array.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(array).reshape(-1)), array.shape[1])
    if array.ndim != 1:
        raise ValueError(f"its shape is {list(array.shape)}; valid: [rows], [rows, width]")
    return pa.array(array)


def _fits(given: pa.DataType, declared: pa.DataType) -> bool:
    """Whether values of one type are meant where OUTPUT declares another: as for INPUT, and fields of a ROW by name."""
    if is_list(given) and is_list(declared):
        return _fits(given.value_type, declared.value_type)
    if pa.types.is_struct(given) and pa.types.is_struct(declared):
        names = [one.name for one in given]
        return sorted(names) == sorted(one.name for one in declared) and all(
            _fits(one.type, declared.field(one.name).type) for one in given
        )
    return castable(given, declared)


def _kind(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def _not_as_declared(spec: ModelSpec, problem: str) -> ModelError:
    return ModelError(f"{spec.label}: predict of {spec.options.get('class', '?')} {problem}", next_step=NOT_AS_DECLARED)
