"""Rows as the tensors of a request, and tensors of an answer as values.

Sources: the KServe "Open Inference Protocol, version 2", HTTP/REST, and Triton's "Binary tensor data extension", in which
the bytes of tensors follow the JSON that describes them.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from lakeflow.errors import ModelError
from lakeflow.models.providers.http_errors import MOST_SHOWN
from lakeflow.models.providers.triton_settings import InputTensor, OutputTensor
from lakeflow.models.remote.dialect import Row
from lakeflow.models.shapes import parsed

END_OF_JSON = b"\n"
"""Between the JSON of a request and its binary tensors; JSON itself is written without one."""

_NUMPY = {"BOOL": "?", "INT8": "i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "UINT8": "u1", "UINT16": "<u2"}
_NUMPY |= {"UINT32": "<u4", "UINT64": "<u8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}
ONLY_BINARY = ("FP16",)
"""What JSON has no form for."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of an answer: its values in row-major order, and its dimensions."""

    datatype: str
    shape: tuple[int, ...]
    values: list[Any]


def body_of(
    inputs: Sequence[InputTensor],
    outputs: Sequence[Mapping[str, Any]],
    rows: Sequence[Row],
    shapes: Shapes,
    fixed: Mapping[str, Any],
) -> bytes:
    """A request; `outputs` and `fixed` stand in it as they are. Where rows have lists of different lengths, it is one that
    the server refuses, so that the rows are asked by halves."""
    described: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for tensor in inputs:
        of_rows = [_values_of(tensor, row) for row in rows]
        values = [value for row in of_rows for value in row]
        described.append({"name": tensor.name, "shape": shapes.of(tensor, rows, of_rows), "datatype": tensor.datatype})
        binary = _binary(tensor.datatype, values) if shapes.binary or tensor.datatype in ONLY_BINARY else None
        if binary is None:
            described[-1]["data"] = values
        else:
            described[-1]["parameters"] = {"binary_data_size": len(binary)}
            parts.append(binary)
    asked = {**fixed, "inputs": described, "outputs": outputs}
    head = json.dumps(asked, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return b"".join([head, END_OF_JSON, *parts]) if parts else head


@dataclass(frozen=True, slots=True)
class Shapes:
    """`flat`: without a dimension of rows. `ranks` of the tensors that hold one value a row: 1 for [rows], 2 for [rows, 1]."""

    flat: bool
    binary: bool
    ranks: Mapping[str, int]

    def of(self, tensor: InputTensor, rows: Sequence[Row], of_rows: Sequence[Sequence[object]]) -> list[int]:
        """The dimensions of a tensor for some rows."""
        if tensor.joined:
            inner = [len(of_rows[0])]
        elif tensor.width is None:
            inner = _shape_of(rows[0][tensor.columns[0]])
        else:
            inner = [1] if self.flat or self.ranks.get(tensor.name, 2) == 2 else []
        return inner if self.flat else [len(rows), *inner]


def tensors_in(body: bytes, mixed: bool) -> Mapping[str, Tensor]:
    """The tensors of an answer by name; `mixed` where binary ones may follow. Raises ModelError."""
    end = _end_of_json(body) if mixed else len(body)
    answer, rest = parsed(body[:end]), body[end:]
    match answer:
        case {"outputs": [*outputs]}:
            pass
        case _:
            raise ModelError(f"the answer has no outputs: {json.dumps(answer)[:MOST_SHOWN]}")
    found: dict[str, Tensor] = {}
    for output in outputs:
        match output:
            case {"name": str(name), "datatype": str(kind), "shape": [*shape], "parameters": {"binary_data_size": int(size)}}:
                found[name] = _checked(name, kind, shape, _unpacked(name, kind, rest[:size]))
                rest = rest[size:]
            case {"name": str(name), "datatype": str(kind), "shape": [*shape], "data": [*data]}:
                found[name] = _checked(name, kind, shape, list(_flat(data)))
            case _:
                raise ModelError(f"an output is no tensor: {json.dumps(output)[:MOST_SHOWN]}")
    return found


def column_values(wanted: OutputTensor, tensors: Mapping[str, Tensor], rows: int, flat: bool) -> list[object]:
    """A value for each row. Raises ModelError where the tensor is missing or of another shape."""
    if wanted.name not in tensors:
        raise ModelError(f"the answer has no output {wanted.name!r}; it has {', '.join(sorted(tensors)) or 'none'}")
    tensor = tensors[wanted.name]
    shape = (1, *tensor.shape) if flat else tensor.shape
    if not shape or shape[0] != rows:
        raise ModelError(f"output {wanted.name!r} has the shape {list(tensor.shape)}, and {rows} rows were asked")
    each = math.prod(shape[1:])
    return [_of_row(wanted, tensor.values[place * each : (place + 1) * each], shape[1:]) for place in range(rows)]


def _of_row(wanted: OutputTensor, values: list[Any], shape: tuple[int, ...]) -> object:
    if wanted.index is not None:
        if wanted.index >= len(values):
            raise ModelError(f"output {wanted.name!r} has {len(values)} values a row, and place {wanted.index} is asked for")
        return values[wanted.index]
    if pa.types.is_nested(wanted.column.type):
        return _nested(values, shape)
    if len(values) != 1:
        column = wanted.column.name
        raise ModelError(
            f"output {wanted.name!r} has {len(values)} values a row, and {column!r} is no ARRAY; "
            f"'outputs' = '{wanted.name}[0]:{column}' takes one of them"
        )
    return values[0]


def _nested(values: list[Any], shape: tuple[int, ...]) -> list[Any]:
    if len(shape) <= 1:
        return values
    each = math.prod(shape[1:])
    return [_nested(values[place * each : (place + 1) * each], shape[1:]) for place in range(shape[0])]


def _values_of(tensor: InputTensor, row: Row) -> list[Any]:
    values = list(_flat(row[name] for name in tensor.columns))
    return values if tensor.datatype == "BOOL" else [int(one) if isinstance(one, bool) else one for one in values]


def _flat(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        if isinstance(value, list):
            yield from _flat(value)
        else:
            yield value


def _shape_of(value: object) -> list[int]:
    if not isinstance(value, list):
        return []
    return [len(value), *(_shape_of(value[0]) if value else [])]


def _binary(datatype: str, values: Sequence[Any]) -> bytes | None:
    """The bytes of a tensor; None where a value is null, for which there are none."""
    if any(value is None for value in values):
        return None
    if datatype == "BYTES":
        texts = [value if isinstance(value, bytes) else str(value).encode("utf-8", "replace") for value in values]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    with np.errstate(over="ignore"):
        return np.array(values, _NUMPY[datatype]).tobytes()


def _unpacked(name: str, datatype: str, content: bytes) -> list[Any]:
    if datatype == "BYTES":
        return list(_texts(name, content))
    if datatype not in _NUMPY or len(content) % np.dtype(_NUMPY[datatype]).itemsize:
        raise ModelError(f"output {name!r} is {datatype} in {len(content)} bytes, which cannot be read")
    values: list[Any] = np.frombuffer(content, _NUMPY[datatype]).tolist()
    return values


def _texts(name: str, content: bytes) -> Iterable[str]:
    place = 0
    while place < len(content):
        [size] = struct.unpack_from("<I", content, place) if place + 4 <= len(content) else [len(content)]
        text = content[place + 4 : place + 4 + size]
        if len(text) != size:
            raise ModelError(f"output {name!r} ends within a text")
        try:
            yield text.decode()
        except UnicodeDecodeError as error:
            raise ModelError(f"output {name!r} holds bytes that are no text in UTF-8") from error
        place += 4 + size


def _checked(name: str, datatype: str, shape: Sequence[object], values: list[Any]) -> Tensor:
    dimensions = tuple(one for one in shape if isinstance(one, int) and one >= 0)
    if len(dimensions) != len(shape) or math.prod(dimensions) != len(values):
        raise ModelError(f"output {name!r} has the shape {list(shape)} and {len(values)} values")
    return Tensor(datatype, dimensions, values)


def _end_of_json(body: bytes) -> int:
    """Where the object of JSON at the start of a body ends; a byte is a character here, whatever follows."""
    try:
        return json.JSONDecoder().raw_decode(body.decode("latin-1"))[1]
    except (ValueError, RecursionError) as error:
        raise ModelError(f"the answer begins with no JSON: {error}") from error
