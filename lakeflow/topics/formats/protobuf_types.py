"""Which columns a Protobuf message has: the table of docs/types.md, `## Protobuf`. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from lakeflow.errors import SchemaMismatch
from lakeflow.topics.formats.protobuf_columns import (
    Mapped,
    MappedField,
    Spot,
    cast_to,
    enum_names,
    list_of,
    map_of,
    required,
    struct_of,
    whole,
)
from lakeflow.topics.formats.protobuf_files import field_params
from lakeflow.topics.formats.protobuf_known import KNOWN, WRAPPERS, Choices, Params, json_text, where_valid
from lakeflow.topics.formats.protobuf_wire import OPAQUE, fields_of, in_oneof, is_map

SCALARS: dict[int, Mapped] = {
    FieldDescriptor.TYPE_INT32: Mapped(pa.int32()),
    FieldDescriptor.TYPE_SINT32: Mapped(pa.int32()),
    FieldDescriptor.TYPE_SFIXED32: Mapped(pa.int32()),
    FieldDescriptor.TYPE_UINT32: cast_to(pa.int64()),
    FieldDescriptor.TYPE_FIXED32: cast_to(pa.int64()),
    FieldDescriptor.TYPE_INT64: Mapped(pa.int64()),
    FieldDescriptor.TYPE_SINT64: Mapped(pa.int64()),
    FieldDescriptor.TYPE_SFIXED64: Mapped(pa.int64()),
    FieldDescriptor.TYPE_UINT64: cast_to(pa.decimal128(20, 0)),
    FieldDescriptor.TYPE_FIXED64: cast_to(pa.decimal128(20, 0)),
    FieldDescriptor.TYPE_BOOL: Mapped(pa.bool_()),
    FieldDescriptor.TYPE_FLOAT: Mapped(pa.float32()),
    FieldDescriptor.TYPE_DOUBLE: Mapped(pa.float64()),
    FieldDescriptor.TYPE_STRING: Mapped(pa.string()),
    FieldDescriptor.TYPE_BYTES: Mapped(pa.binary()),
}


@dataclass(frozen=True, slots=True)
class Mapper:
    """Maps messages to columns. `floors`: digits below the microsecond are dropped, where they else are misfits."""

    floors: bool = False

    def columns_of(self, message: Descriptor) -> list[MappedField]:
        """The columns of a table of `message`, which `Wire` has taken, so that it is not recursive.

        Raises SchemaMismatch for one that no table can hold, naming its path.
        """
        if not message.fields:
            raise SchemaMismatch(f"message {message.full_name} has no fields, so a table of it would have no columns")
        return self._fields(message, message.name)

    def _fields(self, message: Descriptor, path: str) -> list[MappedField]:
        fields = fields_of(message)
        return [
            self._field(field, f"{path}.{field.name}", proto.oneof_index if in_oneof(proto) else None)
            for field, proto in fields
        ]

    def _field(self, field: FieldDescriptor, path: str, branch_of: int | None) -> MappedField:
        mapped = self._repeated(field, path) if field.is_repeated else self._singular(field, path)
        if field.is_required:
            mapped = required(mapped, path)
        nullable = bool(field.has_presence and not field.is_required and not field.is_repeated)
        return MappedField(pa.field(field.name, mapped.type, nullable), mapped.convert, branch_of)

    def _singular(self, field: FieldDescriptor, path: str) -> Mapped:
        mapped = self._value(field, path)
        convert = mapped.convert
        if convert is None or not _is_opaque(field):
            return mapped
        return Mapped(mapped.type, lambda array, spot: convert(whole(array, spot), spot))

    def _repeated(self, field: FieldDescriptor, path: str) -> Mapped:
        if not is_map(field):
            return list_of(self._value(field, f"{path}[]"))
        key, item = field.message_type.fields_by_name["key"], field.message_type.fields_by_name["value"]
        mapped = self._value(item, f"{path}{{}}", _params(field))
        return map_of(self._value(key, f"{path}{{}}"), mapped, in_pieces=_is_opaque(item))

    def _value(self, field: FieldDescriptor, path: str, params: Params | None = None) -> Mapped:
        """One value of the field, whatever its label."""
        if field.enum_type is not None:
            return _enum(field.enum_type, path)
        if field.message_type is None:
            return SCALARS[field.type]
        return self._message(field.message_type, path, _params(field) if params is None else params)

    def _message(self, message: Descriptor, path: str, params: Params) -> Mapped:
        name = message.full_name
        fields = tuple(sorted(field.name for field in message.fields))
        if name in OPAQUE:
            return json_text(path, name)
        if name in WRAPPERS and fields == ("value",):
            return _wrapped(SCALARS[message.fields[0].type])
        if name in KNOWN and fields == tuple(sorted(KNOWN[name][0])):
            return KNOWN[name][1](path, Choices(params, self.floors))
        if not fields:
            return Mapped(pa.bool_(), lambda array, _: where_valid(pa.array([True] * len(array), pa.bool_()), array))
        order = [field.number for field, _ in fields_of(message)]
        return struct_of(self._fields(message, path), by_number=order == sorted(order))


def _is_opaque(field: FieldDescriptor) -> bool:
    return bool(field.message_type is not None and field.message_type.full_name in OPAQUE)


def _params(field: FieldDescriptor) -> Params:
    return field_params(field.GetOptions().SerializeToString()) if field.has_options else {}


def _enum(enum: EnumDescriptor, path: str) -> Mapped:
    names: dict[int, str] = {}
    for value in enum.values:
        names.setdefault(value.number, value.name)
    return enum_names(names, closed=enum.is_closed, path=path, enum=enum.full_name)


def _wrapped(scalar: Mapped) -> Mapped:
    convert = scalar.convert

    def unwrap(array: pa.Array, spot: Spot) -> pa.Array:
        value = where_valid(array.field("value"), array)
        return value if convert is None else convert(value, spot)

    return Mapped(scalar.type, unwrap)


def schema_of(columns: Sequence[MappedField]) -> pa.Schema:
    """The columns as a schema."""
    return pa.schema([column.field for column in columns])
