"""Which Arrow type holds which Avro type: a test for each row of docs/types.md, and what is refused."""

from __future__ import annotations

import datetime as dt
import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakeflow.errors import SchemaMismatch
from lakeflow.lake.schema import storable
from lakeflow.sql.types import sql_type
from lakeflow.topics.formats.avro import AvroFormat
from lakeflow.topics.formats.avro_schema import parse

PAGE = Path(__file__).parents[4] / "docs" / "types.md"
INT_LIST = pa.list_(pa.field("element", pa.int32(), nullable=False))
INT_MAP = pa.map_(pa.string(), pa.field("value", pa.int32(), nullable=False))
PAIR = pa.struct([pa.field("a", pa.int32(), nullable=False), pa.field("b", pa.string())])
BRANCHES = pa.struct([pa.field("int", pa.int32()), pa.field("string", pa.string())])
ONE = pa.struct([pa.field("x", pa.int32(), nullable=False)])
RECORDS = pa.struct([pa.field("A", ONE), pa.field("B", ONE)])
UTC, LOCAL = pa.timestamp("us", "UTC"), pa.timestamp("us")


def record(name: str, *fields: tuple[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": field, "type": type_} for field, type_ in fields]}


def logical(of: str, name: str, **more: Any) -> dict[str, Any]:
    return {"type": of, "logicalType": name, **more}


def fixed(size: int, **more: Any) -> dict[str, Any]:
    return {"type": "fixed", "name": "F", "size": size, **more}


DECIMAL = {"logicalType": "decimal", "precision": 9, "scale": 2}
MOMENT = dt.datetime(1970, 1, 1, 0, 0, 1)
MOMENT_UTC = MOMENT.replace(tzinfo=dt.UTC)
SECOND = {"millis": b"\xd0\x0f", "micros": b"\x80\x89\x7a", "nanos": b"\x80\xa8\xd6\xb9\x07"}

Row = tuple[Any, pa.DataType, bytes, Any]
ROWS: dict[str, Row] = {
    "boolean": ("boolean", pa.bool_(), b"\x01", True),
    "int": ("int", pa.int32(), b"\x03", -2),
    "long": ("long", pa.int64(), b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", 2**63 - 1),
    "float": ("float", pa.float32(), b"\x00\x00\x00\x3f", 0.5),
    "double": ("double", pa.float64(), b"\x00\x00\x00\x00\x00\x00\xf0\x7f", float("inf")),
    "bytes": ("bytes", pa.binary(), b"\x04\xff\x00", b"\xff\x00"),
    "string": ("string", pa.string(), "\x06Zö".encode(), "Zö"),
    "fixed(7)": (fixed(7), pa.binary(7), b"1234567", b"1234567"),
    "enum": ({"type": "enum", "name": "E", "symbols": ["NEW", "OLD"]}, pa.string(), b"\x02", "OLD"),
    "array of int": ({"type": "array", "items": "int"}, INT_LIST, b"\x04\x02\x04\x01\x02\x06\x00", [1, 2, 3]),
    "map of int": ({"type": "map", "values": "int"}, INT_MAP, b"\x06\x02a\x02\x02b\x04\x02a\x06\x00", [("b", 2), ("a", 3)]),
    "record of a and b": (record("R", ("a", "int"), ("b", ["null", "string"])), PAIR, b"\x02\x00", {"a": 1, "b": None}),
    '["null", int]': (["null", "int"], pa.int32(), b"\x00", None),
    "[int]": (["int"], pa.int32(), b"\x00\x02", 1),
    "[int, string]": (["int", "string"], BRANCHES, b"\x02\x02x", {"int": None, "string": "x"}),
    '["null", int, string]': (["null", "int", "string"], BRANCHES, b"\x00", None),
    "[n.A, n.B]": (
        [record("n.A", ("x", "int")), record("n.B", ("x", "int"))],
        RECORDS,
        b"\x02\x02",
        {"A": None, "B": {"x": 1}},
    ),
    "bytes, decimal(9, 2)": ({"type": "bytes", **DECIMAL}, pa.decimal128(9, 2), b"\x04\xff\x00", Decimal("-2.56")),
    "fixed, decimal(9, 2)": (fixed(20, **DECIMAL), pa.decimal128(9, 2), b"\xff" * 19 + b"\x00", Decimal("-2.56")),
    "string, uuid": (logical("string", "uuid"), pa.string(), b"\x04no", "no"),
    "fixed(16), uuid": (fixed(16, logicalType="uuid"), pa.string(), bytes(range(16)), "00010203-0405-0607-0809-0a0b0c0d0e0f"),
    "int, date": (logical("int", "date"), pa.date32(), b"\x01", dt.date(1969, 12, 31)),
    "int, time-millis": (logical("int", "time-millis"), pa.time64("us"), SECOND["millis"], dt.time(0, 0, 1)),
    "long, time-micros": (logical("long", "time-micros"), pa.time64("us"), SECOND["micros"], dt.time(0, 0, 1)),
    "long, timestamp-millis": (logical("long", "timestamp-millis"), UTC, SECOND["millis"], MOMENT_UTC),
    "long, timestamp-micros": (logical("long", "timestamp-micros"), UTC, SECOND["micros"], MOMENT_UTC),
    "long, timestamp-nanos": (logical("long", "timestamp-nanos"), UTC, SECOND["nanos"], MOMENT_UTC),
    "long, local-timestamp-millis": (logical("long", "local-timestamp-millis"), LOCAL, SECOND["millis"], MOMENT),
    "long, local-timestamp-micros": (logical("long", "local-timestamp-micros"), LOCAL, SECOND["micros"], MOMENT),
    "long, local-timestamp-nanos": (logical("long", "local-timestamp-nanos"), LOCAL, SECOND["nanos"], MOMENT),
    "fixed(12), duration": (fixed(12, logicalType="duration"), pa.binary(12), bytes(12), bytes(12)),
    "a logical type that is unknown": (logical("long", "furlongs"), pa.int64(), b"\x02", 1),
}


@pytest.mark.parametrize("label", ROWS)
def test_a_row_of_the_page(label: str) -> None:
    schema, type_, body, value = ROWS[label]
    format_ = AvroFormat(parse(json.dumps(record("Top", ("one", schema)))))

    (field,) = format_.schema()
    assert field.type.equals(type_, check_metadata=True)
    assert field.nullable == (isinstance(schema, list) and "null" in schema)
    assert storable(format_.schema(), "a table").equals(format_.schema(), check_metadata=True)

    decoded = format_.decode([body])
    decoded.rows.validate(full=True)
    assert decoded.rejects == ()
    assert decoded.rows.to_pylist() == [{"one": value}]


def page_rows() -> dict[str, str]:
    section = PAGE.read_text(encoding="utf-8").split("\n## Avro\n")[1].split("\n## ")[0]
    cells = [[cell.strip() for cell in line.split("|")[1:3]] for line in section.splitlines() if line.startswith("| ")]
    return dict(cells[1:])


def test_the_page_has_these_rows_and_no_others() -> None:
    page = page_rows()
    assert page.pop("no record at the top") == ""
    assert list(page) == list(ROWS)
    for label, (_, type_, _, _) in ROWS.items():
        if not pa.types.is_fixed_size_binary(type_):
            assert page[label] == sql_type(type_)


@pytest.mark.parametrize(("schema", "body", "value"), [("string", b"\x02x", "x"), (["null", "long"], b"\x00", None)])
def test_no_record_at_the_top_is_one_column(schema: Any, body: bytes, value: Any) -> None:
    decoded = AvroFormat(parse(json.dumps(schema))).decode([body])
    assert decoded.rows.to_pylist() == [{"value": value}]


TREE = record("Tree", ("label", "string"), ("left", ["null", "Tree"]))


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (TREE, r"^\$\.left is a record 'Tree' within itself"),
        (record("R", ("a", {"type": "array", "items": record("Empty")})), r"^\$\.a\[\] is a record of no fields"),
        (record("R", ("a", "null")), r"^\$\.a is null and nothing else"),
        (record("R", ("a", ["null"])), r"^\$\.a is a union of no type but null"),
        (record("R", ("a", ["int", "int"])), r"^\$\.a is a union with one type twice: int, int"),
        (record("R", ("a", ["int", ["null", "long"]])), r"a union that holds a union"),
        (record("R", ("a", fixed(0))), r"^\$\.a is a fixed of size 0"),
        (record("R", ("a", logical("bytes", "decimal", precision=39))), r"^\$\.a is a decimal of 39 digits; .* 38 at the most"),
        (record("R", ("a", {"type": "map", "values": "Missing"})), r"^\$\.a\{\}: type 'Missing' is not defined"),
        (record("R", ("a", {"type": "enum", "name": "E", "symbols": []})), r"^\$\.a is an enum of no symbols"),
        (5, r"^\$: 5 is no Avro type"),
        ({"name": "x"}, r"is no Avro type"),
    ],
)
def test_what_no_table_can_hold_is_refused_with_its_path(schema: Any, message: str) -> None:
    with pytest.raises(SchemaMismatch, match=message):
        parse(json.dumps(schema))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"type": "record"}'])
def test_a_text_that_is_no_schema_is_refused(text: str) -> None:
    with pytest.raises(SchemaMismatch, match="no Avro schema"):
        parse(text)


def test_a_schema_that_stands_for_millions_of_columns_is_refused() -> None:
    names = [f"R{number}" for number in range(30)]
    inner: Any = "int"
    for name in names:
        inner = record(name, ("a", inner), ("b", name_of(inner)))
    with pytest.raises(SchemaMismatch, match="more than 10000 types"):
        parse(json.dumps(inner))


def name_of(schema: Any) -> Any:
    return schema["name"] if isinstance(schema, dict) else schema


def test_levels_are_bounded() -> None:
    schema: Any = "int"
    for _ in range(80):
        schema = {"type": "array", "items": schema}
    with pytest.raises(SchemaMismatch, match="deeper than 64"):
        parse(json.dumps(schema))


def test_names_are_found_in_their_namespace_then_without_one_and_in_references() -> None:
    other = json.dumps({**record("Point", ("x", "int")), "namespace": "geo"})
    bare = json.dumps({"type": "enum", "name": "Colour", "symbols": ["RED"]})
    used = {**record("Shape", ("at", "Point"), ("again", "geo.Point"), ("colour", "Colour")), "namespace": "geo"}
    schema = AvroFormat(parse(json.dumps(used), [other, bare])).schema()
    assert schema.field("at").type == schema.field("again").type == ONE
    assert schema.field("colour").type == pa.string()


def test_branches_of_one_name_have_their_full_names() -> None:
    schema = [record("a.R", ("x", "int")), record("b.R", ("x", "int"))]
    (field,) = AvroFormat(parse(json.dumps(schema))).schema()
    assert [field.type.field(at).name for at in range(2)] == ["a.R", "b.R"]


@pytest.mark.parametrize(
    "schema",
    [
        logical("string", "decimal", precision=3),
        logical("bytes", "decimal", precision=2, scale=3),
        logical("bytes", "decimal"),
        fixed(1, logicalType="decimal", precision=3),
        logical("int", "time-micros"),
        logical("long", "date"),
        fixed(15, logicalType="uuid"),
    ],
)
def test_a_logical_type_that_does_not_hold_is_the_type_beneath(schema: Any) -> None:
    beneath = {key: value for key, value in schema.items() if key != "logicalType"}
    assert AvroFormat(parse(json.dumps(schema))).schema() == AvroFormat(parse(json.dumps(beneath))).schema()


def test_paths_in_messages_may_hold_braces() -> None:
    schema = record("R", ("a", {"type": "map", "values": {"type": "enum", "name": "E", "symbols": ["A"]}}))
    (reject,) = AvroFormat(parse(json.dumps(schema))).decode([b"\x02\x02k\x08\x00"]).rejects
    assert re.fullmatch(r"\$\.a\{\}: symbol 4 of an enum that has 1", reject.reason)
