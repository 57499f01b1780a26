"""Arrays of one nested type as arrays of another, at any depth, without a Python loop over values. Pure.

Arrow's own cast finds struct fields by name. Files of a table that has changed have to be read by field id, and a
required field of a struct that is null must not be taken for a missing value; so both, rows that are written and
rows that are read, are reshaped here.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.errors import SchemaMismatch

FIELD_ID = b"PARQUET:field_id"

Identity = Callable[[pa.Field], Hashable]
"""What tells which field of one struct is which of another; None for a field that has none."""


def by_name(field: pa.Field) -> str:
    return str(field.name)


def by_id(field: pa.Field) -> int | None:
    found = (field.metadata or {}).get(FIELD_ID)
    return None if found is None else int(found)


def reshaped(values: pa.Array, target: pa.Field, same: Identity, what: str) -> pa.Array:
    """`values` as `target` has them: struct fields found by `same`, missing ones null, scalars cast exactly.

    `what` names the values in messages. Raises SchemaMismatch for a null where `target` is required, and
    pyarrow.ArrowInvalid for a value that the type of `target` cannot hold.
    """
    kind = target.type
    if not target.nullable and values.null_count:
        raise SchemaMismatch(f"{what} is required and holds a null")
    if values.type.equals(kind, check_metadata=same is by_id):  # field ids are metadata
        return values
    if pa.types.is_null(values.type):
        return nulls(len(values), kind)
    if pa.types.is_struct(kind):
        return _struct(values, kind, same, what)
    if is_list(kind):
        return _list(values, kind, same, what)
    if pa.types.is_map(kind):
        return _map(values, kind, same, what)
    return values if values.type.equals(kind) else values.cast(kind)


def is_list(kind: pa.DataType) -> bool:
    """Both kinds that a table's columns come as: PyIceberg makes them large, other engines' files do not."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def nulls(length: int, kind: pa.DataType) -> pa.Array:
    """Nulls of a type. Fields that a struct requires hold no null of their own: Parquet's writer refuses those."""
    if not pa.types.is_struct(kind):
        return pa.nulls(length, kind)
    fields = [kind.field(place) for place in range(kind.num_fields)]
    children = [_nulls_under(length, field) for field in fields]
    return pa.StructArray.from_arrays(children, fields=fields, mask=pa.repeat(pa.scalar(True), length))


def _nulls_under(length: int, field: pa.Field) -> pa.Array:
    missing = nulls(length, field.type)
    return missing if field.nullable else _unmasked(missing)


def _struct(values: pa.Array, kind: pa.DataType, same: Identity, what: str) -> pa.Array:
    brought = {same(values.type.field(place)): place for place in range(values.type.num_fields)}
    fields = [kind.field(place) for place in range(kind.num_fields)]
    flat = values.flatten()  # children as they are seen: null wherever the struct is
    children = []
    for field in fields:
        path = f"{what}.{field.name}"
        if (place := brought.get(same(field))) is None:
            if not field.nullable and values.null_count < len(values):
                raise SchemaMismatch(f"{path} is required and the rows have no such field")
            children.append(_nulls_under(len(values), field))
        else:
            children.append(_child(flat[place], values, field, same, path))
    return pa.StructArray.from_arrays(children, fields=fields, mask=_mask(values))


def _child(child: pa.Array, parent: pa.Array, field: pa.Field, same: Identity, what: str) -> pa.Array:
    if field.nullable or not child.null_count:
        return reshaped(child, field, same, what)
    if child.null_count > parent.null_count:
        raise SchemaMismatch(f"{what} is required and holds a null")
    return _unmasked(reshaped(child, field.with_nullable(True), same, what))


def _list(values: pa.Array, kind: pa.DataType, same: Identity, what: str) -> pa.Array:
    elements = reshaped(values.flatten(), kind.value_field, same, f"{what}.element")
    return _list_of(kind, values, elements, _mask(values))


def _list_of(kind: pa.DataType, values: pa.Array, elements: pa.Array, mask: pa.Array | None) -> pa.Array:
    offsets = _offsets(values)
    if pa.types.is_large_list(kind):
        return pa.LargeListArray.from_arrays(offsets.cast(pa.int64()), elements, type=kind, mask=mask)
    return pa.ListArray.from_arrays(offsets, elements, type=kind, mask=mask)


def _map(values: pa.Array, kind: pa.DataType, same: Identity, what: str) -> pa.Array:
    entries = _entries(values)
    flat = entries.flatten()
    keys = reshaped(flat.field(0), kind.key_field, same, f"{what}.key")
    items = reshaped(flat.field(1), kind.item_field, same, f"{what}.value")
    return pa.MapArray.from_arrays(_offsets(entries), keys, items, type=kind, mask=_mask(values))


def _entries(values: pa.MapArray) -> pa.ListArray:
    """A map as the list that it is. Key and value are found by place: engines name them as they like."""
    kind = values.type
    return values.cast(pa.list_(pa.struct([kind.key_field.with_name("key"), kind.item_field.with_name("value")])))


def _mask(values: pa.Array) -> pa.Array | None:
    return values.is_null() if values.null_count else None


def _offsets(values: pa.Array) -> pa.Array:
    """Where each list begins among the elements of all, which hold nothing of null lists."""
    lengths = pc.fill_null(pc.list_value_length(values), 0)
    ends = pc.cumulative_sum(lengths.cast(pa.int64())).cast(pa.int32())
    return pa.concat_arrays([pa.array([0], pa.int32()), ends])


def _unmasked(values: pa.Array) -> pa.Array:
    """The same without nulls, where a struct around it is null anyway: what stands there instead is never seen."""
    if not values.null_count:
        return values
    kind = values.type
    if pa.types.is_struct(kind):
        fields = [kind.field(place) for place in range(kind.num_fields)]
        return pa.StructArray.from_arrays([values.field(place) for place in range(kind.num_fields)], fields=fields)
    if is_list(kind):
        return _list_of(kind, values, values.flatten(), None)
    if pa.types.is_map(kind):
        entries = _entries(values)
        flat = entries.flatten()
        return pa.MapArray.from_arrays(_offsets(entries), flat.field(0), flat.field(1), type=kind)
    return pa.Array.from_buffers(kind, len(values), [None, *values.buffers()[1:]], 0, values.offset)
