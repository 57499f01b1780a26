"""The msgspec type whose decoder accepts exactly the JSON values that a schema allows, scalars written as text aside.

msgspec is strict by itself: it never turns text into numbers, 1.0 into an integer or a number into a truth value, and
refuses NaN, overflow, lone surrogates and trailing bytes. Dates, times and decimals arrive as they are written;
`columns.py` reads them a column at a time.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import msgspec
import pyarrow as pa

from lakeflow.errors import DeclarationError

SCALARS = (
    "BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, DECIMAL, STRING, BYTES, BINARY(n), "
    "DATE, TIME(6), TIMESTAMP(6), TIMESTAMP_LTZ(6)"
)

INTEGER_BITS: dict[pa.DataType, int] = {pa.int8(): 8, pa.int16(): 16, pa.int32(): 32, pa.int64(): 64}

# The largest double that still rounds to a finite float: halfway between the largest float and 2**128, less one step.
FLOAT_MOST = math.nextafter((2.0 - 2.0**-24) * 2.0**127, 0.0)

JSON_TEXT = pa.json_()
"""The type of a field that takes any JSON value, and holds it as it is written. Not one that a table can declare."""

TEXT_TYPES = (pa.string(), pa.date32(), pa.time64("us"), pa.timestamp("us"), pa.timestamp("us", "UTC"))


def attribute(position: int) -> str:
    """The attribute that holds the field at `position` of a struct: field names need not be Python's."""
    return f"f{position}"


def row_type(fields: list[pa.Field], *, refuse_unknown: bool, path: str = "") -> type[msgspec.Struct]:
    """The Struct for a JSON object with `fields`. Raises DeclarationError for a type or a name that JSON cannot give."""
    if not fields:
        raise DeclarationError(f"{path or 'the schema'} has no fields, so no record could fill it; declare one at least")
    members: list[tuple[str, Any, Any]] = []
    for position, field in enumerate(fields):
        place = f"{path}.{field.name}" if path else field.name
        annotation = _annotation(field, refuse_unknown, place)
        member = msgspec.field(name=field.name, default=None) if field.nullable else msgspec.field(name=field.name)
        members.append((attribute(position), annotation, member))
    return _defined(members, refuse_unknown, path)


def _defined(members: list[tuple[str, Any, Any]], refuse_unknown: bool, path: str) -> type[msgspec.Struct]:
    try:
        # Rows live for one block and hold no cycles, so the garbage collector need not track them.
        return msgspec.defstruct("Row", members, gc=False, kw_only=True, forbid_unknown_fields=refuse_unknown)
    except ValueError as error:
        raise DeclarationError(f"a column of {path or 'the schema'} has a name that JSON cannot give: {error}") from error


def _annotation(field: pa.Field, refuse_unknown: bool, path: str) -> Any:
    if pa.types.is_decimal128(field.type) or field.type == JSON_TEXT:
        return msgspec.Raw  # with null among what it holds: columns.py tells
    annotation = _value_type(field.type, refuse_unknown, path)
    return annotation | None if field.nullable else annotation


def _value_type(type_: pa.DataType, refuse_unknown: bool, path: str) -> Any:
    if type_ in INTEGER_BITS:
        half = 2 ** (INTEGER_BITS[type_] - 1)
        return Annotated[int, msgspec.Meta(ge=-half, le=half - 1)]
    if type_ == pa.float32():
        return Annotated[float, msgspec.Meta(ge=-FLOAT_MOST, le=FLOAT_MOST)]
    if type_ == pa.float64():
        return float
    if type_ == pa.bool_():
        return bool
    if type_ == pa.binary():
        return bytes
    if pa.types.is_fixed_size_binary(type_):
        return Annotated[bytes, msgspec.Meta(min_length=type_.byte_width, max_length=type_.byte_width)]
    if type_ in TEXT_TYPES:
        return str
    if pa.types.is_struct(type_):
        return row_type(list(type_), refuse_unknown=refuse_unknown, path=path)
    if pa.types.is_list(type_):
        return list[_annotation(type_.value_field, refuse_unknown, f"{path}[]")]  # type: ignore[misc]
    if pa.types.is_map(type_) and type_.key_type == pa.string():
        return dict[str, _annotation(type_.item_field, refuse_unknown, f"{path}{{}}")]  # type: ignore[misc]
    if pa.types.is_map(type_):
        raise DeclarationError(f"column {path} is a map with keys of {type_.key_type}; in JSON keys are of STRING")
    raise DeclarationError(
        f"column {path} is of {type_}, which JSON cannot give; valid: {SCALARS}, and ROW, ARRAY, MAP of these"
    )
