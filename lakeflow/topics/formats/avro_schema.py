"""Avro schemas as values: what each type is, by which Arrow type it is held. Pure.

Source: Apache Avro's specification, https://avro.apache.org/docs/1.12.0/specification/; docs/types.md has the mapping.
A logical type that is unknown, or stands on a type that it may not annotate, is the type beneath it, as the
specification asks. Refused are types that no table can hold: `null` alone, a record of no fields, a type within itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, assert_never

import pyarrow as pa

from lakeflow.errors import SchemaMismatch
from lakeflow.topics.formats.scalars import FIRST_DAY, FIRST_MICROSECOND, LAST_DAY, LAST_MICROSECOND

DECIMAL_DIGITS = 38
MOST_DEPTH = 64
MOST_TYPES = 10_000
"""Types in one schema, named ones counted where they are used: a schema of a few lines can stand for millions."""

MICROSECONDS_A_DAY = 86_400_000_000


class Kind(StrEnum):
    """Primitive types that are read as they are."""

    BOOLEAN = "boolean"
    INT = "int"
    LONG = "long"
    FLOAT = "float"
    DOUBLE = "double"
    BYTES = "bytes"
    STRING = "string"


@dataclass(frozen=True, slots=True)
class Plain:
    """A primitive type."""

    kind: Kind


@dataclass(frozen=True, slots=True)
class Fixed:
    """`size` bytes."""

    size: int


@dataclass(frozen=True, slots=True)
class Enumeration:
    """An int that is the place of a symbol."""

    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Decimal:
    """An unscaled number, big endian in two's complement, in `size` bytes, or, where that is None, in bytes with a length."""

    precision: int
    scale: int
    size: int | None


@dataclass(frozen=True, slots=True)
class Uuid:
    """The 16 bytes of a UUID."""


@dataclass(frozen=True, slots=True)
class Temporal:
    """An int or long that counts a unit of time: times `factor`, by `divisor`, it is what `type` counts, `low` to `high`."""

    name: str
    type: pa.DataType
    is_int: bool
    factor: int
    divisor: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Listed:
    """An array."""

    item: Type


@dataclass(frozen=True, slots=True)
class Mapped:
    """A map, whose keys are strings."""

    item: Type


@dataclass(frozen=True, slots=True)
class Named:
    """A field of a record, or a branch of a union."""

    name: str
    type: Type


@dataclass(frozen=True, slots=True)
class Record:
    """Fields in the order of their bytes."""

    fields: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class Union:
    """Branches in their order; None stands for `null`."""

    branches: tuple[Named | None, ...]

    @property
    def values(self) -> tuple[Named, ...]:
        """The branches that hold a value."""
        return tuple(branch for branch in self.branches if branch is not None)


Type = Plain | Fixed | Enumeration | Decimal | Uuid | Temporal | Listed | Mapped | Record | Union


def arrow_field(name: str, type_: Type) -> pa.Field:
    """The Arrow field that holds values of `type_`: nullable where a union says so, and nowhere else."""
    return pa.field(name, arrow_type(type_), nullable=isinstance(type_, Union) and None in type_.branches)


def arrow_type(type_: Type) -> pa.DataType:
    """The Arrow type that holds values of `type_`, one that a table keeps as it is."""
    match type_:
        case Plain(kind):
            return _PLAIN[kind]
        case Fixed(size):
            return pa.binary(size)
        case Enumeration() | Uuid():
            return pa.string()
        case Decimal(precision, scale):
            return pa.decimal128(precision, scale)
        case Temporal():
            return type_.type
        case Listed(item):
            return pa.list_(arrow_field("element", item))
        case Mapped(item):
            return pa.map_(pa.string(), arrow_field("value", item))
        case Record(fields):
            return pa.struct([arrow_field(field.name, field.type) for field in fields])
        case Union():
            if len(type_.values) == 1:
                return arrow_type(type_.values[0].type)
            return pa.struct([arrow_field(branch.name, branch.type).with_nullable(True) for branch in type_.values])
        case _:
            assert_never(type_)


_PLAIN = {
    Kind.BOOLEAN: pa.bool_(),
    Kind.INT: pa.int32(),
    Kind.LONG: pa.int64(),
    Kind.FLOAT: pa.float32(),
    Kind.DOUBLE: pa.float64(),
    Kind.BYTES: pa.binary(),
    Kind.STRING: pa.string(),
}


def parse(text: str, referenced: Iterable[str] = ()) -> Type:
    """The type that a schema's text describes; `referenced` are the texts that define what it only names.

    Raises SchemaMismatch, with the path, for a text that is no schema and for a type that no table can hold.
    """
    names: dict[str, Mapping[str, Any]] = {}
    try:
        for other in referenced:
            _collect(json.loads(other), "", names)
        top = json.loads(text)
        _collect(top, "", names)
        return _Parser(names).type(top, "", "$", ())
    except (ValueError, RecursionError) as error:
        raise SchemaMismatch(f"the text is no Avro schema: {error}") from error


_NAMED = ("record", "error", "enum", "fixed")
_HOME = "\0namespace"
"""Where `_collect` notes the namespace that a definition stands in."""


def _collect(schema: Any, space: str, names: dict[str, Mapping[str, Any]]) -> None:
    """Adds every definition of a named type to `names`, by its full name."""
    if isinstance(schema, list):
        for branch in schema:
            _collect(branch, space, names)
    elif isinstance(schema, dict):
        kind = schema.get("type")
        if isinstance(kind, str) and kind in _NAMED:
            full = _full_name(schema, space)
            names.setdefault(full, {**schema, _HOME: space})
            space = full.rpartition(".")[0]
            fields = schema.get("fields")
            for field in fields if isinstance(fields, list) else ():
                if isinstance(field, dict):
                    _collect(field.get("type"), space, names)
        else:
            for part in (kind, schema.get("items"), schema.get("values")):
                _collect(part, space, names)


def _full_name(schema: Mapping[str, Any], space: str) -> str:
    name, own = schema.get("name"), schema.get("namespace")
    if not isinstance(name, str) or not name:
        raise ValueError(f"a type of {schema.get('type')!r} has no name")
    if "." in name:
        return name.removeprefix(".")
    space = own if isinstance(own, str) else space
    return f"{space}.{name}" if space else name


class _Parser:
    """Builds the types of one schema; counts them."""

    def __init__(self, names: Mapping[str, Mapping[str, Any]]) -> None:
        self._names = names
        self._count = 0

    def type(self, schema: Any, space: str, path: str, within: tuple[str, ...]) -> Type:
        """`space` is the enclosing namespace, `within` the full names of the types around."""
        self._count += 1
        if self._count > MOST_TYPES or path.count(".") + path.count("[") + path.count("{") > MOST_DEPTH:
            raise SchemaMismatch(f"{path}: the schema has more than {MOST_TYPES} types, or is deeper than {MOST_DEPTH}")
        match schema:
            case "null":
                raise SchemaMismatch(f"{path} is null and nothing else, which a table cannot hold")
            case str() if schema in _PLAIN:
                return Plain(Kind(schema))
            case str():
                return self._definition(schema, space, path, within)
            case list():
                return self._union(schema, space, path, within)
            case {"type": str() as kind}:
                return self._complex(kind, schema, space, path, within)
            case {"type": inner}:
                return self.type(inner, space, path, within)
            case _:
                raise SchemaMismatch(f"{path}: {json.dumps(schema)[:80]} is no Avro type")

    def _definition(self, name: str, space: str, path: str, within: tuple[str, ...]) -> Type:
        # A bare name that its namespace lacks is looked for without one, as the Java implementation does.
        for full in (f"{space}.{name}" if space and "." not in name else name, name):
            if (found := self._names.get(full)) is not None:
                return self._complex(found["type"], found, found[_HOME], path, within)
        raise SchemaMismatch(f"{path}: type {name!r} is not defined, neither in the schema nor in its references")

    def _complex(self, kind: str, schema: Mapping[str, Any], space: str, path: str, within: tuple[str, ...]) -> Type:
        match kind:
            case "array":
                return Listed(self.type(schema.get("items"), space, f"{path}[]", within))
            case "map":
                return Mapped(self.type(schema.get("values"), space, f"{path}{{}}", within))
            case "record" | "error":
                return self._record(schema, space, path, within)
            case "enum":
                symbols = schema.get("symbols")
                if not isinstance(symbols, list) or not symbols or not all(isinstance(symbol, str) for symbol in symbols):
                    raise SchemaMismatch(f"{path} is an enum of no symbols")
                return Enumeration(tuple(symbols))
            case "fixed":
                size = schema.get("size")
                if not isinstance(size, int) or not 1 <= size <= 2**24:
                    raise SchemaMismatch(f"{path} is a fixed of size {size!r}; valid: 1 to {2**24}")
                return _logical(schema, Fixed(size), path)
            case _ if kind in _PLAIN:
                return _logical(schema, Plain(Kind(kind)), path)
            case _:
                return self.type(kind, space, path, within)

    def _record(self, schema: Mapping[str, Any], space: str, path: str, within: tuple[str, ...]) -> Record:
        full = _full_name(schema, space)
        if full in within:
            raise SchemaMismatch(f"{path} is a record {full!r} within itself, which a table cannot hold")
        fields = schema.get("fields")
        if not isinstance(fields, list) or not fields:
            raise SchemaMismatch(f"{path} is a record of no fields, which a table cannot hold")
        space, within = full.rpartition(".")[0], (*within, full)
        return Record(tuple(self._field(field, space, path, within) for field in fields))

    def _field(self, field: Any, space: str, path: str, within: tuple[str, ...]) -> Named:
        if not isinstance(field, dict) or not isinstance(name := field.get("name"), str):
            raise SchemaMismatch(f"{path} has a field of no name")
        return Named(name, self.type(field.get("type"), space, f"{path}.{name}", within))

    def _union(self, schema: list[Any], space: str, path: str, within: tuple[str, ...]) -> Union:
        values = [branch for branch in schema if not _is_null(branch)]
        if not values:
            raise SchemaMismatch(f"{path} is a union of no type but null, which a table cannot hold")
        full = [self._branch_name(branch, space) for branch in values]
        if len(set(full)) < len(full):
            raise SchemaMismatch(f"{path} is a union with one type twice: {', '.join(full)}")
        short = [name.rpartition(".")[2] for name in full]
        names = iter(full if len({name.lower() for name in short}) < len(short) else short)
        wide = len(values) > 1

        def read(branch: Any) -> Named:
            name = next(names)
            type_ = self.type(branch, space, f"{path}.{name}" if wide else path, within)
            if isinstance(type_, Union):
                raise SchemaMismatch(f"{path} is a union that holds a union, which Avro does not allow")
            return Named(name, type_)

        return Union(tuple(None if _is_null(branch) else read(branch) for branch in schema))

    def _branch_name(self, branch: Any, space: str) -> str:
        if isinstance(branch, dict):
            kind = branch.get("type")
            if isinstance(kind, str):
                return _full_name(branch, space) if kind in _NAMED else self._branch_name(kind, space)
        if isinstance(branch, str):
            known = f"{space}.{branch}" if space and "." not in branch else branch
            return known if known in self._names else branch
        return "union"


def _is_null(schema: Any) -> bool:
    return schema in ("null", {"type": "null"})


def _logical(schema: Mapping[str, Any], beneath: Plain | Fixed, path: str) -> Type:
    match schema.get("logicalType"), beneath:
        case "decimal", Fixed(size):
            return _decimal(schema, size, path) or beneath
        case "decimal", Plain(Kind.BYTES):
            return _decimal(schema, None, path) or beneath
        case "uuid", Fixed(16):
            return Uuid()
        case str() as name, Plain(kind):
            return _TEMPORALS.get((name, kind), beneath)
        case _:
            return beneath


def _decimal(schema: Mapping[str, Any], size: int | None, path: str) -> Decimal | None:
    precision, scale = schema.get("precision"), schema.get("scale", 0)
    if not isinstance(precision, int) or not isinstance(scale, int) or precision < 1 or not 0 <= scale <= precision:
        return None
    if size is not None and precision > math.floor((8 * size - 1) * math.log10(2)):
        return None
    if precision > DECIMAL_DIGITS:
        raise SchemaMismatch(f"{path} is a decimal of {precision} digits; a table holds {DECIMAL_DIGITS} at the most")
    return Decimal(precision, scale, size)


def _temporals() -> dict[tuple[str, Kind], Temporal]:
    found = [
        Temporal("date", pa.date32(), True, 1, 1, FIRST_DAY, LAST_DAY),
        Temporal("time-millis", pa.time64("us"), True, 1000, 1, 0, MICROSECONDS_A_DAY - 1),
        Temporal("time-micros", pa.time64("us"), False, 1, 1, 0, MICROSECONDS_A_DAY - 1),
    ]
    for prefix, type_ in (("", pa.timestamp("us", "UTC")), ("local-", pa.timestamp("us"))):
        for unit, factor, divisor in (("millis", 1000, 1), ("micros", 1, 1), ("nanos", 1, 1000)):
            name = f"{prefix}timestamp-{unit}"
            found.append(Temporal(name, type_, False, factor, divisor, FIRST_MICROSECOND, LAST_MICROSECOND))
    return {(one.name, Kind.INT if one.is_int else Kind.LONG): one for one in found}


_TEMPORALS = _temporals()
