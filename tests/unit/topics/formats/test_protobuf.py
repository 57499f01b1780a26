"""Protobuf by a registry: which message a record is of, what is rejected, what it costs, and where schemas come from."""

from __future__ import annotations

import pyarrow as pa
import pytest
from google.protobuf.message_factory import GetMessageClass

from lakeflow.errors import ConfigError, DeclarationError, SchemaMismatch, UnknownName
from lakeflow.topics.formats.format import Decoded, Format, Opening, RejectKind
from lakeflow.topics.formats.framed import FramedFormat
from lakeflow.topics.formats.protobuf import ProtobufFormat, _blocks
from lakeflow.topics.formats.protobuf_wire import Wire
from lakeflow.topics.formats.registry import open_format
from lakeflow.topics.registered import Reference, RegisteredSchema, SchemaKind
from tests.property.protobuf_schemas import PROTO2, PROTO3, FakeRegistry, compiled, registered

SHOP = """
syntax = "proto3";
package shop;
message Order {
  map<string, int32> counts = 3;
  message Line { message Part { int32 n = 1; } string name = 1; Part part = 2; }
  int32 id = 1; string name = 2; repeated double prices = 4; oneof o { int32 left = 5; Line right = 6; }
}
message Refund { int32 id = 1; }
"""


def opening(registry: FakeRegistry, **options: str) -> Opening:
    return Opening(None, {f"proto-registry.{name}": value for name, value in options.items()}, "value", ("orders",), registry)


def shop(**options: str) -> Format:
    return open_format("proto-registry", opening(FakeRegistry({1: registered(SHOP)}), **options))


def framed(body: bytes, schema_id: int = 1) -> bytes:
    return b"\0" + schema_id.to_bytes(4, "big") + body


def places(decoded: Decoded) -> list[tuple[int, RejectKind]]:
    return [(reject.index, reject.kind) for reject in decoded.rejects]


def test_records_are_decoded_by_the_first_message_of_their_file() -> None:
    format_ = shop()
    decoded = format_.decode([framed(b"\0\x08\x05"), framed(b"\x02\0\x08\x06"), framed(b"\x80\0\x08\x07"), None])
    assert decoded.rows.column("id").to_pylist() == [5, 6, 7]
    assert places(decoded) == [(3, RejectKind.TOMBSTONE)]
    assert format_.schema().names == ["counts", "id", "name", "prices", "left", "right"]


def test_a_record_of_another_message_is_a_misfit_that_names_both() -> None:
    decoded = shop().decode([framed(b"\x02\x02\x08\x05"), framed(b"\0\x08\x06"), framed(b"\x04\0\0\x0a\0")])
    assert [reject.reason.split("; ")[0] for reject in decoded.rejects] == [
        "the record is of message shop.Refund, and the table of shop.Order",
        "the record is of message shop.Order.Line, and the table of shop.Order",
    ]
    assert places(decoded) == [(0, RejectKind.MISFIT), (2, RejectKind.MISFIT)]
    assert decoded.kept is not None
    assert decoded.kept.to_pylist() == [1]


@pytest.mark.parametrize(
    ("message", "indexes", "column"),
    [("shop.Refund", b"\x02\x02", "id"), ("shop.Order.Line.Part", b"\x06\0\0\0", "n"), ("shop.Order", b"\0", "id")],
)
def test_a_table_may_be_of_any_message_of_the_file(message: str, indexes: bytes, column: str) -> None:
    decoded = shop(message=message).decode([framed(indexes + b"\x08\x05")])
    assert decoded.rows.column(column).to_pylist() == [5]


def test_a_message_that_the_file_lacks_is_a_reject_and_no_schema() -> None:
    format_ = shop(message="shop.Return")
    (reject,) = format_.decode([framed(b"\0")]).rejects
    assert reject.kind == RejectKind.SCHEMA
    assert "no message 'shop.Return'" in reject.reason
    assert "shop.Order, shop.Order.Line, shop.Order.Line.Part, shop.Refund" in reject.reason
    with pytest.raises(SchemaMismatch, match=r"no message 'shop\.Return'"):
        format_.schema()


@pytest.mark.parametrize(
    "body", [b"", b"\x02", b"\x80", b"\x01", b"\xff\xff\xff\xff\xff\xff", b"\x02\x08\x08\x05", b"\x02\x01\x08\x05", b"\x0e\0\0"]
)
def test_indexes_that_lead_nowhere_are_malformed(body: bytes) -> None:
    decoded = shop().decode([framed(b"\0\x08\x01"), framed(body)])
    assert places(decoded) == [(1, RejectKind.MALFORMED)]
    assert decoded.rows.num_rows == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\x08", "Wire format was corrupt"),
        (b"\x12\x02\xff\xfe", "String field had bad UTF-8"),
        (b"\x12\x05abc", "Wire format was corrupt"),
        (b"\x22\x03abc", "Wire format was corrupt"),
        (b"\x7a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x09" + bytes(8), "Wire format was corrupt"),
        (b"\x88\x80\x80\x80\x80\x80\x01\x05", "Wire format was corrupt"),
        (b"\x0b\x08\x01", "Wire format was corrupt"),
        (b"\x0c", "Wire format was corrupt"),
        (b"\x0e\x00", "Wire format was corrupt"),
        (b"\x00\x01", "Wire format was corrupt"),
    ],
)
def test_bytes_that_are_no_message_are_malformed(body: bytes, reason: str) -> None:
    decoded = shop().decode([framed(b"\0\x08\x01"), framed(b"\0" + body), framed(b"\0\x08\x03")])
    assert decoded.rows.column("id").to_pylist() == [1, 3]
    (reject,) = decoded.rejects
    assert (reject.index, reject.kind) == (1, RejectKind.MALFORMED)
    assert reject.reason == f"the bytes are no message of shop.Order: {reason}"


@pytest.mark.parametrize(
    ("body", "column", "value"),
    [
        (b"\x0b\x08\x05\x0c\x08\x07", "id", 7),  # a group that nobody knows
        (b"\x0d\0\0\0\0\x08\x07", "id", 7),  # the number of a field, the wire of another
        (b"\x08\x05\x08\x07", "id", 7),
        (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "id", -1),
        (b"\x28\x05\x32\x03\x0a\x01x", "left", None),  # of a oneof the last branch
        (b"\x28\x05\x32\x03\x0a\x01x", "right", {"name": "x", "part": None}),
        (b"\x32\x03\x0a\x01x\x28\x05", "right", None),
        (b"\x32\x03\x0a\x01x\x32\x02\x12\0", "right", {"name": "x", "part": {"n": 0}}),  # halves of a message
        (b"\x1a\x05\x0a\x01a\x10\x01\x1a\x05\x0a\x01a\x10\x02", "counts", [("a", 2)]),
        (b"\x1a\x02\x10\x01", "counts", [("", 1)]),
        (b"\x21" + bytes(8) + b"\x22\x08" + bytes(8), "prices", [0.0, 0.0]),
        (b"\xa2\x06\x01x\x08\x07", "id", 7),
    ],
)
def test_unusual_bytes_mean_what_they_mean_to_google_protobuf(body: bytes, column: str, value: object) -> None:
    decoded = shop().decode([framed(b"\0\x08\x01"), framed(b"\0" + body), framed(b"\0\x08\x03")])
    assert decoded.rejects == ()
    assert decoded.rows.column(column).to_pylist()[1] == value
    assert decoded.rows.column("id").to_pylist()[::2] == [1, 3]


def test_required_fields_that_are_missing_are_named() -> None:
    format_ = ProtobufFormat(compiled(PROTO2))
    message = GetMessageClass(compiled(PROTO2).message_types_by_name["Order"])
    good = message(id=1, level=2, last={"name": "x"}, lines=[{"name": "y"}])
    bad = message(id=1, level=2, last={"name": "x"}, lines=[{"name": "y"}, {"count": 5}])
    decoded = format_.decode([b"\0" + one.SerializePartialToString() for one in (good, bad, message())])
    assert [reject.reason for reject in decoded.rejects] == [
        "Order.lines[].name is missing, and it is required",
        "Order.id is missing, and it is required",
    ]
    assert decoded.rows.column("last").to_pylist() == [{"name": "x", "count": None, "level": None}]
    assert not decoded.rows.schema.field("last").nullable


def poisoned(count: int, bad: int) -> list[bytes]:
    step = count // bad
    return [b"\0\x08" + (b"" if place % step == 0 else b"\x05") for place in range(count)]


class Counting:
    """Counts the bodies that google.protobuf parses, of all calls together."""

    def __init__(self, wire: Wire) -> None:
        self._parse = wire._rows_class.FromString
        self.bodies = 0
        self.FromString = self.count

    def count(self, joined: bytes) -> object:
        self.bodies += joined.count(b"\x0a")
        return self._parse(joined)


@pytest.mark.parametrize("bad", [1, 1_000, 100_000])
def test_the_cost_of_poison_follows_its_amount(bad: int) -> None:
    count = 200_000
    format_ = ProtobufFormat(compiled(SHOP))
    counting = Counting(format_._wire)
    format_._wire._rows_class = counting
    decoded = format_.decode(poisoned(count, bad))
    assert len(decoded.rejects) == bad
    assert decoded.rows.num_rows == count - bad
    halvings = 14  # of a block of 8192
    assert counting.bodies <= count + min(bad * 2 * 8192, halvings * count)


def test_blocks_are_bounded_by_rows_and_by_bytes() -> None:
    half = b"x" * (9 << 20)
    assert list(_blocks([half, half, half, None], 4096)) == [(0, 2), (2, 4)]
    assert list(_blocks([half * 2, b"", half * 2], 4096)) == [(0, 1), (1, 3)]
    assert list(_blocks([b""] * 5, 2)) == [(0, 2), (2, 4), (4, 5)]


def test_of_no_records_come_no_rows() -> None:
    format_ = ProtobufFormat(compiled(PROTO3))
    assert format_.decode([]).rows.schema == format_.schema()
    only_bad = format_.decode([b"\0\x08"])
    assert (only_bad.rows.num_rows, only_bad.kept) == (0, pa.array([], pa.int64()))


def test_imports_are_the_registrys_references() -> None:
    text = 'syntax = "proto3"; package a; import "deep/b.proto"; message A { b.B b = 1; }'
    middle = 'syntax = "proto3"; package b; import "c.proto"; import "google/type/date.proto"; message B { c.C c = 1; }'
    schemas = {
        1: RegisteredSchema(1, SchemaKind.PROTOBUF, text, (Reference("deep/b.proto", "b", 1),)),
        2: RegisteredSchema(2, SchemaKind.PROTOBUF, middle, (Reference("c.proto", "c", 1),)),
        3: registered('syntax = "proto3"; package c; message C { int32 n = 1; }', 3),
    }
    for serialized in (True, False):
        registry = FakeRegistry(schemas, named={"b": 2, "c": 3, "orders-value": 1}, serialized=serialized)
        format_ = open_format("proto-registry", opening(registry))
        assert format_.decode([framed(b"\0\x0a\x04\x0a\x02\x08\x05")]).rows.to_pylist() == [{"b": {"c": {"n": 5}}}]


def test_text_that_cannot_be_compiled_is_a_schema_that_gives_no_rows() -> None:
    registry = FakeRegistry({1: registered('syntax = "proto3"; message A { int32 = 1; }')}, serialized=False)
    (reject,) = open_format("proto-registry", opening(registry)).decode([framed(b"\0")]).rejects
    assert reject.kind == RejectKind.SCHEMA
    assert "protoc refuses the schema's text" in reject.reason
    assert "Expected field name" in reject.reason


def test_an_import_that_is_not_there_is_named() -> None:
    registry = FakeRegistry(
        {1: registered('syntax = "proto3"; import "gone.proto"; message A { int32 a = 1; }')}, serialized=False
    )
    (reject,) = open_format("proto-registry", opening(registry)).decode([framed(b"\0")]).rejects
    assert "gone.proto" in reject.reason


def test_a_reference_may_not_lead_out_of_the_compilers_folder() -> None:
    schemas = {
        1: RegisteredSchema(1, SchemaKind.PROTOBUF, SHOP, (Reference("../../b.proto", "b", 1),)),
        2: registered(SHOP, 2),
    }
    registry = FakeRegistry(schemas, named={"b": 2}, serialized=False)
    (reject,) = open_format("proto-registry", opening(registry)).decode([framed(b"\0")]).rejects
    assert "'../../b.proto', which is no relative path" in reject.reason


def test_without_a_compiler_text_alone_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    registry = FakeRegistry({1: registered(SHOP)}, serialized=False)
    with pytest.raises(ConfigError, match=r"pip install 'lakeflow\[protobuf-text\]'"):
        open_format("proto-registry", opening(registry)).schema()


def test_options_are_checked_when_the_format_is_opened() -> None:
    with pytest.raises(UnknownName, match=r"proto-registry\.mesage.*did you mean 'proto-registry\.message'"):
        shop(mesage="shop.Order")
    with pytest.raises(DeclarationError, match="'ceil'"):
        shop(nanoseconds="ceil")
    assert isinstance(shop(nanoseconds="floor"), FramedFormat)
    with pytest.raises(ConfigError, match="schema registry"):
        open_format("proto-registry", Opening(None, {}, "value", ("orders",)))
