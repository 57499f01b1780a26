"""The options of provider triton, read into values. Nothing is opened here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

import pyarrow as pa

from lakeflow.errors import DeclarationError, UnknownName
from lakeflow.models import options
from lakeflow.models.providers.declared import address, header_text, require_vector
from lakeflow.models.spec import ModelSpec, Task

SERVICE_OPTIONS = (
    "endpoint",
    "model_name",
    "model_version",
    "auth_token",
    "input_name",
    "input_types",
    "outputs",
    "batch_size",
    "flatten_batch_dim",
    "binary_data",
    "priority",
)
ROWS_A_REQUEST = 64
LATEST = "latest"
_WHOLE_NUMBERS = ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
_REALS = ("FP16", "FP32", "FP64")
DATATYPES = ("BOOL", *_WHOLE_NUMBERS, *_REALS, "BYTES")

_OF_TYPE: Mapping[pa.DataType, str] = {
    pa.bool_(): "BOOL",
    pa.int8(): "INT8",
    pa.int16(): "INT16",
    pa.int32(): "INT32",
    pa.int64(): "INT64",
    pa.uint8(): "UINT8",
    pa.uint16(): "UINT16",
    pa.uint32(): "UINT32",
    pa.uint64(): "UINT64",
    pa.float16(): "FP16",
    pa.float32(): "FP32",
    pa.float64(): "FP64",
    pa.string(): "BYTES",
    pa.large_string(): "BYTES",
    pa.binary(): "BYTES",
    pa.large_binary(): "BYTES",
}
_BYTES_OF = {"8": 1, "16": 2, "32": 4, "64": 8}


@dataclass(frozen=True, slots=True)
class InputTensor:
    """A tensor that is sent: one column, or all of them `joined`, the values of a row one after the other. `width` is how
    many values a row has, None where its lists say it."""

    name: str
    columns: tuple[str, ...]
    datatype: str
    width: int | None
    joined: bool = False


@dataclass(frozen=True, slots=True)
class OutputTensor:
    """Where an OUTPUT column stands: a tensor, or one place of its rows."""

    name: str
    index: int | None
    column: pa.Field


@dataclass(frozen=True, slots=True)
class TritonSettings:
    """`base` is the server, `url` the model's. `flat`: tensors have no dimension of rows, so that a request is one row."""

    base: str
    url: str
    model: str
    inputs: tuple[InputTensor, ...]
    outputs: tuple[OutputTensor, ...]
    batch_size: int
    flat: bool
    binary: bool
    priority: int
    token: str = field(repr=False)

    def headers(self) -> Mapping[str, str]:
        return {"authorization": f"Bearer {self.token}"} if self.token else {}


def read_triton(spec: ModelSpec, columns: Sequence[pa.Field]) -> TritonSettings:
    """The settings in a spec's options; `columns` are the OUTPUT columns but those of errors. Raises UnknownName and
    DeclarationError."""
    if spec.task is Task.EMBEDDING:
        require_vector(spec, columns)
    base = address(spec, "endpoint").removesuffix("/models").removesuffix("/v2")
    name, version = options.required(spec, "model_name"), spec.options.get("model_version", LATEST).strip() or LATEST
    path = f"{base}/v2/models/{quote(name, safe='')}"
    flat = options.truth(spec, "flatten_batch_dim") or False
    size = options.whole_number(spec, "batch_size", 1 if flat else ROWS_A_REQUEST)
    if flat and size > 1:
        raise DeclarationError(f"{spec.label}: option 'batch_size' is {size}; valid with 'flatten_batch_dim' = 'true': 1")
    binary = options.truth(spec, "binary_data") or False
    return TritonSettings(
        base,
        path if version == LATEST else f"{path}/versions/{quote(version, safe='')}",
        name if version == LATEST else f"{name}@{version}",
        _inputs(spec, binary),
        _outputs(spec, columns),
        size,
        flat,
        binary,
        options.whole_number(spec, "priority", 0, least=0),
        re.sub(r"^bearer\s+", "", header_text(spec, "auth_token"), flags=re.IGNORECASE),
    )


def leaf_of(kind: pa.DataType) -> pa.DataType:
    """The type of the values within lists."""
    while _is_list(kind):
        kind = kind.value_type
    return kind


def may_fill(datatype: str, kind: pa.DataType) -> bool:
    """Whether values of a datatype fit a column's type, before they are seen."""
    leaf = leaf_of(kind)
    if datatype == "BYTES":
        return bool(pa.types.is_string(leaf) or pa.types.is_large_string(leaf))
    if datatype == "BOOL":
        return bool(pa.types.is_boolean(leaf))
    is_real = bool(pa.types.is_floating(leaf) or pa.types.is_decimal(leaf))
    return is_real or (datatype in _WHOLE_NUMBERS and bool(pa.types.is_integer(leaf)))


def _inputs(spec: ModelSpec, binary: bool) -> tuple[InputTensor, ...]:
    parts = [part.rpartition(":") for part in options.parts(spec, "input_types")]
    given = options.by_column(
        spec, "input_types", [(name.strip(), kind.strip().upper()) for name, _, kind in parts], spec.input.names
    )
    types = {column.name: _datatype(spec, column, given.get(column.name), binary) for column in spec.input}
    if "input_name" not in spec.options:
        return tuple(
            InputTensor(one.name, (one.name,), types[one.name], None if _is_list(one.type) else 1) for one in spec.input
        )
    different = sorted(set(types.values()))
    if len(different) > 1:
        raise DeclarationError(
            f"{spec.label}: 'input_name' puts all INPUT columns into one tensor, which has one datatype; they are "
            f"{', '.join(f'{name} {kind}' for name, kind in types.items())}",
            next_step="declare them alike, or say how they are sent, as 'input_types' = 'hour:FP32, distance:FP32'",
        )
    width = None if any(_is_list(one.type) for one in spec.input) else len(spec.input)
    return (InputTensor(options.required(spec, "input_name"), tuple(spec.input.names), different[0], width, joined=True),)


def _datatype(spec: ModelSpec, column: pa.Field, wanted: str | None, binary: bool) -> str:
    leaf = leaf_of(column.type)
    own = _OF_TYPE.get(leaf)
    if own is None:
        raise DeclarationError(
            f"{spec.label}: INPUT {column.name!r} is {column.type}, which no tensor holds",
            next_step="make it a number or a STRING in the job",
        )
    if wanted is not None and wanted not in DATATYPES:
        raise UnknownName(f"datatype of {column.name!r} in option 'input_types' of {spec.label}", wanted, DATATYPES)
    if wanted is not None and not _is_sent_as(own, wanted):
        raise DeclarationError(f"{spec.label}: INPUT {column.name!r} is {column.type}, whose values are not all {wanted}")
    if (pa.types.is_binary(leaf) or pa.types.is_large_binary(leaf)) and not binary:
        raise DeclarationError(
            f"{spec.label}: INPUT {column.name!r} is {column.type}, which JSON cannot hold",
            next_step="add 'binary_data' = 'true', which Triton has beside JSON",
        )
    return wanted or own


def _is_sent_as(own: str, wanted: str) -> bool:
    """Whether all values of a datatype have a place in another; that reals become less precise is what the user asks for."""
    if own == wanted or (wanted in _REALS and own in (*_REALS, *_WHOLE_NUMBERS, "BOOL")):
        return True
    if wanted not in _WHOLE_NUMBERS or own not in (*_WHOLE_NUMBERS, "BOOL"):
        return False
    if own == "BOOL":
        return True
    wider = _bytes_of(own) < _bytes_of(wanted)
    return wider and (own.startswith("U") or not wanted.startswith("U"))


def _bytes_of(datatype: str) -> int:
    return _BYTES_OF[datatype.lstrip("UINTFP")]


def _outputs(spec: ModelSpec, columns: Sequence[pa.Field]) -> tuple[OutputTensor, ...]:
    """`'label:late, probabilities[1]:p'`, as provider onnx has it; a column that is not named is a tensor of its name."""
    split = [part.rpartition(":") for part in options.parts(spec, "outputs")]
    names = [column.name for column in columns]
    named = options.by_column(spec, "outputs", [(name.strip(), tensor.strip()) for tensor, _, name in split], names)
    found = []
    for column in columns:
        text = named.get(column.name, column.name)
        match = re.fullmatch(r"(.+?)(?:\[(\d+)\])?", text)
        if match is None:
            raise DeclarationError(
                f"{spec.label}: option 'outputs' names no tensor for column {column.name!r}; "
                "it is written 'tensor:column' or 'tensor[1]:column'"
            )
        found.append(OutputTensor(match[1], int(match[2]) if match[2] else None, column))
    return tuple(found)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))
