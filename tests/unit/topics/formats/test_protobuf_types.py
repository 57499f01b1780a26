"""Which column holds which Protobuf field: a test for each row of docs/types.md, and what no table can hold."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from google.protobuf import text_format
from google.protobuf.message_factory import GetMessageClass

from lakeflow.errors import SchemaMismatch
from lakeflow.lake.schema import storable
from lakeflow.sql.types import sql_type
from lakeflow.topics.formats.format import RejectKind
from lakeflow.topics.formats.protobuf import ProtobufFormat
from tests.property.protobuf_schemas import compiled

PAGE = Path(__file__).parents[4] / "docs" / "types.md"
META = '[(confluent.field_meta) = {params: [{key: "precision", value: "9"}, {key: "scale", value: "2"}]}]'
IMPORTS = "".join(
    f'import "{path}.proto";\n'
    for path in (
        *(f"google/protobuf/{name}" for name in ("timestamp", "duration", "wrappers", "struct", "any", "field_mask", "empty")),
        *(f"google/type/{name}" for name in ("date", "timeofday", "decimal")),
        "confluent/meta",
        "confluent/type/decimal",
    )
)
KINDS = """
enum Color { option allow_alias = true; RED = 0; CRIMSON = 0; BLUE = 5; }
message Pair { int32 a = 1; optional string b = 2; }
message Nothing {}
"""
OLD = "enum Level { LOW = 1; }\n"

UTC = pa.timestamp("us", "UTC")
PAIR = pa.struct([pa.field("a", pa.int32(), nullable=False), pa.field("b", pa.string())])
ANY = pa.struct([pa.field("type_url", pa.string(), nullable=False), pa.field("value", pa.binary(), nullable=False)])
PRICE = pa.decimal128(9, 2)


def list_of(type_: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", type_, nullable=False))


def map_of(key: pa.DataType, type_: pa.DataType) -> pa.DataType:
    return pa.map_(key, pa.field("value", type_, nullable=False))


Row = tuple[str, pa.DataType, bool, str, Any]
"""Fields of which the last is `x`; its type; whether it is nullable; a message in text format; what x then holds."""
ROWS: dict[str, list[Row]] = {
    "int32, sint32, sfixed32": [
        ("int32 x = 1;", pa.int32(), False, "x: -2147483648", -(2**31)),
        ("sint32 x = 1;", pa.int32(), False, "x: -7", -7),
        ("sfixed32 x = 1;", pa.int32(), False, "", 0),
    ],
    "uint32, fixed32": [
        ("uint32 x = 1;", pa.int64(), False, "x: 4294967295", 2**32 - 1),
        ("fixed32 x = 1;", pa.int64(), False, "x: 4294967295", 2**32 - 1),
    ],
    "int64, sint64, sfixed64": [
        ("int64 x = 1;", pa.int64(), False, "x: -9223372036854775808", -(2**63)),
        ("sint64 x = 1;", pa.int64(), False, "x: -9223372036854775808", -(2**63)),
        ("sfixed64 x = 1;", pa.int64(), False, "x: 9223372036854775807", 2**63 - 1),
    ],
    "uint64, fixed64": [
        ("uint64 x = 1;", pa.decimal128(20, 0), False, "x: 18446744073709551615", Decimal(2**64 - 1)),
        ("fixed64 x = 1;", pa.decimal128(20, 0), False, "x: 18446744073709551615", Decimal(2**64 - 1)),
    ],
    "bool": [("bool x = 1;", pa.bool_(), False, "x: true", True)],
    "float": [("float x = 1;", pa.float32(), False, "x: -inf", float("-inf"))],
    "double": [("double x = 1;", pa.float64(), False, "x: 0.1", 0.1)],
    "string": [("string x = 1;", pa.string(), False, 'x: "Zö"', "Zö")],
    "bytes": [("bytes x = 1;", pa.binary(), False, r'x: "\377\000"', b"\xff\x00")],
    "enum": [
        ("Color x = 1;", pa.string(), False, "x: CRIMSON", "RED"),
        ("Color x = 1;", pa.string(), False, "x: 7", "7"),
    ],
    "optional int32": [
        ("optional int32 x = 1;", pa.int32(), True, "", None),
        ("optional int32 x = 1;", pa.int32(), True, "x: 0", 0),
    ],
    "message of a and b": [("Pair x = 1;", PAIR, True, "x {}", {"a": 0, "b": None}), ("Pair x = 1;", PAIR, True, "", None)],
    "message of no fields": [
        ("Nothing x = 1;", pa.bool_(), True, "x {}", True),
        ("google.protobuf.Empty x = 1;", pa.bool_(), True, "", None),
    ],
    "repeated uint32": [
        ("repeated uint32 x = 1;", list_of(pa.int64()), False, "x: [1, 4294967295]", [1, 2**32 - 1]),
        ("repeated uint32 x = 1;", list_of(pa.int64()), False, "", []),
    ],
    "map<uint64, int32>": [
        (
            "map<uint64, int32> x = 1;",
            map_of(pa.decimal128(20, 0), pa.int32()),
            False,
            "x {key: 18446744073709551615 value: 1}",
            [(Decimal(2**64 - 1), 1)],
        )
    ],
    "map<bool, string>": [("map<bool, string> x = 1;", map_of(pa.bool_(), pa.string()), False, "x {key: true}", [(True, "")])],
    "oneof": [("oneof o { string w = 2; int32 x = 1; }", pa.int32(), True, "x: 0", 0)],
    "proto2 optional int32": [("optional int32 x = 1 [default = 7];", pa.int32(), True, "", None)],
    "proto2 required int32": [("required int32 x = 1;", pa.int32(), False, "x: 7", 7)],
    "google.protobuf.Timestamp": [
        (
            "google.protobuf.Timestamp x = 1;",
            UTC,
            True,
            "x {seconds: -62135596800 nanos: 999999000}",
            dt.datetime(1, 1, 1, 0, 0, 0, 999999, tzinfo=dt.UTC),
        )
    ],
    "google.protobuf.Duration": [
        ("google.protobuf.Duration x = 1;", pa.int64(), True, "x {seconds: -1 nanos: -500000000}", -1_500_000)
    ],
    "google.protobuf.StringValue": [
        ("google.protobuf.StringValue x = 1;", pa.string(), True, "x {}", ""),
        ("google.protobuf.StringValue x = 1;", pa.string(), True, "", None),
    ],
    "google.protobuf.UInt64Value": [
        (
            "google.protobuf.UInt64Value x = 1;",
            pa.decimal128(20, 0),
            True,
            "x {value: 18446744073709551615}",
            Decimal(2**64 - 1),
        )
    ],
    "google.protobuf.Struct": [
        (
            "google.protobuf.Struct x = 1;",
            pa.string(),
            True,
            'x {fields {key: "b" value {number_value: 1}} fields {key: "a" value {null_value: NULL_VALUE}}}',
            '{"a":null,"b":1.0}',
        ),
        ("google.protobuf.Value x = 1;", pa.string(), True, 'x {string_value: "ö"}', '"ö"'),
        ("google.protobuf.Value x = 1;", pa.string(), True, "x {}", "null"),
        ("google.protobuf.ListValue x = 1;", pa.string(), True, "x {}", "[]"),
        ("google.protobuf.Struct x = 1;", pa.string(), True, "", None),
    ],
    "google.protobuf.Any": [
        (
            "google.protobuf.Any x = 1;",
            ANY,
            True,
            'x {type_url: "a/b" value: "c"}',
            {"type_url": "a/b", "value": b"c"},
        )
    ],
    "google.protobuf.FieldMask": [
        ("google.protobuf.FieldMask x = 1;", list_of(pa.string()), True, 'x {paths: "a.b"}', ["a.b"]),
        ("google.protobuf.FieldMask x = 1;", list_of(pa.string()), True, "", None),
    ],
    "google.type.Date": [
        ("google.type.Date x = 1;", pa.date32(), True, "x {year: 2024 month: 2 day: 29}", dt.date(2024, 2, 29)),
        ("google.type.Date x = 1;", pa.date32(), True, "x {year: 1 month: 1 day: 1}", dt.date(1, 1, 1)),
    ],
    "google.type.TimeOfDay": [
        (
            "google.type.TimeOfDay x = 1;",
            pa.time64("us"),
            True,
            "x {hours: 23 minutes: 59 seconds: 59 nanos: 999999000}",
            dt.time(23, 59, 59, 999999),
        )
    ],
    "google.type.Decimal": [("google.type.Decimal x = 1;", pa.string(), True, 'x {value: "1.50"}', "1.50")],
    "google.type.Decimal, precision 9, scale 2": [
        (f"google.type.Decimal x = 1 {META};", PRICE, True, 'x {value: "-1.5e1"}', Decimal("-15.00"))
    ],
    "confluent.type.Decimal": [
        ("confluent.type.Decimal x = 1;", pa.string(), True, r'x {value: "\377\000" scale: 2}', "-2.56"),
    ],
    "confluent.type.Decimal, precision 9, scale 2": [
        (f"confluent.type.Decimal x = 1 {META};", PRICE, True, r'x {value: "\377\000" scale: 2}', Decimal("-2.56")),
        (f"confluent.type.Decimal x = 1 {META};", PRICE, True, r'x {value: "\005" scale: -1}', Decimal("50.00")),
        (f"confluent.type.Decimal x = 1 {META};", PRICE, True, "", None),
    ],
}


def proto(fields: str, *, old: bool = False, more: str = "") -> str:
    syntax, kinds = ("proto2", OLD) if old else ("proto3", KINDS)
    return f'syntax = "{syntax}";\npackage t;\n{IMPORTS}message T {{ {fields} }}\n{kinds}{more}'


def body(format_text: str, text: str) -> bytes:
    message = GetMessageClass(compiled(format_text).message_types_by_name["T"])()
    return b"\0" + text_format.Parse(text, message, allow_unknown_field=False).SerializeToString()  # type: ignore[no-any-return]


def table_of_the_page() -> dict[str, tuple[str, str]]:
    section = PAGE.read_text(encoding="utf-8").split("## Protobuf\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|", section, flags=re.MULTILINE)
    return {name: (sql, iceberg) for name, sql, iceberg in rows if name != "Protobuf"}


CASES = [(name, *row) for name, rows in ROWS.items() for row in rows]


@pytest.mark.parametrize(("name", "fields", "type_", "nullable", "text", "value"), CASES)
def test_a_field_becomes_the_column_of_its_row_in_the_documentation(
    name: str, fields: str, type_: pa.DataType, nullable: bool, text: str, value: Any
) -> None:
    source = proto(fields, old=name.startswith("proto2"))
    format_ = ProtobufFormat(compiled(source))
    field = format_.schema().field("x")
    assert (field.type, field.nullable) == (type_, nullable)
    assert storable(format_.schema(), "t") == format_.schema()
    decoded = format_.decode([body(source, text)])
    assert decoded.rejects == ()
    assert decoded.rows.column("x").to_pylist() == [value]
    sql, _ = table_of_the_page()[name]
    assert sql == sql_type(type_) + ("" if nullable else " NOT NULL")


def test_the_documentation_has_a_row_for_each_case_and_no_other() -> None:
    assert list(table_of_the_page()) == list(ROWS)


REFUSED = {
    "recursive": ("T x = 1;", "", "T.x is recursive"),
    "recursive further down": (
        "U x = 1;",
        "message U { map<string, V> v = 1; } message V { repeated U u = 1; }",
        "T.x.v.value.u",
    ),
    "names that differ by case": ("int32 a = 1; int32 A = 2;", "", "'A' and 'a' differ by case only"),
    "no fields": ("", "", "t.T has no fields"),
    "a number too large": ("int32 x = 100001;", "", "T.x has the number 100001"),
    "a precision too large": (
        f"google.type.Decimal x = 1 {META.replace('9', '39')};",
        "",
        "precision goes up to 38",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_schema_that_no_table_can_hold_is_refused_with_its_path(name: str) -> None:
    fields, more, wanted = REFUSED[name]
    with pytest.raises(SchemaMismatch, match=re.escape(wanted)):
        ProtobufFormat(compiled(proto(fields, more=more)))


def test_names_that_are_one_in_camel_case_are_refused() -> None:
    with pytest.raises(SchemaMismatch, match="'a_b' and 'aB' differ by case only"):
        ProtobufFormat(compiled(proto('optional int32 aB = 1 [json_name = "x"]; optional int32 a_b = 2;', old=True)))


def test_a_group_is_refused() -> None:
    with pytest.raises(SchemaMismatch, match=r"T\.x is a group"):
        ProtobufFormat(compiled(proto("optional group X = 1 { optional int32 a = 1; }", old=True)))


MISFITS = {
    "nanoseconds": ("google.protobuf.Timestamp x = 1;", "x {nanos: 1}", "T.x is 0 s and 1 ns; wanted a Timestamp"),
    "year 0": ("google.protobuf.Timestamp x = 1;", "x {seconds: -62135596801}", "T.x is -62135596801 s"),
    "year 10000": ("google.protobuf.Timestamp x = 1;", "x {seconds: 253402300800}", "years 0001 to 9999"),
    "negative nanos": ("google.protobuf.Timestamp x = 1;", "x {seconds: 5 nanos: -1000}", "T.x is 5 s and -1000 ns"),
    "duration too long": ("google.protobuf.Duration x = 1;", "x {seconds: 315576000001}", "T.x is 315576000001 s"),
    "duration of two signs": ("google.protobuf.Duration x = 1;", "x {seconds: 1 nanos: -1000}", "T.x is 1 s"),
    "no day": ("google.type.Date x = 1;", "x {year: 2024 month: 2}", "year 2024, month 2, day 0; wanted a DATE"),
    "the 29th": ("google.type.Date x = 1;", "x {year: 2023 month: 2 day: 29}", "day 29"),
    "24:00": ("google.type.TimeOfDay x = 1;", "x {hours: 24}", "hours 24"),
    "no number": (f"google.type.Decimal x = 1 {META};", 'x {value: "NaN"}', "wanted a DECIMAL(9, 2)"),
    "digits lost": (f"google.type.Decimal x = 1 {META};", 'x {value: "0.001"}', "wanted a DECIMAL(9, 2)"),
    "digits over": (
        f"confluent.type.Decimal x = 1 {META};",
        r'x {value: "\073\232\312\000" scale: 2}',
        "wanted a DECIMAL(9, 2)",
    ),
    "no digits": (f"confluent.type.Decimal x = 1 {META};", "x {scale: 2}", "wanted a DECIMAL(9, 2)"),
    "infinity in JSON": ("google.protobuf.ListValue x = 1;", "x {values {number_value: inf}}", "T.x is nothing that JSON has"),
    "NaN in JSON": ("google.protobuf.Value x = 1;", "x {number_value: nan}", "T.x is nothing that JSON has"),
    "in a list": ("repeated google.type.Date x = 1;", "x {year: 1 month: 1 day: 1} x {}", "T.x[] is year 0"),
    "in a map": ("map<string, google.type.Date> x = 1;", 'x {key: "a" value {}}', "T.x{} is year 0"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_value_that_its_column_cannot_hold_is_a_misfit_alone(name: str) -> None:
    fields, text, wanted = MISFITS[name]
    source = proto(f"{fields} int32 id = 9;")
    decoded = ProtobufFormat(compiled(source)).decode([body(source, one) for one in ("id: 1", f"{text} id: 2", "id: 3")])
    (reject,) = decoded.rejects
    assert (reject.index, reject.kind) == (1, RejectKind.MISFIT)
    assert wanted in reject.reason
    assert decoded.rows.column("id").to_pylist() == [1, 3]


def test_an_unknown_number_of_a_closed_enum_is_a_misfit() -> None:
    source = proto("optional Level x = 1; repeated Level more = 2;", old=True)
    decoded = ProtobufFormat(compiled(source)).decode([b"\0\x08\x01", b"\0\x08\x07", b"\0\x10\x01\x10\x09"])
    assert [(reject.index, reject.kind) for reject in decoded.rejects] == [(1, RejectKind.MISFIT), (2, RejectKind.MISFIT)]
    assert decoded.rejects[0].reason == "T.x is 7, which is no number of t.Level; valid: 1 (LOW)"
    assert decoded.rows.column("x").to_pylist() == ["LOW"]


def test_nanoseconds_are_floored_where_that_is_asked_for() -> None:
    source = proto("google.protobuf.Timestamp x = 1; google.protobuf.Duration d = 2; google.type.TimeOfDay t = 3;")
    text = "x {seconds: -1 nanos: 999} d {seconds: -1 nanos: -999999999} t {nanos: 1999}"
    row = ProtobufFormat(compiled(source), floors=True).decode([body(source, text)]).rows.to_pylist()[0]
    assert row == {"x": dt.datetime(1969, 12, 31, 23, 59, 59, tzinfo=dt.UTC), "d": -2_000_000, "t": dt.time(0, 0, 0, 1)}


ONE_ENTRY = b"\0\x0a\x03\x0a\x01k"
"""An entry of a map of number 1, of key k and no value."""

PIECES: dict[str, tuple[str, bytes, Any]] = {
    "a Struct in two pieces": (
        "google.protobuf.Struct x = 1;",
        b"\0" + b"".join(b"\x0a\x0d\x0a\x0b\x0a\x01" + name + b"\x12\x06\x1a\x04text" for name in (b"a", b"b")),
        '{"a":"text","b":"text"}',
    ),
    "an entry without its message": ("map<string, Pair> x = 1;", ONE_ENTRY, [("k", {"a": 0, "b": None})]),
    "an entry without its Struct": ("map<string, google.protobuf.Struct> x = 1;", ONE_ENTRY, [("k", "{}")]),
    "an entry without its moment": (
        "map<string, google.protobuf.Timestamp> x = 1;",
        ONE_ENTRY,
        [("k", dt.datetime(1970, 1, 1, tzinfo=dt.UTC))],
    ),
    "fields out of the order of their numbers": (
        "Turned x = 1; message Turned { int32 second = 2; int32 first = 1; }",
        b"\0\x0a\x04\x08\x01\x10\x02",
        {"second": 2, "first": 1},
    ),
    "a branch that is no date, and another after it": (
        "oneof o { google.type.Date d = 1; int32 x = 2; }",
        b"\0\x0a\0\x10\x05",
        5,
    ),
}


@pytest.mark.parametrize("name", PIECES)
def test_what_the_wire_leaves_out_or_takes_apart_is_whole_in_the_column(name: str) -> None:
    fields, record, value = PIECES[name]
    decoded = ProtobufFormat(compiled(proto(fields))).decode([record])
    decoded.rows.validate(full=True)
    assert decoded.rejects == ()
    assert decoded.rows.column("x").to_pylist() == [value]


def test_what_is_required_in_a_message_that_is_absent_is_not_missed() -> None:
    source = proto("message Line { required int32 n = 1; } optional Line x = 1;", old=True)
    decoded = ProtobufFormat(compiled(source)).decode([b"\0", b"\0\x0a\0", b"\0\x0a\x02\x08\x05"])
    assert decoded.rows.column("x").to_pylist() == [None, {"n": 5}]
    assert [reject.index for reject in decoded.rejects] == [1]
