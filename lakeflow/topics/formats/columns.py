"""Lists of Python values, as `shape.py` decodes them, to Arrow columns of exactly the schema's types.

A value that only shows here that it does not fit (the 30th of February) is noted with the row it stands in and left
null; the caller drops those rows. None in the column of a NOT NULL field can only stand under a parent that is null:
it becomes a filler, because Parquet allows no null there.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate, chain
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa

from lakeflow.topics.formats.scalars import reading_of
from lakeflow.topics.formats.shape import JSON_TEXT, attribute

RowOf = Callable[[int], int]
Column = Callable[[list[Any], RowOf, set[int]], pa.Array]
"""`(values, row_of, misfits)` to the array of `values`: `row_of` maps a place in `values` to its row, `misfits` takes rows."""
Getter = Callable[[Sequence[Any]], list[Any]]


def itself(place: int) -> int:
    """The row of a place in a top-level column."""
    return place


def columns_of(fields: Sequence[pa.Field]) -> Callable[[Sequence[Any], RowOf, set[int]], list[pa.Array]]:
    """The function that gives for Structs of `row_type(fields)` the array of each field."""
    columns = [(_getter(position), _column(field)) for position, field in enumerate(fields)]

    def build(structs: Sequence[Any], row_of: RowOf, misfits: set[int]) -> list[pa.Array]:
        return [column(read(structs), row_of, misfits) for read, column in columns]

    return build


def _getter(position: int) -> Getter:
    # A comprehension with the name written out takes 70 % of the time of map(attrgetter(name), ..), and the names are ours.
    source = f"lambda structs: [struct.{attribute(position)} for struct in structs]"
    return cast(Getter, eval(source))  # noqa: S307


def _column(field: pa.Field) -> Column:
    type_ = field.type
    if pa.types.is_struct(type_):
        return _struct_column(field)
    if pa.types.is_list(type_):
        return _list_column(field)
    if pa.types.is_map(type_):
        return _map_column(field)
    if pa.types.is_decimal(type_):
        return _decimal_column(field)
    if type_ == JSON_TEXT:
        return _json_text_column(field)
    if pa.types.is_temporal(type_):
        return _text_column(field)
    return _plain_column(field)


def _plain_column(field: pa.Field) -> Column:
    type_ = field.type

    def build(values: list[Any], row_of: RowOf, misfits: set[int]) -> pa.Array:
        return _filled(pa.array(values, type_), field)

    return build


def _text_column(field: pa.Field) -> Column:
    reading = reading_of(field.type)

    def build(values: list[Any], row_of: RowOf, misfits: set[int]) -> pa.Array:
        array, wrong = reading.column(values)
        misfits.update(map(row_of, wrong))
        return _filled(array, field)

    return build


def _decimal_column(field: pa.Field) -> Column:
    texts_column = _text_column(field)

    def build(values: list[Any], row_of: RowOf, misfits: set[int]) -> pa.Array:
        tokens = _tokens(values, field, row_of, misfits)
        return texts_column([None if token is None else _unquoted(token) for token in tokens], row_of, misfits)

    return build


def _json_text_column(field: pa.Field) -> Column:
    """Nulls under a parent that is null stay, even where the field is NOT NULL: no text would stand for any type."""

    def build(values: list[Any], row_of: RowOf, misfits: set[int]) -> pa.Array:
        texts = pa.array(_tokens(values, field, row_of, misfits), pa.string())
        return pa.ExtensionArray.from_storage(JSON_TEXT, texts)

    return build


def _tokens(values: list[Any], field: pa.Field, row_of: RowOf, misfits: set[int]) -> list[str | None]:
    """JSON values as they are written, None for null."""
    tokens = [None if raw is None else str(raw, "utf-8") for raw in values]
    if not field.nullable:
        misfits.update(row_of(place) for place, token in enumerate(tokens) if token == "null")
    return [None if token == "null" else token for token in tokens]


def _unquoted(token: str) -> str:
    return token[1:-1] if token[0] == '"' else token


def _filled(array: pa.Array, field: pa.Field) -> pa.Array:
    if field.nullable or not array.null_count:
        return array
    if pa.types.is_fixed_size_binary(field.type):
        return array.fill_null(pa.scalar(bytes(field.type.byte_width), field.type))
    return array.fill_null(pa.scalar(FILLERS.get(field.type, 0), field.type))


FILLERS: dict[pa.DataType, object] = {pa.string(): "", pa.binary(): b"", pa.bool_(): False}


def _struct_column(field: pa.Field) -> Column:
    fields = list(field.type)
    build_fields = columns_of(fields)
    hollow = SimpleNamespace(**{attribute(position): None for position in range(len(fields))})

    def build(values: list[Any], row_of: RowOf, misfits: set[int]) -> pa.Array:
        if None not in values:
            return pa.StructArray.from_arrays(build_fields(values, row_of, misfits), fields=fields)
        present = [hollow if value is None else value for value in values]
        arrays = build_fields(present, row_of, misfits)
        absent = pa.array([value is None for value in values]) if field.nullable else None
        return pa.StructArray.from_arrays(arrays, fields=fields, mask=absent)

    return build


def _list_column(field: pa.Field) -> Column:
    element = _column(field.type.value_field)

    def build(values: list[Any], row_of: RowOf, misfits: set[int]) -> pa.Array:
        present = [value or () for value in values]
        ends = list(accumulate(map(len, present), initial=0))
        items = element(list(chain.from_iterable(present)), _through(ends, row_of), misfits)
        return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), items, type=field.type, mask=_absent(values, field))

    return build


def _map_column(field: pa.Field) -> Column:
    item = _column(field.type.item_field)

    def build(values: list[Any], row_of: RowOf, misfits: set[int]) -> pa.Array:
        present: list[dict[str, Any]] = [value or {} for value in values]
        ends = list(accumulate(map(len, present), initial=0))
        keys = pa.array(list(chain.from_iterable(present)), pa.string())
        inner = list(chain.from_iterable(value.values() for value in present))
        items = item(inner, _through(ends, row_of), misfits)
        return pa.MapArray.from_arrays(pa.array(ends, pa.int32()), keys, items, type=field.type, mask=_absent(values, field))

    return build


def _through(ends: list[int], row_of: RowOf) -> RowOf:
    """The row of an element, given where each list's elements end."""
    return lambda place: row_of(bisect_right(ends, place) - 1)


def _absent(values: list[Any], field: pa.Field) -> pa.Array | None:
    return pa.array([value is None for value in values]) if field.nullable and None in values else None
