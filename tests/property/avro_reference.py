"""A slow and obvious reader of one Avro record, strict as the format is meant to be, and what fastavro makes of the same."""

from __future__ import annotations

import datetime as dt
import io
import struct
import uuid
import zoneinfo
from decimal import Context, Decimal
from typing import Any

import fastavro

Schema = Any
EPOCH = dt.datetime(1970, 1, 1)
UTC = zoneinfo.ZoneInfo("UTC")
LOOSE = Context(prec=100)


class Refused(Exception):
    """The record gives no row. `everywhere`: fastavro refuses it too; else it overlooks what is wrong."""

    def __init__(self, reason: str, *, everywhere: bool = False) -> None:
        super().__init__(reason)
        self.everywhere = everywhere


class Reference:
    """One record, read from its start; `value` is as Arrow's to_pylist gives it."""

    def __init__(self, body: bytes, *, floors: bool = False) -> None:
        self._body = body
        self._at = 0
        self._floors = floors

    def value(self, schema: Schema) -> Any:
        found = self._value(schema)
        if self._at != len(self._body):
            raise Refused("bytes follow", everywhere=True)
        return found

    def _take(self, count: int) -> bytes:
        if count < 0:
            raise Refused("a negative length")
        if count > len(self._body) - self._at:
            raise Refused("cut", everywhere=True)
        self._at += count
        return self._body[self._at - count : self._at]

    def _long(self) -> int:
        raw = 0
        for place in range(10):
            (byte,) = self._take(1)
            raw |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                if raw >= 2**64:
                    break
                return raw // 2 if raw % 2 == 0 else -(raw // 2) - 1
        raise Refused("over 64 bits")

    def _value(self, schema: Schema) -> Any:
        if isinstance(schema, list):
            return self._union(schema)
        if isinstance(schema, str):
            return self._plain(schema)
        if schema["type"] == "record":
            return {field["name"]: self._value(field["type"]) for field in schema["fields"]}
        if schema["type"] == "array":
            return self._items(lambda: self._value(schema["items"]))
        if schema["type"] == "map":
            return self._map(schema["values"])
        if schema["type"] == "enum":
            place = self._long()
            if not 0 <= place < len(schema["symbols"]):
                raise Refused("symbol", everywhere=place > 0)
            return schema["symbols"][place]
        if "logicalType" in schema:
            return self._logical(schema)
        return self._take(schema["size"]) if schema["type"] == "fixed" else self._plain(schema["type"])

    def _plain(self, kind: str) -> Any:
        if kind == "boolean":
            (byte,) = self._take(1)
            if byte > 1:
                raise Refused("a boolean of neither")
            return byte == 1
        if kind in ("int", "long"):
            number = self._long()
            if kind == "int" and not -(2**31) <= number < 2**31:
                raise Refused("no int")
            return number
        if kind == "float":
            return struct.unpack("<f", self._take(4))[0]
        if kind == "double":
            return struct.unpack("<d", self._take(8))[0]
        data = self._take(self._long())
        if kind == "bytes":
            return data
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise Refused("no UTF-8", everywhere=True) from error

    def _union(self, branches: list[Schema]) -> Any:
        place = self._long()
        if not 0 <= place < len(branches):
            raise Refused("branch", everywhere=place > 0)
        found = None if branches[place] == "null" else self._value(branches[place])
        names = [name_of(branch) for branch in branches if branch != "null"]
        if len(names) == 1 or branches[place] == "null":
            return found
        return {name: found if name == name_of(branches[place]) else None for name in names}

    def _items(self, item: Any) -> list[Any]:
        found = []
        while count := self._long():
            if count < 0:
                self._long()
                count = -count
            if count > len(self._body) - self._at:
                raise Refused("more items than bytes", everywhere=True)
            found += [item() for _ in range(count)]
        return found

    def _map(self, values: Schema) -> list[tuple[str, Any]]:
        found: dict[str, Any] = {}
        for key, value in self._items(lambda: (self._plain("string"), self._value(values))):
            found.pop(key, None)
            found[key] = value
        return list(found.items())

    def _logical(self, schema: Schema) -> Any:
        kind = schema["logicalType"]
        if kind == "decimal":
            return self._decimal(schema)
        if kind == "uuid" and schema["type"] == "fixed":
            return str(uuid.UUID(bytes=self._take(16)))
        if kind == "duration":
            return self._take(12)
        number = self._plain(schema["type"])
        if kind == "date":
            return self._moment(number * 86_400_000_000).date()
        if kind.startswith("time-"):
            number *= 1000 if kind == "time-millis" else 1
            if not 0 <= number < 86_400_000_000:
                raise Refused("no time of a day")
            return self._moment(number).time()
        if kind.endswith("nanos"):
            if number % 1000 and not self._floors:
                raise Refused("nanoseconds")
            number //= 1000
        moment = self._moment(number * (1000 if kind.endswith("millis") else 1))
        return moment if kind.startswith("local") else moment.replace(tzinfo=UTC)

    def _moment(self, microseconds: int) -> dt.datetime:
        try:
            return EPOCH + dt.timedelta(microseconds=microseconds)
        except OverflowError as error:
            raise Refused("no year") from error

    def _decimal(self, schema: Schema) -> Decimal:
        data = self._take(schema["size"] if schema["type"] == "fixed" else self._long())
        if not data:
            raise Refused("no bytes")
        unscaled = int.from_bytes(data, "big", signed=True)
        if abs(unscaled) >= 10 ** schema["precision"]:
            raise Refused("digits")
        return Decimal(unscaled).scaleb(-schema["scale"], LOOSE)


def name_of(branch: Schema) -> str:
    if isinstance(branch, str):
        return branch
    return str(branch.get("name", branch["type"]))


def by_fastavro(body: bytes, parsed: Schema) -> Any:
    """The value by fastavro. Raises Refused where it raises, or leaves bytes."""
    stream = io.BytesIO(body)
    try:
        found = fastavro.schemaless_reader(stream, parsed, None)
    except (EOFError, ValueError, IndexError, OverflowError, KeyError, StopIteration, TypeError) as error:
        raise Refused(repr(error)) from error
    if stream.tell() != len(body):
        raise Refused("bytes follow")
    return found


def as_fastavro(value: Any, schema: Schema) -> Any:
    """A value of Reference as fastavro gives it."""
    if isinstance(schema, list):
        others = [branch for branch in schema if branch != "null"]
        if value is None or len(others) == 1:
            return None if value is None else as_fastavro(value, others[0])
        ((name, held),) = [pair for pair in value.items() if pair[1] is not None]
        return as_fastavro(held, next(branch for branch in others if name_of(branch) == name))
    if isinstance(schema, str) or value is None:
        return value
    if schema["type"] == "record":
        return {field["name"]: as_fastavro(value[field["name"]], field["type"]) for field in schema["fields"]}
    if schema["type"] == "array":
        return [as_fastavro(item, schema["items"]) for item in value]
    if schema["type"] == "map":
        return {key: as_fastavro(item, schema["values"]) for key, item in value}
    return value


def told(value: Any) -> str:
    """A value as text that is equal for equal values, NaN among them, whatever the order of keys and the zone's class."""
    if isinstance(value, dict):
        return "{" + ", ".join(sorted(f"{key!r}: {told(item)}" for key, item in value.items())) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(told, value)) + "]"
    return value.isoformat() if isinstance(value, dt.datetime) else repr(value)
