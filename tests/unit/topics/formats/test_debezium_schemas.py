"""Debezium's envelopes with schemas: Connect's in each value, JSON Schema and Avro in the registry. All give the same rows."""

from __future__ import annotations

import datetime as dt
import json
from base64 import b64encode
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from lakeflow.errors import SchemaMismatch
from lakeflow.topics.formats import Opening, open_format
from lakeflow.topics.formats.format import Format, RejectKind
from lakeflow.topics.registered import SchemaKind
from tests.unit.topics.formats.known import KnownSchemas, avro_body, framed, sound

CONNECT = "org.apache.kafka.connect.data."
TIME = "io.debezium.time."
DATA = "io.debezium.data."
LOCAL, ZONED, CLOCK = pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.time64("us")
MOMENT = dt.datetime(2018, 6, 20, 15, 13, 16, 945104)
MILLIS = MOMENT.replace(microsecond=945_000)
FINE = MOMENT.replace(tzinfo=dt.UTC)
SCALED = b"\x01\xe2\x40"  # 123456

Case = tuple[str, str, dict[str, str], Any, pa.DataType, Any]
"""Literal type, name, parameters, value in Connect, column, value in the row."""

CASES: list[Case] = [
    ("int16", "", {}, 7, pa.int16(), 7),
    ("int32", f"{TIME}Date", {}, 17702, pa.date32(), dt.date(2018, 6, 20)),
    ("int32", f"{TIME}Time", {}, 1, CLOCK, dt.time(0, 0, 0, 1000)),
    ("int64", f"{TIME}MicroTime", {}, 1, CLOCK, dt.time(0, 0, 0, 1)),
    ("int64", f"{TIME}NanoTime", {}, 86_399_999_999_000, CLOCK, dt.time(23, 59, 59, 999_999)),
    ("int64", f"{TIME}Timestamp", {}, 1529507596945, LOCAL, MILLIS),
    ("int64", f"{TIME}MicroTimestamp", {}, 1529507596945104, LOCAL, MOMENT),
    ("int64", f"{TIME}NanoTimestamp", {}, 1529507596945104000, LOCAL, MOMENT),
    ("string", f"{TIME}ZonedTimestamp", {}, "2018-06-20T15:13:16.945104Z", ZONED, FINE),
    ("string", f"{TIME}ZonedTime", {}, "10:15:30+01:00", pa.string(), "10:15:30+01:00"),
    ("string", f"{TIME}IsoDate", {}, "2018-06-20Z", pa.date32(), dt.date(2018, 6, 20)),
    ("string", f"{TIME}IsoTime", {}, "05:06:07Z", CLOCK, dt.time(5, 6, 7)),
    ("string", f"{TIME}IsoTimestamp", {}, "2018-06-20T15:13:16.945104Z", LOCAL, MOMENT),
    ("int32", f"{TIME}Year", {}, 2018, pa.int32(), 2018),
    ("int64", f"{TIME}MicroDuration", {}, 5, pa.int64(), 5),
    ("string", f"{TIME}Interval", {}, "P1Y", pa.string(), "P1Y"),
    ("string", f"{DATA}Uuid", {}, "0b0f", pa.string(), "0b0f"),
    ("string", f"{DATA}Json", {}, '{"a": 1}', pa.string(), '{"a": 1}'),
    ("string", f"{DATA}Enum", {"allowed": "a,b"}, "a", pa.string(), "a"),
    ("string", f"{DATA}EnumSet", {"allowed": "a,b"}, "a,b", pa.string(), "a,b"),
    ("string", f"{DATA}Xml", {}, "<a/>", pa.string(), "<a/>"),
    ("bytes", f"{DATA}Bits", {"length": "9"}, b"\x01\x00", pa.binary(), b"\x01\x00"),
    ("bytes", "", {}, b"\xff\x00", pa.binary(), b"\xff\x00"),
    ("float32", "", {}, 0.5, pa.float32(), 0.5),
    ("float64", "", {}, 0.1, pa.float64(), 0.1),
    ("boolean", "", {}, True, pa.bool_(), True),
]


def connect_field(name: str, case: Case, optional: bool = True) -> dict[str, Any]:
    literal, semantic, parameters, *_ = case
    found: dict[str, Any] = {"type": literal, "optional": optional, "field": name}
    return found | ({"name": semantic, "version": 1} if semantic else {}) | ({"parameters": parameters} if parameters else {})


def connect_envelope(fields: list[dict[str, Any]]) -> dict[str, Any]:
    row = {"type": "struct", "optional": True, "name": "shop.customers.Value", "fields": fields}
    source = [{"type": "string", "optional": False, "field": "table"}, {"type": "int64", "optional": True, "field": "lsn"}]
    return {
        "type": "struct",
        "fields": [
            row | {"field": "before"},
            row | {"field": "after"},
            {"type": "struct", "fields": source, "optional": False, "name": "io.debezium.Source", "field": "source"},
            {"type": "string", "optional": False, "field": "op"},
            {"type": "int64", "optional": True, "field": "ts_ms"},
        ],
        "optional": False,
        "name": "shop.customers.Envelope",
    }


def in_json(value: Any) -> Any:
    return b64encode(value).decode() if isinstance(value, bytes) else value


def payload(op: str, before: Any = None, after: Any = None) -> dict[str, Any]:
    return {"before": before, "after": after, "source": {"table": "customers", "lsn": 9}, "op": op, "ts_ms": 1559033904961}


def wrapped(schema: Any, value: Any) -> bytes:
    return json.dumps({"schema": schema, "payload": value}).encode()


def plain(declared: pa.Schema | None = None, /, **options: str) -> Format:
    return open_format("debezium-json", Opening(declared, {f"debezium.{name}": value for name, value in options.items()}))


DECIMAL = (
    "bytes",
    f"{CONNECT}Decimal",
    {"scale": "2", "connect.decimal.precision": "8"},
    SCALED,
    pa.decimal128(8, 2),
    Decimal("1234.56"),
)
CONNECT_ONLY: list[Case] = [
    ("int32", f"{CONNECT}Date", {}, 17702, pa.date32(), dt.date(2018, 6, 20)),
    ("int32", f"{CONNECT}Time", {}, 1, CLOCK, dt.time(0, 0, 0, 1000)),
    ("int64", f"{CONNECT}Timestamp", {}, 1529507596945, LOCAL, MILLIS),
    DECIMAL,
    ("bytes", f"{CONNECT}Decimal", {"scale": "2"}, SCALED, pa.decimal128(38, 2), Decimal("1234.56")),
    ("bytes", f"{CONNECT}Decimal", {"scale": "-2"}, b"\x05", pa.decimal128(38, 0), Decimal(500)),
]


@pytest.mark.parametrize("case", [*CASES, *CONNECT_ONLY], ids=lambda case: case[1] or case[0])
def test_connect_types_in_json_with_its_schema(case: Case) -> None:
    schema = connect_envelope([connect_field("v", case)])
    found = sound(
        plain().decode(
            [wrapped(schema, payload("c", None, {"v": in_json(case[3])})), wrapped(schema, payload("u", None, {"v": None}))]
        ),
        2,
    )
    assert found.rejects == ()
    assert found.rows.schema == pa.schema([pa.field("v", case[4])])
    assert found.rows.column(0).to_pylist() == [case[5], None]


@pytest.mark.parametrize("case", [*CASES, *CONNECT_ONLY], ids=lambda case: case[1] or case[0])
def test_connect_types_in_json_schema(case: Case) -> None:
    literal, semantic, parameters, value, type_, kept = case
    kinds = {"string": "string", "bytes": "number" if semantic == f"{CONNECT}Decimal" else "string", "boolean": "boolean"}
    kind = kinds.get(literal, "number" if literal.startswith("float") else "integer")
    field = {"type": kind, "connect.type": literal, "connect.version": 1, "connect.parameters": parameters}
    field |= {"title": semantic} if semantic else {}
    row = {"type": "object", "title": "Value", "properties": {"v": {"oneOf": [{"type": "null"}, field], "connect.index": 0}}}
    optional = {"oneOf": [{"type": "null"}, row]}
    envelope = {"before": optional, "after": optional, "op": {"type": "string"}, "ts_ms": {"type": "integer"}}
    registry = KnownSchemas(SchemaKind.JSON, {1: {"type": "object", "title": "Envelope", "properties": envelope}})
    format_ = open_format("json-debezium-registry", Opening(None, topics=("t",), registry=registry))
    values = [payload("c", None, {"v": in_json(value)}), payload("d", {"v": in_json(value)}), payload("r", None, {})]
    found = sound(format_.decode([*(framed(1, json.dumps(each).encode()) for each in values), None]), 4)
    assert found.rows.schema == format_.schema() == pa.schema([pa.field("v", type_)])
    assert found.rows.column(0).to_pylist() == [kept, None]
    assert [part.rows.to_pylist() for part in found.deletes] == [[{"v": kept}]]
    assert found.passed == (3,)


LITERALS = {"int16": "int", "int32": "int", "int64": "long", "float32": "float", "float64": "double"}


def avro_type(case: Case) -> dict[str, Any]:
    literal, semantic, parameters, *_ = case
    found: dict[str, Any] = {"type": LITERALS.get(literal, literal), "connect.version": 1, "connect.name": semantic}
    logical = {"Date": "date", "Time": "time-millis", "Timestamp": "timestamp-millis", "Decimal": "decimal"}
    if semantic.startswith(CONNECT):
        found["logicalType"] = logical[semantic.removeprefix(CONNECT)]
        if "scale" in parameters:
            found |= {"scale": int(parameters["scale"]), "precision": int(parameters.get("connect.decimal.precision", 38))}
    return found | {"connect.parameters": parameters}


def avro_envelope(fields: list[dict[str, Any]]) -> dict[str, Any]:
    row = {"type": "record", "name": "Value", "fields": fields}
    source = {"type": "record", "name": "Source", "namespace": "io.debezium.connector.postgresql"}
    source["fields"] = [{"name": "table", "type": "string"}, {"name": "lsn", "type": ["null", "long"], "default": None}]  # type: ignore[assignment]
    return {
        "type": "record",
        "name": "Envelope",
        "namespace": "shop.customers",
        "fields": [
            {"name": "before", "type": ["null", row], "default": None},
            {"name": "after", "type": ["null", "Value"], "default": None},
            {"name": "source", "type": source},
            {"name": "op", "type": "string"},
            {"name": "ts_ms", "type": ["null", "long"], "default": None},
        ],
        "connect.name": "shop.customers.Envelope",
    }


def avro(schema: Any, declared: pa.Schema | None = None, /, **options: str) -> Format:
    registry = KnownSchemas(SchemaKind.AVRO, {1: schema})
    chosen = {f"debezium.{name}": value for name, value in options.items()}
    return open_format("avro-debezium-registry", Opening(declared, chosen, topics=("t",), registry=registry))


@pytest.mark.parametrize("case", [*CASES[1:], *CONNECT_ONLY[:4]], ids=lambda case: case[1] or case[0])
def test_connect_types_in_avro(case: Case) -> None:
    schema = avro_envelope([{"name": "v", "type": ["null", avro_type(case)], "default": None}])
    value = case[3] if not case[1].startswith(CONNECT) else case[5].replace(tzinfo=dt.UTC) if case[4] == LOCAL else case[5]
    events = [payload("c", None, {"v": value}), payload("d", {"v": value}), payload("u", None, {"v": None})]
    format_ = avro(schema)
    found = sound(format_.decode([*(framed(1, avro_body(schema, each)) for each in events), None]), 4)
    assert found.rows.schema == format_.schema() == pa.schema([pa.field("v", case[4])])
    assert found.rows.column(0).to_pylist() == [case[5], None]
    assert [part.rows.to_pylist() for part in found.deletes] == [[{"v": case[5]}]]
    assert found.passed == (3,)


SCALE_FIELDS = [{"name": "scale", "type": "int"}, {"name": "value", "type": "bytes"}]
NUMBERS = [(2, SCALED, "1234.56"), (0, b"\xff", "-1"), (3, b"\x05", "0.005"), (-2, b"\x05", "500"), (1, b"\xf6", "-1.0")]


@pytest.mark.parametrize(("scale", "value", "text"), NUMBERS)
def test_decimals_of_varying_scale_are_text_or_a_declared_decimal(scale: int, value: bytes, text: str) -> None:
    name = f"{DATA}VariableScaleDecimal"
    fields = [{"type": "int32", "optional": False, "field": "scale"}, {"type": "bytes", "optional": False, "field": "value"}]
    schema = connect_envelope(
        [{"type": "struct", "name": name, "version": 1, "optional": True, "field": "v", "fields": fields}]
    )
    written = wrapped(schema, payload("c", None, {"v": {"scale": scale, "value": in_json(value)}}))
    avro_schema = avro_envelope(
        [{"name": "v", "type": ["null", {"type": "record", "name": "VSD", "fields": SCALE_FIELDS, "connect.name": name}]}]
    )
    body = framed(1, avro_body(avro_schema, payload("c", None, {"v": {"scale": scale, "value": value}})))
    decimals = pa.schema([("v", pa.decimal128(10, 3))])
    assert sound(plain().decode([written]), 1).rows.to_pylist() == [{"v": text}]
    assert sound(avro(avro_schema).decode([body]), 1).rows.to_pylist() == [{"v": text}]
    assert sound(plain(decimals, **{"schema-include": "true"}).decode([written]), 1).rows.to_pylist() == [{"v": Decimal(text)}]
    assert sound(avro(avro_schema, decimals).decode([body]), 1).rows.to_pylist() == [{"v": Decimal(text)}]


@pytest.mark.parametrize(
    ("case", "value", "wanted"),
    [
        (CASES[1], 2**31 - 1, "days since 1970-01-01, of the years 0001 to 9999"),
        (CASES[2], -1, "milliseconds of a day"),
        (CASES[4], 1, "nanoseconds of a day, in whole microseconds"),
        (CASES[5], 2**62, "milliseconds since 1970-01-01"),
        (CASES[7], 1529507596945104001, "nanoseconds since 1970-01-01, in whole microseconds"),
        (CASES[8], "2018-06-20T15:13:16", "TIMESTAMP_LTZ(6) with its zone"),
    ],
)
def test_what_does_not_fit_is_rejected_in_json_and_avro(case: Case, value: Any, wanted: str) -> None:
    schema = connect_envelope([connect_field("v", case)])
    events = [payload("c", None, {"v": value}), payload("c", None, {"v": case[3]}), payload("d", {"v": value})]
    in_avro = avro_envelope([{"name": "v", "type": ["null", avro_type(case)]}])
    for found in (
        plain().decode([wrapped(schema, each) for each in events]),
        avro(in_avro).decode([framed(1, avro_body(in_avro, each)) for each in events]),
    ):
        sound(found, 3)
        assert found.rows.column(0).to_pylist() == [case[5]]
        assert [reject.kind for reject in found.rejects] == [RejectKind.MISFIT] * 2
        assert found.rejects[0].reason.startswith("$.after.v is ")
        assert found.rejects[1].reason.startswith("$.before.v is ")
        assert all(wanted in reject.reason for reject in found.rejects)


DECLARED = pa.schema(
    [
        pa.field("at", ZONED),
        pa.field("id", pa.int64(), nullable=False),
        pa.field("later", pa.string()),
        pa.field("price", pa.decimal128(12, 4)),
        pa.field("raw", pa.int64()),
        pa.field("clock", CLOCK),
    ]
)
DECLARED_CASES = {
    "id": ("int32", "", {}, 7),
    "at": ("int64", f"{TIME}MicroTimestamp", {}, 1529507596945104),
    "price": ("bytes", f"{CONNECT}Decimal", {"scale": "2", "connect.decimal.precision": "8"}, SCALED),
    "raw": ("int64", f"{TIME}MicroTimestamp", {}, 5),
    "clock": ("string", f"{TIME}ZonedTime", {}, "05:06:07Z"),
    "unused": ("string", "", {}, "x"),
}
DECLARED_ROW = {"at": FINE, "id": 7, "later": None, "price": Decimal("1234.5600"), "raw": 5, "clock": dt.time(5, 6, 7)}


def test_declared_columns_say_how_values_are_kept() -> None:
    schema = connect_envelope([connect_field(name, (*case, None, None), name != "id") for name, case in DECLARED_CASES.items()])
    row = {name: in_json(case[3]) for name, case in DECLARED_CASES.items()}
    options = {"schema-include": "true", "columns": "op"}
    found = sound(plain(DECLARED, **options).decode([wrapped(schema, payload("c", None, row))]), 1)
    assert found.rows.to_pylist() == [DECLARED_ROW | {"debezium_op": "c"}]
    assert found.rows.schema == plain(DECLARED, **options).schema()

    in_avro = avro_envelope(
        [{"name": name, "type": ["null", avro_type((*case, None, None))]} for name, case in DECLARED_CASES.items()]
    )
    row = {name: case[3] for name, case in DECLARED_CASES.items()} | {"price": Decimal("1234.56")}
    body = framed(1, avro_body(in_avro, payload("c", None, row)))
    lacking = framed(1, avro_body(in_avro, payload("c", None, row | {"id": None})))
    found = sound(avro(in_avro, DECLARED, columns="op").decode([body, lacking]), 2)
    assert found.rows.to_pylist() == [DECLARED_ROW | {"debezium_op": "c"}]
    assert [reject.reason for reject in found.rejects] == ["$.after.id is null or missing, and it is NOT NULL"]


def test_columns_of_the_envelope_in_avro() -> None:
    schema = avro_envelope([{"name": "id", "type": "int"}])
    format_ = avro(schema, columns="op,ts,source.lsn,source.table,source.snapshot,transaction.id")
    events = [
        payload("c", None, {"id": 1}),
        payload("d", {"id": 1}),
        payload("t"),
        payload("m"),
        payload("u"),
        payload("q"),
        payload("d"),
    ]
    found = sound(format_.decode([framed(1, avro_body(schema, each)) for each in events]), 7)
    beside = {
        "debezium_op": "c",
        "debezium_ts": dt.datetime(2019, 5, 28, 8, 58, 24, 961_000, dt.UTC),
        "debezium_source_lsn": 9,
        "debezium_source_table": "customers",
        "debezium_source_snapshot": None,
        "debezium_transaction_id": None,
    }
    assert found.rows.schema == format_.schema()
    assert found.rows.to_pylist() == [{"id": 1} | beside]
    assert [part.rows.to_pylist() for part in found.deletes] == [[{"id": 1} | beside | {"debezium_op": "d"}]]
    assert (found.truncates, found.passed) == ((2,), (3,))
    assert [reject.index for reject in found.rejects] == [4, 5, 6]
    assert "REPLICA IDENTITY" in found.rejects[2].reason


def test_nested_types_of_debezium_in_avro() -> None:
    at = {"type": "long", "connect.name": f"{TIME}MicroTimestamp"}
    point = {"type": "record", "name": "Point", "fields": [{"name": "at", "type": at}], "connect.name": f"{DATA}geometry.Point"}
    schema = avro_envelope(
        [
            {"name": "list", "type": {"type": "array", "items": ["null", at]}},
            {"name": "map", "type": {"type": "map", "values": at}},
            {"name": "row", "type": ["null", point]},
        ]
    )
    rows = [
        {"list": [0, None], "map": {"x": 0}, "row": {"at": 0}},
        {"list": [], "map": {}, "row": None},
        {"list": [2**62], "map": {}, "row": None},
        {"list": [], "map": {"y": 2**62}, "row": None},
        {"list": [], "map": {}, "row": {"at": 2**62}},
    ]
    found = sound(avro(schema).decode([framed(1, avro_body(schema, payload("c", None, row))) for row in rows]), 5)
    start = dt.datetime(1970, 1, 1)
    assert found.rows.to_pylist() == [
        {"list": [start, None], "map": [("x", start)], "row": {"at": start}},
        {"list": [], "map": [], "row": None},
    ]
    assert [reject.reason.partition(" is ")[0] for reject in found.rejects] == [
        "$.after.list[]",
        "$.after.map[]",
        "$.after.row.at",
    ]


def test_values_of_several_schemas_in_one_batch() -> None:
    one, other = (connect_envelope([connect_field("v", case)]) for case in (CASES[0], CASES[16]))
    values = [
        wrapped(one, payload("c", None, {"v": 1})),
        wrapped(other, payload("c", None, {"v": "x"})),
        wrapped(one, payload("d", {"v": 2})),
        wrapped({"type": "string"}, payload("c")),
        wrapped(None, payload("c")),
        json.dumps(payload("c")).encode(),
        None,
        wrapped(one, payload("t")),
        wrapped(one, payload("u", None, {"v": "x"})),
        wrapped([], payload("u")),
    ]
    found = sound(plain().decode(values), len(values))
    assert sorted(str(part.rows.to_pylist()) for part in found.parts) == ["[{'v': 'x'}]", "[{'v': 1}]"]
    assert [(reject.index, reject.kind.value) for reject in found.rejects] == [
        (3, "schema"),
        (4, "misfit"),
        (5, "misfit"),
        (8, "misfit"),
        (9, "schema"),
    ]
    assert (found.passed, found.truncates) == ((6,), (7,))


@pytest.mark.parametrize(
    ("schema", "columns", "message"),
    [
        (avro_envelope([{"name": "id", "type": "int"}])["fields"][2]["type"], None, "no envelope: it has no 'before'"),
        (avro_envelope([{"name": "id", "type": "int"}]), pa.schema([pa.field("x", pa.int32(), False)]), "x is NOT NULL"),
        (
            avro_envelope([{"name": "id", "type": "int"}]),
            pa.schema([("id", pa.string())]),
            "id is written as int32, and the column",
        ),
        (avro_envelope([{"name": "debezium_op", "type": "int"}]), None, "'debezium_op' is there already"),
    ],
)
def test_what_is_no_envelope_or_fits_no_column(schema: Any, columns: pa.Schema | None, message: str) -> None:
    with pytest.raises(SchemaMismatch, match=message):
        avro(schema, columns, columns="op").schema()
