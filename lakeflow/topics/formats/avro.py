"""Avro, with its writer's schemas from the registry.

A record is read strictly by the schema that it was written with; which Arrow type holds what is in docs/types.md.
Malformed are: a record that ends early or goes on behind its schema; a varint of more than 64 bits, an int of more
than 32; a length below 0; a boolean that is neither 0 nor 1; a symbol or a branch that is not there; broken UTF-8.
Misfits are dates, times and timestamps outside of the years 0001 to 9999 or of a day, decimals of more digits than
their schema says, and nanoseconds that are no whole microseconds, unless `'avro-registry.nanoseconds' = 'floor'`.

All records of a block are read in step, a column at a time (`avro_lanes.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import assert_never, cast

import numpy as np
import pyarrow as pa

from lakeflow.errors import DeclarationError, UnknownName, did_you_mean
from lakeflow.topics.formats.avro_lanes import Block, Fault
from lakeflow.topics.formats.avro_nested import ListReader, MapReader, RecordReader, UnionReader
from lakeflow.topics.formats.avro_scalars import (
    BooleanReader,
    BytesReader,
    DecimalReader,
    EnumReader,
    Faults,
    FixedReader,
    LongReader,
    Reader,
    TemporalReader,
    UuidReader,
)
from lakeflow.topics.formats.avro_schema import (
    Decimal,
    Enumeration,
    Fixed,
    Kind,
    Listed,
    Mapped,
    Plain,
    Record,
    Temporal,
    Type,
    Union,
    Uuid,
    arrow_field,
    arrow_type,
    parse,
)
from lakeflow.topics.formats.format import Decoded, Format, Opening, Part, Reject, RejectKind
from lakeflow.topics.formats.framed import FramedFormat
from lakeflow.topics.registered import RegisteredSchema, Registry, SchemaKind

PREFIX = "avro-registry."
NANOSECONDS = "avro-registry.nanoseconds"
NANOSECONDS_CHOICES = ("refuse", "floor")

ROWS = 4096
BYTES = 4 * 1024**2
"""A block has no more records and, if it has several, no more bytes: what numpy takes meanwhile is many times that."""


def open_avro(opening: Opening) -> Format:
    """The format of Avro in the registry's wire format.

    Raises UnknownName or DeclarationError for an option, ConfigError where there is no registry.
    """
    floors = floors_nanoseconds(opening.options)

    def open_body(schema: RegisteredSchema, registry: Registry) -> Format:
        referenced = [other.text for other in registry.referenced(schema).values()] if schema.references else []
        return AvroFormat(parse(schema.text, referenced), floors=floors)

    return FramedFormat(opening, SchemaKind.AVRO, open_body)


def floors_nanoseconds(options: Mapping[str, str]) -> bool:
    """What `'avro-registry.nanoseconds'` asks for. Raises UnknownName, DeclarationError for what it may not be."""
    for name in options:
        if name.startswith(PREFIX) and name != NANOSECONDS:
            raise UnknownName("option of format avro-registry", name, [NANOSECONDS])
    choice = options.get(NANOSECONDS, NANOSECONDS_CHOICES[0])
    if choice not in NANOSECONDS_CHOICES:
        raise DeclarationError(f"option {NANOSECONDS!r} is {choice!r}{did_you_mean(choice, NANOSECONDS_CHOICES)}")
    return choice == "floor"


class AvroFormat:
    """The Format of bodies written with one schema. A top level that is no record is one column, `value`."""

    def __init__(self, type_: Type, *, floors: bool = False, rows: int = ROWS) -> None:
        self._faults: list[Fault] = []
        self._rows = rows
        self._reader = _reader(type_, "$", self._faults, floors)
        top = Faults(self._faults, "$")
        self._goes_on = top.note("{} bytes follow the record")
        if isinstance(type_, Record):
            self._schema = pa.schema([arrow_field(field.name, field.type) for field in type_.fields])
        else:
            self._schema = pa.schema([arrow_field("value", type_)])

    def schema(self) -> pa.Schema:
        """The columns of the writer's schema."""
        return self._schema

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """The rows of `values`, which are bodies without the registry's head; see the protocol."""
        none = [place for place, value in enumerate(values) if value is None] if None in values else []
        rejects = [Reject(place, RejectKind.TOMBSTONE, "the record has no value") for place in none]
        places = np.delete(np.arange(len(values)), none)
        bodies = [value for value in values if value is not None] if none else cast(Sequence[bytes], values)
        batches = []
        for first, last in _blocks(bodies, self._rows):
            batch, wrong = self._decode_block(bodies[first:last])
            batches.append(batch)
            rejects += [Reject(int(places[first + at]), fault.kind, fault.text) for at, fault in wrong.items()]
        rows = pa.concat_batches(batches) if batches else pa.RecordBatch.from_pylist([], schema=self._schema)
        if not rejects:
            return Decoded((Part(rows),))
        kept = np.delete(np.arange(len(values)), [reject.index for reject in rejects])
        return Decoded((Part(rows, pa.array(kept, pa.int64())),), tuple(sorted(rejects, key=lambda reject: reject.index)))

    def _decode_block(self, bodies: Sequence[bytes]) -> tuple[pa.RecordBatch, dict[int, Fault]]:
        """The rows of a block, and what is wrong with each body that gives none."""
        block = Block(bodies, self._reader.zeros, self._faults)
        lanes = block.lanes
        reader = self._reader
        columns = reader.columns(lanes) if isinstance(reader, RecordReader) else [reader.read(lanes)]
        rest = lanes.end - lanes.pos
        if (wrong := (rest > 0) & ~lanes.is_parked()).any():
            lanes.refuse(wrong, self._goes_on, rest)
        batch = pa.RecordBatch.from_arrays(columns, schema=self._schema)
        if not block.faults.any():
            return batch, {}
        batch = batch.take(pa.array(np.flatnonzero(block.faults == 0)))
        return batch, {at: block.fault(at) for at in np.flatnonzero(block.faults).tolist()}


def _blocks(bodies: Sequence[bytes], rows: int) -> Iterator[tuple[int, int]]:
    """Where blocks begin and end."""
    parts = [(first, min(first + rows, len(bodies))) for first in range(0, len(bodies), rows)][::-1]
    while parts:
        first, last = parts.pop()
        if last - first > 1 and sum(map(len, bodies[first:last])) > BYTES:
            middle = (first + last) // 2
            parts += [(middle, last), (first, middle)]
        else:
            yield first, last


def _reader(type_: Type, path: str, known: list[Fault], floors: bool) -> Reader:
    faults = Faults(known, path)
    match type_:
        case Plain():
            return _plain_reader(type_.kind, faults)
        case Fixed(size):
            return FixedReader(faults, pa.binary(size), size)
        case Uuid():
            return UuidReader(faults)
        case Enumeration(symbols):
            return EnumReader(faults, symbols)
        case Decimal():
            return DecimalReader(faults, type_)
        case Temporal():
            return TemporalReader(faults, type_, floors=floors)
        case Listed(item):
            return ListReader(faults, arrow_type(type_), _reader(item, f"{path}[]", known, floors))
        case Mapped(item):
            key = BytesReader(Faults(known, f"{path}{{key}}"), Kind.STRING)
            return MapReader(faults, arrow_type(type_), key, _reader(item, f"{path}{{}}", known, floors))
        case Record(fields):
            readers = [_reader(field.type, f"{path}.{field.name}", known, floors) for field in fields]
            return RecordReader(arrow_type(type_), readers)
        case Union(branches):
            wide = len(type_.values) > 1
            return UnionReader(
                faults,
                arrow_type(type_),
                [
                    None if branch is None else _reader(branch.type, f"{path}.{branch.name}" if wide else path, known, floors)
                    for branch in branches
                ],
            )
        case _:
            assert_never(type_)


def _plain_reader(kind: Kind, faults: Faults) -> Reader:
    match kind:
        case Kind.BOOLEAN:
            return BooleanReader(faults)
        case Kind.INT | Kind.LONG:
            return LongReader(faults, kind)
        case Kind.FLOAT:
            return FixedReader(faults, pa.float32(), 4)
        case Kind.DOUBLE:
            return FixedReader(faults, pa.float64(), 8)
        case Kind.BYTES | Kind.STRING:
            return BytesReader(faults, kind)
        case _:
            assert_never(kind)
