"""What a graph gives -> OUTPUT columns.

Each OUTPUT column is found by the first of these that applies:
1. option 'outputs' names its tensor: `'label:late, probabilities[1]:late_probability'`;
2. a tensor of the graph bears its name;
3. the only tensor of its kind: for a list a matrix of floats, whole; for a FLOAT, DOUBLE or DECIMAL the float tensor with
   one value a row, or in a classification the second column (the positive class) of a matrix of two; for any other type
   the tensor of integers, strings or truths with one value a row (the labels).
Anything else, and two that would do, is refused with the tensors that there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lakeflow.errors import ModelError, did_you_mean
from lakeflow.models.providers.onnx_session import Array, Tensor
from lakeflow.models.providers.onnx_settings import TensorRef
from lakeflow.models.providers.task_outputs import is_float_list, is_list, is_real
from lakeflow.models.spec import ModelSpec, Task

WITHOUT_ZIPMAP = "convert the model again without it: skl2onnx.to_onnx(model, X, options={'zipmap': False})"


@dataclass(frozen=True, slots=True)
class Answer:
    """An OUTPUT column and where its values stand: a tensor, one column of it, or for a list each row of it."""

    column: pa.Field
    source: TensorRef


def plan_answers(spec: ModelSpec, tensors: Sequence[Tensor], mapping: Mapping[str, TensorRef]) -> tuple[Answer, ...]:
    """Where each OUTPUT column comes from; `tensors` have the shapes that a run gave. Raises ModelError."""
    known = {tensor.name: tensor for tensor in tensors}
    answers: list[Answer] = []
    for column in spec.output:
        source = mapping.get(column.name) or _by_name(spec, column, known) or _by_kind(spec, column, known)
        if source.tensor not in known:
            raise ModelError(
                f"{spec.label}: option 'outputs' takes column {column.name!r} from {source.tensor!r}, "
                f"which is no output of the graph{did_you_mean(source.tensor, known)}"
            )
        _check_fit(spec, column, source, known[source.tensor])
        answers.append(Answer(column, source))
    return tuple(answers)


def _by_name(spec: ModelSpec, column: pa.Field, known: Mapping[str, Tensor]) -> TensorRef | None:
    if column.name not in known:
        return None
    positive = spec.task is Task.CLASSIFICATION and is_real(column.type) and _width(known[column.name]) == 2
    return TensorRef(column.name, 1 if positive else None)


def _by_kind(spec: ModelSpec, column: pa.Field, known: Mapping[str, Tensor]) -> TensorRef:
    found: list[TensorRef] = []
    for tensor in known.values():
        width, kind = _width(tensor), tensor.dtype.kind if tensor.dtype is not None else ""
        if is_list(column.type):
            found += [TensorRef(tensor.name)] if kind == "f" and width is not None and width != 1 else []
        elif not is_real(column.type):
            found += [TensorRef(tensor.name)] if kind in "iuOb" and kind and width == 1 else []
        elif kind == "f" and width == 1:
            found.append(TensorRef(tensor.name))
        elif kind == "f" and width == 2 and spec.task is Task.CLASSIFICATION:
            found.append(TensorRef(tensor.name, 1))
    if len(found) == 1:
        return found[0]
    zipped = [tensor for tensor in known.values() if tensor.type.startswith("seq(map")]
    if not found and zipped:
        raise _zipmap_refused(spec, zipped[0])
    raise ModelError(
        f"{spec.label}: {'no output' if not found else 'more than one output'} of the graph fits OUTPUT column "
        f"{column.name!r}, which is {column.type}; its outputs: {'; '.join(map(str, known.values()))}",
        next_step=f"say which in its WITH (..), for instance 'outputs' = '{next(iter(known))}:{column.name}'; "
        "tensor[1] is the second column of a matrix",
    )


def _check_fit(spec: ModelSpec, column: pa.Field, source: TensorRef, tensor: Tensor) -> None:
    width = _width(tensor)
    if tensor.type.startswith("seq(map"):
        raise _zipmap_refused(spec, tensor)
    if tensor.dtype is None or width is None:
        raise ModelError(f"{spec.label}: the graph's output {tensor} has no row for each row; OUTPUT column {column.name!r}")
    if is_list(column.type):
        size = column.type.list_size if pa.types.is_fixed_size_list(column.type) else width
        fits = source.index is None and is_float_list(column.type) and tensor.dtype.kind == "f" and size == width
    else:
        inside = width == 1 if source.index is None else source.index < width
        fits = inside and _holds(column.type, tensor.dtype.kind)
    if not fits:
        raise ModelError(
            f"{spec.label}: OUTPUT column {column.name!r} is {column.type}, which the graph's {source} does not fit: "
            f"{tensor}, {width} to a row"
        )


def _holds(kind: pa.DataType, numpy_kind: str) -> bool:
    match numpy_kind:
        case "f":
            return is_real(kind)
        case "O":
            return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
        case "b":
            return bool(pa.types.is_boolean(kind) or pa.types.is_integer(kind))
        case _:
            return pa.types.is_integer(kind) or pa.types.is_boolean(kind) or is_real(kind)


def answer_column(label: str, answer: Answer, tensor: Array, asked: Array | None, rows: int) -> pa.Array:
    """The tensor's values for the rows that were asked, as the OUTPUT column of all `rows`; the others are null.

    Raises ModelError where a value does not fit the column's type.
    """
    kind = answer.column.type
    if is_list(kind):
        return _list_column(kind, tensor if tensor.ndim == 2 else tensor[:, None], asked, rows)
    picked = tensor.reshape(len(tensor)) if answer.source.index is None else tensor[:, answer.source.index]
    if asked is not None:
        spread = np.zeros(rows, dtype=picked.dtype)
        spread[asked] = picked
        picked = spread
    try:
        if pa.types.is_boolean(kind) and picked.dtype.kind in "iu" and not np.isin(picked, (0, 1)).all():
            raise ValueError(f"labels other than 0 and 1: {sorted(set(picked.tolist()) - {0, 1})[:5]}")
        dtype = np.dtype(np.float64) if pa.types.is_float64(kind) else picked.dtype
        values = pa.array(np.ascontiguousarray(picked, dtype=dtype), mask=None if asked is None else ~asked)
        return values.cast(kind, safe=not pa.types.is_floating(kind))
    except (pa.ArrowInvalid, ValueError) as error:
        raise ModelError(f"{label}: an answer does not fit OUTPUT column {answer.column.name!r}, {kind}: {error}") from error


def _list_column(kind: pa.DataType, matrix: Array, asked: Array | None, rows: int) -> pa.Array:
    width = matrix.shape[1]
    if pa.types.is_fixed_size_list(kind):
        if asked is not None:
            spread = np.zeros((rows, width), dtype=matrix.dtype)
            spread[asked] = matrix
            matrix = spread
        flat = pa.array(np.ascontiguousarray(matrix).reshape(-1)).cast(kind.value_type, safe=False)
        return pa.FixedSizeListArray.from_arrays(flat, type=kind, mask=None if asked is None else pa.array(~asked))
    flat = pa.array(np.ascontiguousarray(matrix).reshape(-1)).cast(kind.value_type, safe=False)
    lengths = np.full(rows, width) if asked is None else np.where(asked, width, 0)
    large = pa.types.is_large_list(kind)
    offsets = pa.array(np.concatenate(([0], np.cumsum(lengths))), pa.int64() if large else pa.int32())
    build = pa.LargeListArray if large else pa.ListArray
    return build.from_arrays(offsets, flat, type=kind, mask=None if asked is None else pa.array(~asked))


def empty_answers(output: pa.Schema) -> pa.RecordBatch:
    """OUTPUT columns without a row."""
    return pa.RecordBatch.from_pylist([], schema=output)


def _width(tensor: Tensor) -> int | None:
    """Values to a row; None where the tensor has no such number."""
    match tensor.shape:
        case (_,):
            return 1
        case (_, int(width)):
            return width
        case _:
            return None


def _zipmap_refused(spec: ModelSpec, tensor: Tensor) -> ModelError:
    return ModelError(
        f"{spec.label}: the graph's output {tensor.name} is {tensor.type}, made by ZipMap", next_step=WITHOUT_ZIPMAP
    )
