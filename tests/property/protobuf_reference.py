"""What a Protobuf body holds, read from google.protobuf's own messages of the schema, a value at a time.

It shares nothing with the format but the types of the columns: other descriptors, no ptars, no Arrow.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
UNSIGNED_64 = (FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_FIXED64)


class Refused(Exception):
    """The body gives no row."""


class Undecided(Exception):
    """google.protobuf's message does not tell what the order of the fields tells."""


def row_of(message: Message, body: bytes) -> dict[str, Any]:
    """The row of `body`, read into the empty `message`. Raises Refused."""
    try:
        message.ParseFromString(body)
    except DecodeError as error:
        raise Refused(str(error)) from error
    _check_unknown(message)
    if not message.IsInitialized():
        raise Refused("required fields are missing")
    return _fields(message)


def _check_unknown(message: Message) -> None:
    """Numbers that a closed enum lacks are among the unknown fields; to lose them there would be to lose them silently."""
    by_number = {field.number: field for field in message.DESCRIPTOR.fields}
    for unknown in UnknownFieldSet(message):
        field = by_number.get(unknown.field_number)
        if field is not None and is_map(field) and unknown.wire_type == 2:
            raise Undecided  # an entry with an unknown field in it: kept here, as in Java, and dropped by google.protobuf
        if field is not None and field.enum_type is not None and field.enum_type.is_closed and unknown.wire_type == 0:
            raise Undecided if not field.is_repeated and message.HasField(field.name) else Refused
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if is_map(field):
            if field.message_type.fields_by_name["value"].message_type is not None:
                for one in value.values():
                    _check_unknown(one)
        else:
            for one in value if field.is_repeated else [value]:
                _check_unknown(one)


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _fields(message: Message) -> dict[str, Any]:
    return {field.name: _field(message, field) for field in message.DESCRIPTOR.fields}


def _field(message: Message, field: FieldDescriptor) -> Any:
    if field.is_repeated:
        value = getattr(message, field.name)
        if is_map(field):
            kinds = field.message_type.fields_by_name
            return {_value(key, kinds["key"]): _value(value[key], kinds["value"]) for key in value}
        return [_value(one, field) for one in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _value(getattr(message, field.name), field)


def _value(value: Any, field: FieldDescriptor) -> Any:
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return str(value) if known is None else known.name
    if field.message_type is None:
        return Decimal(value) if field.type in UNSIGNED_64 else value
    name = field.message_type.full_name
    if name in ("google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue"):
        try:
            return json.dumps(
                json_format.MessageToDict(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
            )
        except (json_format.SerializeToJsonError, ValueError) as error:
            raise Refused(str(error)) from error
    if name.startswith("google.protobuf.") and name.endswith("Value"):
        return _field(value, value.DESCRIPTOR.fields_by_name["value"])
    return _known(value, name)


def _known(value: Any, name: str) -> Any:
    match name:
        case "google.protobuf.Timestamp" | "google.protobuf.Duration":
            return _time(value.seconds, value.nanos, name)
        case "google.protobuf.FieldMask":
            return list(value.paths)
        case "google.type.Date":
            return _made(datetime.date, value.year, value.month, value.day)
        case "google.type.TimeOfDay":
            if value.nanos % 1000:
                raise Refused(value)
            return _made(datetime.time, value.hours, value.minutes, value.seconds, value.nanos // 1000)
        case _:
            return _fields(value) if value.DESCRIPTOR.fields else True


def _time(seconds: int, nanos: int, name: str) -> Any:
    if nanos % 1000:
        raise Refused(nanos)
    if name.endswith("Duration"):
        if abs(seconds) > 315_576_000_000 or abs(nanos) >= 10**9 or (seconds and nanos and (seconds > 0) != (nanos > 0)):
            raise Refused(seconds)
        return seconds * 10**6 + nanos // 1000
    if not 0 <= nanos < 10**9:
        raise Refused(nanos)
    try:
        return EPOCH + datetime.timedelta(seconds=seconds, microseconds=nanos // 1000)
    except OverflowError as error:
        raise Refused(seconds) from error


def _made(kind: Any, *parts: int) -> Any:
    try:
        return kind(*parts)
    except (ValueError, OverflowError) as error:
        raise Refused(parts) from error


def same(left: Any, right: Any) -> bool:
    """Equality where NaN is itself, a map's pairs have no order, and -0.0 is not 0.0."""
    if isinstance(right, Mapping) and isinstance(left, list):
        return len(left) == len(right) and all(key in right and same(value, right[key]) for key, value in left)
    if isinstance(right, Mapping) and isinstance(left, Mapping):
        return set(left) == set(right) and all(same(value, right[key]) for key, value in left.items())
    if isinstance(right, list):
        return isinstance(left, list) and len(left) == len(right) and all(map(same, left, right))
    if isinstance(right, float):
        return isinstance(left, float) and repr(left) == repr(right)
    return type(left) is type(right) and bool(left == right)
