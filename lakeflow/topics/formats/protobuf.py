"""Protobuf with schemas from a registry: record bodies begin with the place of their message in the schema's file.

https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format

That place is a list of indexes, zigzag varints with their count before them: of a message in its file, then of nested
ones in each other (entries of maps are not counted); a single zero stands for the first. A table holds one message: the
first of the file, or that which `'proto-registry.message'` names in full. A record of another is a misfit.

A record is accepted exactly where google.protobuf accepts it, with the values that it finds, but for what a column
cannot hold: see docs/types.md. Text must be UTF-8 in proto2 too. Unknown fields are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import accumulate
from operator import itemgetter
from typing import cast

import numpy as np
import pyarrow as pa
from google.protobuf.descriptor import Descriptor, FileDescriptor

from lakeflow.errors import DeclarationError, SchemaMismatch, UnknownName, did_you_mean
from lakeflow.topics.formats.format import Decoded, Format, Opening, Part, Reject, RejectKind
from lakeflow.topics.formats.framed import BodyFormat, FramedFormat
from lakeflow.topics.formats.protobuf_columns import Findings, Places, Spot, fields_converter
from lakeflow.topics.formats.protobuf_files import describe
from lakeflow.topics.formats.protobuf_types import Mapper, schema_of
from lakeflow.topics.formats.protobuf_wire import BODY_LIMIT, Block, Wire
from lakeflow.topics.registered import RegisteredSchema, Registry, SchemaKind

PREFIX = "proto-registry."
MESSAGE = "proto-registry.message"
NANOSECONDS = "proto-registry.nanoseconds"
NANOSECONDS_CHOICES = ("refuse", "floor")

BLOCK = 8192
"""Records that are decoded at once; fewer of them where they come to BLOCK_BYTES."""
BLOCK_BYTES = 16 << 20

FIRST_BYTE = itemgetter(0)

Wrong = dict[int, tuple[RejectKind, str]]
"""By place: why a value gives no row."""


def open_protobuf(opening: Opening) -> Format:
    """The Protobuf format over a registry.

    Raises UnknownName for an option that is not there, DeclarationError for what it may not be, ConfigError where there
    is no registry.
    """
    return FramedFormat(opening, SchemaKind.PROTOBUF, body_format(opening))


def body_format(opening: Opening) -> BodyFormat:
    """What opens the format of bodies, by the options. Raises UnknownName and DeclarationError as `open_protobuf` does."""
    for name in opening.options:
        if name.startswith(PREFIX) and name not in (MESSAGE, NANOSECONDS):
            raise UnknownName("option of format proto-registry", name, [MESSAGE, NANOSECONDS])
    choice = opening.options.get(NANOSECONDS, "refuse")
    if choice not in NANOSECONDS_CHOICES:
        raise DeclarationError(f"option {NANOSECONDS!r} is {choice!r}{did_you_mean(choice, NANOSECONDS_CHOICES)}")
    wanted = opening.options.get(MESSAGE)

    def open_body(schema: RegisteredSchema, registry: Registry) -> Format:
        return ProtobufFormat(describe(schema, registry), wanted, floors=choice == "floor")

    return open_body


class ProtobufFormat:
    """The Format of bodies written with one file, of the message called `wanted`; None: of the first.

    Raises SchemaMismatch where the file has no such message, or one that no table can hold. `floors` as in Mapper.
    """

    def __init__(self, file: FileDescriptor, wanted: str | None = None, *, floors: bool = False, block: int = BLOCK) -> None:
        self._names = _indexed(file)
        if not self._names:
            raise SchemaMismatch("the file has no messages")
        self._message = next(iter(self._names.values())) if wanted is None else _named(self._names, wanted)
        self._indexes = next(indexes for indexes, message in self._names.items() if message is self._message)
        self._wire = Wire(self._message)
        self._fields = Mapper(floors).columns_of(self._message)
        self._convert = fields_converter(self._fields)
        self._schema = schema_of(self._fields)
        self._block = block

    def schema(self) -> pa.Schema:
        """The columns of the message."""
        return self._schema

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """The rows of `values`; see the protocol."""
        wrong: Wrong = {}
        pieces: list[_Piece] = []
        for start, end in _blocks(values, self._block):
            bodies, places = self._bodies(values[start:end], start, wrong)
            if bodies:
                pieces.extend(self._decode_block(bodies, places, wrong))
        rejects = tuple(Reject(place, *wrong[place]) for place in sorted(wrong))
        return Decoded((self._joined(pieces, whole=not wrong),), rejects)

    def _joined(self, pieces: list[_Piece], *, whole: bool) -> Part:
        if not pieces:
            return Part(pa.RecordBatch.from_pylist([], schema=self._schema), None if whole else pa.array([], pa.int64()))
        rows, places = pieces[0].rows, pieces[0].places
        if len(pieces) > 1:
            rows = pa.concat_batches([piece.rows for piece in pieces])
            places = np.concatenate([piece.places for piece in pieces])
        if (np.diff(places) < 0).any():
            order = np.argsort(places)
            rows, places = rows.take(pa.array(order)), places[order]
        return Part(rows, None if whole else pa.array(places))

    def _bodies(self, values: Sequence[bytes | None], start: int, wrong: Wrong) -> tuple[Sequence[bytes], Places]:
        """Bodies of the table's message, each with a zero before it as those of a file's first, and their places from `start`
        on. The others go to `wrong`.
        """
        # Only the last value of a block can be a large one.
        if self._indexes == (0,) and _begin_with_zero(values) and len(values[-1] or b"") <= BODY_LIMIT:
            return cast("Sequence[bytes]", values), np.arange(start, start + len(values))
        found: list[bytes] = []
        places: list[int] = []
        for place, value in enumerate(values, start):
            body = self._body(value)
            if isinstance(body, bytes):
                found.append(body)
                places.append(place)
            else:
                wrong[place] = body
        return found, np.array(places, np.int64)

    def _body(self, value: bytes | None) -> bytes | tuple[RejectKind, str]:
        if value is None:
            return RejectKind.TOMBSTONE, "the record has no value"
        if len(value) > BODY_LIMIT:
            return RejectKind.MISFIT, f"the record has {len(value)} bytes; lakeflow reads Protobuf of up to {BODY_LIMIT}"
        read = _read_indexes(value)
        if read is None:
            return RejectKind.MALFORMED, f"no message indexes at the beginning of the body: {value[:20]!r}"
        indexes, begin = read
        if indexes == self._indexes:
            return b"\0" + value[begin:]
        other = self._names.get(indexes)
        if other is None:
            return RejectKind.MALFORMED, f"the record is of message {list(indexes)} of the file, which has none there"
        return (
            RejectKind.MISFIT,
            f"the record is of message {other.full_name}, and the table of {self._message.full_name}; "
            f"{MESSAGE!r} names the message of a table",
        )

    def _decode_block(self, bodies: Sequence[bytes], places: Places, wrong: Wrong) -> Iterator[_Piece]:
        """The rows of `bodies`, which stand at `places`; those that give none go to `wrong`."""
        block = self._wire.block(bodies)
        refused = self._wire.refused(block)
        for row, complaint in refused.items():
            reason = f"the bytes are no message of {self._message.full_name}: {complaint}"
            wrong[int(places[row])] = (RejectKind.MALFORMED, reason)
        if refused:
            stay = [row for row in range(len(bodies)) if row not in refused]
            block, places = self._wire.block([bodies[row] for row in stay]), places[stay]
        if not block.bodies:
            return
        read = self._wire.columns(block)
        if read is None:
            yield self._settle(block, places, wrong)
            return
        rows, findings = self._converted(read)
        doubtful = sorted(findings.unsettled)
        wrong.update((int(places[row]), findings.wrong[row]) for row in findings.wrong.keys() - findings.unsettled)
        yield _piece(rows, places, findings.wrong.keys() | findings.unsettled)
        if doubtful:
            yield self._settle(self._wire.block([block.bodies[row] for row in doubtful]), places[doubtful], wrong)

    def _settle(self, block: Block, places: Places, wrong: Wrong) -> _Piece:
        """The rows of sound bodies by way of google.protobuf, which writes each anew as ptars reads it rightly."""
        read = self._wire.columns(self._wire.canonical(block))
        assert read is not None, "ptars reads what google.protobuf writes"
        rows, findings = self._converted(read)
        assert not findings.unsettled, "google.protobuf writes one branch of a oneof, and each field once"
        wrong.update((int(places[row]), complaint) for row, complaint in findings.wrong.items())
        return _piece(rows, places, findings.wrong.keys())

    def _converted(self, read: pa.RecordBatch) -> tuple[pa.RecordBatch, Findings]:
        findings = Findings()
        arrays = [read.column(field.field.name) for field in self._fields]
        if self._convert is not None:
            arrays = self._convert(arrays, Spot(findings, lambda rows: rows))
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema), findings


@dataclass(frozen=True, slots=True)
class _Piece:
    places: Places
    rows: pa.RecordBatch


def _piece(rows: pa.RecordBatch, places: Places, without: AbstractSet[int]) -> _Piece:
    if not without:
        return _Piece(places, rows)
    stay = np.delete(np.arange(len(places)), sorted(without))
    return _Piece(places[stay], rows.take(pa.array(stay)))


def _blocks(values: Sequence[bytes | None], most: int) -> Iterator[tuple[int, int]]:
    """Where blocks of `values` begin and end: `most` of them, or BLOCK_BYTES and the one that goes past it."""
    start = 0
    while start < len(values):
        end = min(start + most, len(values))
        try:
            sizes = list(map(len, values[start:end]))  # type: ignore[arg-type]
        except TypeError:
            sizes = [0 if value is None else len(value) for value in values[start:end]]
        if sum(sizes) > BLOCK_BYTES:
            end = start + 1 + sum(1 for held in accumulate(sizes[:-1]) if held <= BLOCK_BYTES)
        yield start, end
        start = end


def _begin_with_zero(values: Sequence[bytes | None]) -> bool:
    """Whether all are bodies of a file's first message."""
    try:
        return not any(map(FIRST_BYTE, cast("Sequence[bytes]", values)))
    except (IndexError, TypeError):  # an empty one, or none
        return False


def _read_indexes(value: bytes) -> tuple[tuple[int, ...], int] | None:
    """The message's indexes and where its bytes begin; None where they are cut off or no indexes."""
    read = _read_zigzag(value, 0)
    if read is None or read[0] < 0:
        return None
    count, begin = read
    found: list[int] = []
    for _ in range(count):
        read = _read_zigzag(value, begin)
        if read is None:
            return None
        found.append(read[0])
        begin = read[1]
    return (tuple(found) or (0,)), begin


def _read_zigzag(value: bytes, begin: int) -> tuple[int, int] | None:
    number = 0
    for length, byte in enumerate(value[begin : begin + 5]):
        number |= (byte & 0x7F) << 7 * length
        if byte < 0x80:
            return number >> 1 ^ -(number & 1), begin + length + 1
    return None


def _indexed(file: FileDescriptor) -> dict[tuple[int, ...], Descriptor]:
    """Every message of the file by its indexes, those of the file's own first."""
    found: dict[tuple[int, ...], Descriptor] = {}

    def add(messages: Sequence[Descriptor], above: tuple[int, ...]) -> None:
        counted = [message for message in messages if not message.GetOptions().map_entry]
        for place, message in enumerate(counted):
            found[(*above, place)] = message
            add(message.nested_types, (*above, place))

    add(list(file.message_types_by_name.values()), ())
    return found


def _named(names: dict[tuple[int, ...], Descriptor], wanted: str) -> Descriptor:
    for message in names.values():
        if message.full_name == wanted:
            return message
    valid = ", ".join(message.full_name for message in names.values())
    raise SchemaMismatch(f"the file has no message {wanted!r}, which {MESSAGE!r} names; it has: {valid}")
