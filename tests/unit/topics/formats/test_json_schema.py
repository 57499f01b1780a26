"""JSON Schema to columns, and bodies by them: a test for each row of the table in docs/types.md."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from lakeflow.errors import ConfigError, SchemaMismatch, UnknownName
from lakeflow.topics.formats import Opening, open_format
from lakeflow.topics.formats.format import Decoded, Format, RejectKind
from lakeflow.topics.registered import SchemaKind
from tests.unit.topics.formats.known import KnownSchemas, framed, sound

NULL = {"type": "null"}
CONNECT = "org.apache.kafka.connect.data."
UTC = dt.UTC


def opened(schema: Any, references: Any = None, **options: str) -> Format:
    registry = KnownSchemas(SchemaKind.JSON, {1: schema}, references)
    return open_format("json-registry", Opening(None, options, topics=("orders",), registry=registry))


def decoded(schema: Any, *values: Any, references: Any = None, **options: str) -> Decoded:
    bodies = [value if isinstance(value, bytes) else json.dumps(value).encode() for value in values]
    return sound(opened(schema, references, **options).decode([framed(1, body) for body in bodies]), len(bodies))


def of(field: Any, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": field}, **more}


def named(name: str, type_: str, connect: str, **parameters: str) -> dict[str, Any]:
    return {"type": type_, "title": name, "connect.type": connect, "connect.version": 1, "connect.parameters": parameters}


TEXT, WHOLE, NUMBER = pa.string(), pa.int64(), pa.float64()
JSON = TEXT

CASES: list[tuple[str, Any, pa.DataType, Any, Any]] = [
    ("string", {"type": "string", "minLength": 9}, TEXT, "x", "x"),
    ("boolean", {"type": "boolean"}, pa.bool_(), True, True),
    ("integer", {"type": "integer", "minimum": 5}, WHOLE, 1, 1),
    ("integer of Connect", {"type": "integer", "connect.type": "int8"}, pa.int8(), -128, -128),
    ("integer of Connect, 16", {"type": "integer", "connect.type": "int16"}, pa.int16(), 1, 1),
    ("integer of Connect, 32", {"type": "integer", "connect.type": "int32"}, pa.int32(), 1, 1),
    ("number", {"type": "number"}, NUMBER, 1.5, 1.5),
    ("number of Connect", {"type": "number", "connect.type": "float32"}, pa.float32(), 1.5, 1.5),
    ("integer or number", {"type": ["integer", "number"]}, NUMBER, 1, 1.0),
    ("date", {"type": "string", "format": "date"}, pa.date32(), "2013-01-31", dt.date(2013, 1, 31)),
    ("time", {"type": "string", "format": "time"}, pa.time64("us"), "05:06:07.5", dt.time(5, 6, 7, 500_000)),
    ("time in UTC", {"type": "string", "format": "time"}, pa.time64("us"), "05:06:07Z", dt.time(5, 6, 7)),
    (
        "date-time",
        {"type": "string", "format": "date-time"},
        pa.timestamp("us", "UTC"),
        "2013-01-01T05:00:00-01:00",
        dt.datetime(2013, 1, 1, 6, tzinfo=UTC),
    ),
    ("another format", {"type": "string", "format": "email"}, TEXT, "no address", "no address"),
    ("base64", {"type": "string", "contentEncoding": "base64"}, pa.binary(), "YWJj", b"abc"),
    ("bytes of Connect", {"type": "string", "connect.type": "bytes"}, pa.binary(), "YWJj", b"abc"),
    ("enum", {"enum": ["red", "green"]}, TEXT, "blue", "blue"),
    ("enum with null", {"enum": ["red", None]}, TEXT, None, None),
    ("enum of numbers", {"enum": [1, 2.5]}, NUMBER, 1, 1.0),
    ("const", {"const": 5}, WHOLE, 5, 5),
    ("const null", {"const": None}, JSON, None, None),
    ("type with null", {"type": ["integer", "null"]}, WHOLE, None, None),
    ("oneOf with null", {"oneOf": [NULL, {"type": "integer"}], "connect.index": 3}, WHOLE, 4, 4),
    ("anyOf with null", {"anyOf": [{"type": "string"}, NULL]}, TEXT, "x", "x"),
    ("nullable", {"type": "string", "nullable": True}, TEXT, None, None),
    ("array", {"type": "array", "items": {"type": "integer"}}, pa.list_(pa.field("element", WHOLE, False)), [1], [1]),
    ("array of anything", {"type": "array"}, pa.list_(pa.field("element", JSON)), [1, "x", None], ["1", '"x"', None]),
    ("tuple", {"type": "array", "prefixItems": [{"type": "string"}]}, JSON, ["x", 1], '["x", 1]'),
    ("tuple of draft 4", {"type": "array", "items": [{"type": "string"}]}, JSON, ["x"], '["x"]'),
    ("object", of({"type": "string"}), pa.struct([pa.field("a", TEXT)]), {"a": "x"}, {"a": "x"}),
    (
        "object with required",
        of({"type": "string"}, required=["a"]),
        pa.struct([pa.field("a", TEXT, False)]),
        {"a": "x"},
        {"a": "x"},
    ),
    (
        "map",
        {"type": "object", "additionalProperties": {"type": "integer"}},
        pa.map_(TEXT, pa.field("value", WHOLE, False)),
        {"x": 1},
        [("x", 1)],
    ),
    (
        "map of dates",
        {"type": "object", "additionalProperties": {"type": ["string", "null"], "format": "date"}},
        pa.map_(TEXT, pa.date32()),
        {"x": "2013-01-31", "y": None},
        [("x", dt.date(2013, 1, 31)), ("y", None)],
    ),
    (
        "map by pattern",
        {"type": "object", "patternProperties": {"^x": {"type": "integer"}}, "additionalProperties": False},
        pa.map_(TEXT, pa.field("value", WHOLE, False)),
        {"x": 1},
        [("x", 1)],
    ),
    (
        "map of Connect with other keys",
        {
            "type": "array",
            "connect.type": "map",
            "items": {"type": "object", "properties": {"key": {"type": "integer"}, "value": {"type": "string"}}},
        },
        pa.map_(WHOLE, TEXT),
        [{"key": 1, "value": "x"}, {"key": 2}],
        [(1, "x"), (2, None)],
    ),
    ("object of anything", {"type": "object"}, JSON, {"z": [1]}, '{"z": [1]}'),
    ("anything", {}, JSON, [1, {"b": 2}], '[1, {"b": 2}]'),
    ("true", True, JSON, "x", '"x"'),
    (
        "several kinds",
        {"type": ["string", "integer"]},
        pa.struct([("string", TEXT), ("integer", WHOLE)]),
        5,
        {"string": None, "integer": 5},
    ),
    (
        "oneOf of several",
        {"oneOf": [NULL, of({"type": "boolean"}), {"type": "string"}]},
        pa.struct([("object", pa.struct([("a", pa.bool_())])), ("string", TEXT)]),
        {"a": True},
        {"object": {"a": True}, "string": None},
    ),
    ("oneOf of one kind", {"oneOf": [{"enum": ["x"]}, {"type": "string", "format": "date"}]}, TEXT, "x", "x"),
    ("Date of Connect", named(f"{CONNECT}Date", "integer", "int32"), pa.date32(), 1, dt.date(1970, 1, 2)),
    ("Time of Connect", named(f"{CONNECT}Time", "integer", "int32"), pa.time64("us"), 1500, dt.time(0, 0, 1, 500_000)),
    (
        "Timestamp of Connect",
        named(f"{CONNECT}Timestamp", "integer", "int64"),
        pa.timestamp("us", "UTC"),
        -1,
        dt.datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC),
    ),
    (
        "Decimal of Connect",
        named(f"{CONNECT}Decimal", "number", "bytes", scale="2"),
        pa.decimal128(38, 2),
        "AMg=",
        Decimal("2.00"),
    ),
    (
        "Decimal of Connect as a number",
        named(f"{CONNECT}Decimal", "number", "bytes", scale="2", **{"connect.decimal.precision": "5"}),
        pa.decimal128(5, 2),
        12.5,
        Decimal("12.50"),
    ),
    (
        "MicroTimestamp of Debezium",
        named("io.debezium.time.MicroTimestamp", "integer", "int64"),
        pa.timestamp("us"),
        1529507596945104,
        dt.datetime(2018, 6, 20, 15, 13, 16, 945104),
    ),
]


@pytest.mark.parametrize(("schema", "type_", "value", "kept"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_kind_of_schema(schema: Any, type_: pa.DataType, value: Any, kept: Any) -> None:
    found = decoded({"type": "object", "properties": {"f": schema}}, {"f": value}, {})
    assert found.rejects == ()
    assert found.rows.schema == pa.schema([pa.field("f", type_)])
    assert found.rows.column(0).to_pylist() == [kept, None]


@pytest.mark.parametrize("version", ["draft-04/schema", "draft-07/schema", "draft/2020-12/schema"])
def test_references_within_and_across_documents(version: str) -> None:
    own = "definitions" if "draft-0" in version else "$defs"
    schema = {
        "$schema": f"http://json-schema.org/{version}#",
        "$id" if "04" not in version else "id": "http://example.org/order.json",
        "type": "object",
        "properties": {
            "line": {"$ref": f"#/{own}/line"},
            "anchored": {"$ref": "#day"},
            "other": {"$ref": "product.json"},
            "inner": {"$ref": "product.json#/definitions/price"},
            "by id": {"$ref": "http://example.org/day.json"},
        },
        own: {
            "line": {"type": "object", "properties": {"count": {"type": "integer"}}},
            "day": {"$anchor" if "2020" in version else "$id": "day" if "2020" in version else "#day", "type": "boolean"},
            "whole": {"$id": "day.json", "type": "string", "format": "date"},
        },
    }
    product = {"type": "object", "properties": {"name": {"$ref": "#/definitions/name"}}, "definitions": {}}
    product["definitions"] = {"name": {"type": "string"}, "price": {"type": "number"}}
    value = {"line": {"count": 1}, "anchored": True, "other": {"name": "x"}, "inner": 1.5, "by id": "2013-01-31"}
    found = decoded(schema, value, references={"product.json": product})
    assert found.rows.to_pylist() == [{**value, "by id": dt.date(2013, 1, 31)}]


def test_all_of_is_one_object() -> None:
    base = {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}
    schema = {
        "allOf": [{"$ref": "base.json"}, {"properties": {"name": {"type": "string"}, "id": {"maximum": 9}}}],
        "required": ["name"],
    }
    found = decoded(schema, {"id": 1, "name": "x"}, {"id": 1}, {"name": "x"}, references={"base.json": base})
    assert found.rows.schema == pa.schema([pa.field("id", WHOLE, False), pa.field("name", TEXT, False)])
    assert [reject.reason for reject in found.rejects] == [
        "$.name is missing, and it is NOT NULL",
        "$.id is missing, and it is NOT NULL",
    ]


def test_choices_that_only_constrain_change_no_type() -> None:
    schema = {**of({"type": "string"}), "anyOf": [{"required": ["a"]}, {"minProperties": 1}]}
    assert decoded(schema, {"a": "x"}).rows.to_pylist() == [{"a": "x"}]


def test_the_order_of_connect_is_kept() -> None:
    fields = {"b": {"type": "integer", "connect.index": 1}, "a": {"oneOf": [NULL, {"type": "string"}], "connect.index": 0}}
    assert opened({"type": "object", "properties": fields}).schema().names == ["a", "b"]


def test_a_property_whose_schema_is_false_is_none() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}, "gone": False}}
    assert opened(schema).schema().names == ["a"]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (of({"$ref": "#"}), r"\$\.a is recursive \(by \$ref '#'\)"),
        (of({"$dynamicRef": "#node"}), r"\$\.a is recursive"),
        ({"$ref": "#/definitions/a", "definitions": {"a": {"$ref": "#/definitions/a"}}}, "is recursive"),
        (of({"type": "array", "items": {"$ref": "#"}}), r"\$\.a\[\] is recursive"),
        (of({"$ref": "gone.json"}), "'gone.json' is not among the registered references"),
        (of({"$ref": "#/definitions/gone"}), "there is no '/definitions/gone'"),
        (of({"type": "int"}), r"\$\.a is of type 'int'; valid: string, number"),
        (of({"type": "object", "additionalProperties": False}), "object of no properties"),
        (of({"allOf": [{"type": "string"}, {"type": "integer"}]}), "its types exclude each other"),
        (of({"oneOf": [of({"type": "string"}), of({"type": "integer"})]}), "two branches"),
        ({**of({"type": "string"}), "oneOf": [{"properties": {"b": {}}}, {"required": ["a"]}]}, "may have properties"),
        ({"type": "object", "properties": {"id": {}, "ID": {}}}, "'id' and 'ID', which differ by case only"),
        ({"type": "object", "properties": {'q"': {}}}, "a name that JSON cannot give"),
        (of(named(f"{CONNECT}Decimal", "number", "bytes", scale="2", **{"connect.decimal.precision": "39"})), "39 digits"),
        ("[]", "wanted an object, true or false"),
        ("{", "is no JSON"),
    ],
)
def test_what_no_table_can_hold_is_named(schema: Any, message: str) -> None:
    with pytest.raises(SchemaMismatch, match=message):
        opened(schema).schema()
    (reject,) = opened(schema).decode([framed(1, b"{}")]).rejects
    assert reject.kind is RejectKind.SCHEMA


def test_values_that_do_not_fit_name_their_path() -> None:
    schema = {
        "type": "object",
        "properties": {
            "days": {"type": "array", "items": {"type": ["string", "null"], "format": "date"}},
            "at": {"type": "object", "properties": {"time": {"type": "string", "format": "time"}}},
            "either": {"type": ["string", "boolean"]},
            "deep": {"type": "array", "items": {"oneOf": [{"type": "integer"}, of({"type": "string", "format": "date"})]}},
        },
    }
    found = decoded(
        schema,
        {"days": ["2013-01-01", None], "at": {"time": None}},
        {"days": ["2013-01-01", "2013-02-30"]},
        {"at": {"time": "05:00:00+02:00"}},
        {"either": 1},
        {"deep": [1, {"a": "x"}]},
        {"deep": [1.5]},
        {"days": "2013-01-01"},
        {"deep": [1, {"a": "2013-01-01"}], "either": False},
    )
    assert found.kept is not None
    assert found.kept.to_pylist() == [0, 7]
    assert [reject.reason for reject in found.rejects] == [
        "$.days[] is '2013-02-30'; wanted DATE",
        "$.at.time is '05:00:00+02:00'; wanted TIME(6), in UTC or without a zone",
        "$.either is '1'; wanted one of string, boolean",
        "$.deep[].a is 'x'; wanted DATE",
        "$.deep[] is the number 1.5; wanted BIGINT",
        '$.days is the string "2013-01-01"; wanted an array',
    ]
    assert {reject.kind for reject in found.rejects} == {RejectKind.MISFIT}


def test_a_map_of_connect_holds_a_key_once() -> None:
    entry = {"type": "object", "properties": {"key": {"type": "integer"}, "value": {}}}
    schema = of({"type": "array", "connect.type": "map", "items": entry})
    found = decoded(schema, {"a": [{"key": 1}, {"key": 1}]}, {"a": [{"value": 1}]}, {"a": [{"key": 1}, {"key": 2}]})
    assert [reject.reason for reject in found.rejects] == [
        "$.a holds a key twice",
        "$.a[0].key is missing, and it is NOT NULL",
    ]


def test_a_value_that_is_no_object_is_one_column_and_cannot_end_it() -> None:
    found = decoded({"type": "string"}, "x", b'1,"value":"y"', b'"x","value":"y"', b'"x"}{"value":"y"', b"", b'"\xff"', 5, None)
    assert found.rows.to_pylist() == [{"value": "x"}]
    assert [reject.kind.value for reject in found.rejects] == ["malformed"] * 5 + ["misfit"] * 2


def test_unknown_properties_are_ignored_or_refused() -> None:
    schema = of({"type": "string"}, additionalProperties=True)
    assert decoded(schema, {"a": "x", "b": 1}).rows.to_pylist() == [{"a": "x"}]
    (reject,) = decoded(schema, {"a": "x", "b": 1}, **{"json.unknown-fields": "refuse"}).rejects
    assert reject.reason == "unknown field $.b"
    with pytest.raises(UnknownName, match=r"json\.unknown"):
        opened(schema, **{"json.unknown": "refuse"})


def test_several_schemas_in_one_batch_and_an_unknown_one() -> None:
    registry = KnownSchemas(SchemaKind.JSON, {1: of({"type": "integer"}), 2: of({"type": "string"})})
    found = open_format("json-registry", Opening(None, topics=("t",), registry=registry)).decode(
        [framed(1, b'{"a":1}'), framed(2, b'{"a":"x"}'), framed(3, b"{}"), None, framed(1, b'{"a":2}')]
    )
    sound(found, 5)
    assert [part.rows.to_pylist() for part in found.parts] == [[{"a": 1}, {"a": 2}], [{"a": "x"}]]
    assert [(reject.index, reject.kind) for reject in found.rejects] == [(2, RejectKind.SCHEMA), (3, RejectKind.TOMBSTONE)]


def test_a_registry_is_needed() -> None:
    with pytest.raises(ConfigError, match="needs a schema registry"):
        open_format("json-registry", Opening(None, topics=("t",)))
