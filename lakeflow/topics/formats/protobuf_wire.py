"""Protobuf's wire format to Arrow columns as they come: ptars reads, google.protobuf judges.

https://protobuf.dev/programming-guides/encoding/

ptars reads fast, and not all that it accepts is a message: lengths and tags past 64 bits wrap around, the end of a ragged
packed field is dropped, a oneof may keep several branches; groups it cannot skip. So all bodies of a block are parsed by
google.protobuf too, in one call, as the elements of one repeated field (which takes half of ptars's time). Both are
given descriptors of our own that mean the same on the wire as the schema's: enums are int32, so that no number is lost;
every field that knows presence is `optional`; names are not those that ptars treats its own way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import ptars
import pyarrow as pa
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from lakeflow.errors import SchemaMismatch
from lakeflow.topics.formats.protobuf_files import well_known

OPAQUE = ("google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue")
"""Messages that hold themselves, so that no column can; ptars hands their bytes over."""

MOST_NUMBER = 100_000
"""The largest field number: ptars keeps a table of 16 bytes a number, made anew for each block."""
MOST_DEPTH = 64
"""How deep messages may stand in one another; google.protobuf gives up at 100."""

BODY_LIMIT = 1 << 28
"""Bytes of a body must be fewer, as their number stands in four groups of seven bits."""
HEAD = 5
"""Bytes before the zero of each body in a joined block."""
HEADS_KEPT = 1 << 16
PACKAGE = "lakeflow"
STRUCT_FILE = "google/protobuf/struct.proto"


class _Heads(dict[int, bytes]):
    """By the length of a body and the zero before it: what makes of both an element of `repeated Message row = 1`.

    The length is a varint of five bytes, four of them here: the zero itself, which is how a body of the first message of
    a file begins, ends it. So joined bodies need no copy of their own; and for ptars five bytes and a zero are a record.
    """

    def __missing__(self, length: int) -> bytes:
        size = length - 1
        head = bytes([0x0A, *(size >> shift & 0x7F | 0x80 for shift in (0, 7, 14, 21))])
        if length < HEADS_KEPT:
            self[length] = head
        return head


@dataclass(frozen=True, slots=True)
class Block:
    """Bodies of one message type, each with a zero byte before it and under BODY_LIMIT; and joined, see `_Heads`."""

    bodies: Sequence[bytes]
    lengths: Sequence[int]
    joined: bytes


class Wire:
    """Reads bodies of one message type."""

    def __init__(self, message: Descriptor) -> None:
        judged = _Plain(message, for_ptars=False)
        self._rows_class = GetMessageClass(judged.descriptor("Rows"))
        columns = _Plain(message, for_ptars=True).descriptor("M0")
        config = ptars.PtarsConfig(list_value_name="element", map_value_nullable=True, confluent_wire_policy="protobuf")
        try:
            self._read = ptars.HandlerPool([columns.file], config).get_for_message(columns).array_to_record_batch
        except BaseException as error:
            if not _is_panic(error):
                raise
            raise SchemaMismatch(f"message {message.full_name} cannot be read by ptars: {error}") from None
        self._heads = _Heads()

    def block(self, bodies: Sequence[bytes]) -> Block:
        """`bodies` joined."""
        lengths = list(map(len, bodies))
        pieces: list[bytes] = [b""] * (2 * len(bodies))
        pieces[::2] = map(self._heads.__getitem__, lengths)
        pieces[1::2] = bodies
        return Block(bodies, lengths, b"".join(pieces))

    def refused(self, block: Block) -> dict[int, str]:
        """By place: why a body is no message. The cost follows the number of those."""
        found: dict[int, str] = {}
        self._search(block, 0, found)
        return found

    def _search(self, block: Block, start: int, found: dict[int, str]) -> None:
        try:
            self._rows_class.FromString(block.joined)
        except DecodeError as error:
            if len(block.bodies) == 1:
                found[start] = str(error).rpartition(": ")[2]
                return
            middle = len(block.bodies) // 2
            self._search(self.block(block.bodies[:middle]), start, found)
            self._search(self.block(block.bodies[middle:]), start + middle, found)

    def canonical(self, block: Block) -> Block:
        """Bodies that mean the same, without what is unknown and with each field once. None of `block` may be refused."""
        rows = self._rows_class.FromString(block.joined)
        rows.DiscardUnknownFields()
        return self.block([b"\0" + row.SerializeToString() for row in rows.row])

    def columns(self, block: Block) -> pa.RecordBatch | None:
        """The columns of a block of which none may be refused; None where ptars gives up."""
        count = len(block.bodies)
        offsets = np.zeros(count + 1, np.int32)
        np.cumsum(np.array(block.lengths, np.int32) + HEAD, out=offsets[1:])
        records = pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(block.joined)])
        try:
            return self._read(records)
        except ValueError:
            return None
        except BaseException as error:
            if not _is_panic(error):
                raise
            return None


def _is_panic(error: BaseException) -> bool:
    """Whether it is a panic of Rust, which is no Exception, and whose class has no name to import it by."""
    return type(error).__name__ == "PanicException"


class _Plain:
    """The descriptors of a message and all in it that ptars and google.protobuf are given. `Rows` holds `M0` repeated.

    For ptars, OPAQUE messages are `repeated bytes`: all their pieces, which google.protobuf would merge.

    Raises SchemaMismatch for what no column can hold, or ptars cannot read.
    """

    def __init__(self, message: Descriptor, *, for_ptars: bool) -> None:
        self._for_ptars = for_ptars
        self._file = FileDescriptorProto(name="plain.proto", package=PACKAGE, syntax="proto3")
        self._names: dict[str, str] = {}
        root = self._message(message, message.name, ())
        rows = self._file.message_type.add(name="Rows")
        rows.field.add(name="row", number=1, label=3, type=FieldDescriptorProto.TYPE_MESSAGE, type_name=root)
        self._pool = DescriptorPool()
        if not for_ptars:
            self._file.dependency.append(STRUCT_FILE)
            struct = well_known(STRUCT_FILE)
            assert struct is not None, "google.protobuf carries it"
            self._pool.AddSerializedFile(struct.SerializeToString())
        self._pool.AddSerializedFile(self._file.SerializeToString())

    def descriptor(self, name: str) -> Descriptor:
        return self._pool.FindMessageTypeByName(f"{PACKAGE}.{name}")

    def _message(self, message: Descriptor, path: str, above: tuple[str, ...]) -> str:
        if message.full_name in above:
            raise SchemaMismatch(f"{path} is recursive: {message.full_name} holds itself, which no column can")
        if len(above) == MOST_DEPTH:
            raise SchemaMismatch(f"{path} stands more than {MOST_DEPTH} messages deep")
        if message.full_name in self._names:
            return self._names[message.full_name]
        name = f"M{len(self._names)}"
        self._names[message.full_name] = f".{PACKAGE}.{name}"
        plain = self._file.message_type.add(name=name)
        fields = fields_of(message)
        _check_names([field for field, _ in fields], path)
        oneofs: dict[int, int] = {}
        for proto in (proto for _, proto in fields if in_oneof(proto)):
            if oneofs.setdefault(proto.oneof_index, len(plain.oneof_decl)) == len(plain.oneof_decl):
                plain.oneof_decl.add(name=_unlike(message, f"oneof{proto.oneof_index}"))
        for field, proto in fields:
            added = self._field(plain, field, f"{path}.{field.name}", (*above, message.full_name))
            if added.label == FieldDescriptorProto.LABEL_REPEATED:
                continue
            if in_oneof(proto):
                added.oneof_index = oneofs[proto.oneof_index]
            elif field.has_presence and field.message_type is None:
                added.proto3_optional = True
                added.oneof_index = len(plain.oneof_decl)
                plain.oneof_decl.add(name=_unlike(message, f"only_{field.name}"))
        if not fields and self._for_ptars:  # a struct needs a field; this one is not read
            plain.field.add(name="nothing", number=1, label=1, type=FieldDescriptorProto.TYPE_BOOL)
        return self._names[message.full_name]

    def _field(self, plain: DescriptorProto, field: FieldDescriptor, path: str, above: tuple[str, ...]) -> FieldDescriptorProto:
        if field.number > MOST_NUMBER:
            raise SchemaMismatch(f"{path} has the number {field.number}; lakeflow reads those up to {MOST_NUMBER}")
        if field.type == FieldDescriptor.TYPE_GROUP:
            raise SchemaMismatch(f"{path} is a group (delimited); lakeflow reads nested messages that have a length only")
        label = FieldDescriptorProto.LABEL_REPEATED if field.is_repeated else FieldDescriptorProto.LABEL_OPTIONAL
        added = plain.field.add(name=field.name, number=field.number, label=label, type=field.type)
        if field.type == FieldDescriptor.TYPE_ENUM:
            added.type = FieldDescriptorProto.TYPE_INT32
        elif field.message_type is None:
            pass
        elif is_map(field):
            added.type_name = self._entry(plain, field, path, above)
        elif field.message_type.full_name not in OPAQUE:
            added.type_name = self._message(field.message_type, path, above)
        elif self._for_ptars:
            added.type, added.label = FieldDescriptorProto.TYPE_BYTES, FieldDescriptorProto.LABEL_REPEATED
        else:
            added.type_name = f".{field.message_type.full_name}"
        return added

    def _entry(self, plain: DescriptorProto, field: FieldDescriptor, path: str, above: tuple[str, ...]) -> str:
        entry = plain.nested_type.add(name=field.message_type.name)
        key, value = field.message_type.fields_by_name["key"], field.message_type.fields_by_name["value"]
        self._field(entry, key, f"{path}.key", above)
        added = self._field(entry, value, f"{path}.value", above)
        # To google.protobuf an entry is a message as others are: of a map it would drop those that hold unknown fields.
        # And bytes that come twice in an entry are one message in pieces: all are wanted, not the last.
        entry.options.map_entry = self._for_ptars and added.label != FieldDescriptorProto.LABEL_REPEATED
        return f".{PACKAGE}.{plain.name}.{entry.name}"


def _check_names(fields: Sequence[FieldDescriptor], path: str) -> None:
    seen: dict[str, str] = {}
    for field in fields:
        # Descriptors tell fields apart in camel case, as JSON would name them; engines of SQL whatever their case.
        first, *others = field.name.split("_")
        for name in {field.name.lower(), "camel " + first + "".join(part[:1].upper() + part[1:] for part in others)}:
            if name in seen:
                raise SchemaMismatch(f"{path}: {field.name!r} and {seen[name]!r} differ by case only; rename one")
            seen[name] = field.name


def _unlike(message: Descriptor, name: str) -> str:
    """`name`, or one longer that no field of the message has."""
    while name in message.fields_by_name:
        name += "_"
    return name


def fields_of(message: Descriptor) -> list[tuple[FieldDescriptor, FieldDescriptorProto]]:
    """The fields in the order of their declaration."""
    proto = DescriptorProto()
    message.CopyToProto(proto)
    return [(message.fields_by_name[field.name], field) for field in proto.field]


def in_oneof(field: FieldDescriptorProto) -> bool:
    """Whether it is a branch of a oneof that the schema's author wrote: each proto3 `optional` is in one of its own."""
    return bool(field.HasField("oneof_index") and not field.proto3_optional)


def is_map(field: FieldDescriptor) -> bool:
    """Whether the repeated field is written as `map<..>`."""
    return bool(field.is_repeated and field.message_type is not None and field.message_type.GetOptions().map_entry)
