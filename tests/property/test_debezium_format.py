"""A batch of Debezium's events comes to what each event comes to alone, whatever stands beside it."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import fastavro
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflow.topics.formats import Opening, open_format
from lakeflow.topics.registered import SchemaKind
from tests.property.outcomes import Outcome, outcomes
from tests.unit.topics.formats.known import KnownSchemas, avro_body, framed

COLUMNS = pa.schema(
    [
        pa.field("id", pa.int32(), nullable=False),
        pa.field("name", pa.string()),
        pa.field("at", pa.timestamp("us")),
        pa.field("days", pa.list_(pa.field("element", pa.date32()))),
        pa.field("price", pa.decimal128(6, 2)),
    ]
)
EXTRAS = "op,ts,source.lsn,transaction.id"

odd: st.SearchStrategy[Any] = st.sampled_from([None, "x", 1.5, True, [], {}, -1, 2**31, 2**62, "__debezium_unavailable_value"])
blobs = st.sampled_from(["AMg=", "/w==", "AA==", "", "!", "f////////w==", "AQAAAAAAAAAAAAAAAAAAAAAA"])


def mostly(usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 11).flatmap(lambda roll: odd if roll == 0 else usual)


rows = st.fixed_dictionaries(
    {"id": mostly(st.integers(0, 9))},
    optional={
        "name": mostly(st.none() | st.text(max_size=3)),
        "at": mostly(st.none() | st.integers(-(2**50), 2**50)),
        "days": mostly(st.none() | st.lists(mostly(st.integers(-9, 9) | st.none()), max_size=3)),
        "price": st.none() | blobs,
    },
)
images = st.none() | mostly(rows)
sources = st.fixed_dictionaries({"lsn": mostly(st.integers(0, 9) | st.none())})
events = st.fixed_dictionaries(
    {"op": st.sampled_from("ccruudddtmx") | odd},
    optional={
        "before": images,
        "after": images,
        "ts_ms": mostly(st.integers(0, 2**45)),
        "source": st.none() | sources,
        "transaction": st.none() | st.fixed_dictionaries({"id": mostly(st.text(max_size=2))}),
    },
)
FIELDS: list[dict[str, Any]] = [
    {"type": "int32", "optional": False, "field": "id"},
    {"type": "string", "optional": True, "field": "name"},
    {"type": "int64", "optional": True, "field": "at", "name": "io.debezium.time.MicroTimestamp"},
    {"type": "array", "optional": True, "field": "days"},
    {"type": "bytes", "optional": True, "field": "price", "name": "org.apache.kafka.connect.data.Decimal"},
]
FIELDS[3]["items"] = {"type": "int32", "optional": True, "name": "io.debezium.time.Date"}
FIELDS[4]["parameters"] = {"scale": "2", "connect.decimal.precision": "6"}
SCHEMA = {"type": "struct", "fields": [{"type": "struct", "field": "after", "optional": True, "fields": FIELDS}]}
OTHER = {"type": "struct", "fields": [{"type": "struct", "field": "after", "optional": True, "fields": FIELDS[:2]}]}


def spoilt(whole: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes | None]:
    cut = st.tuples(whole, st.integers(0, 60)).map(lambda found: found[0][: found[1]])
    odd_values = st.sampled_from([None, b"", b"[]", b"\xff", b'{"op":"c","after":{"id":1,"name":"\xff"}}', b"\0\0\0\0\2{}"])
    return st.integers(0, 9).flatmap(lambda roll: [cut, odd_values][roll] if roll < 2 else whole)


in_json = events.map(lambda event: json.dumps(event).encode())
with_schema = st.tuples(st.sampled_from([SCHEMA, SCHEMA, OTHER, {}, 5]), events).map(
    lambda found: json.dumps({"schema": found[0], "payload": found[1]}).encode()
)
options = st.fixed_dictionaries(
    {},
    optional={"debezium.as": st.just("changes"), "debezium.columns": st.just(EXTRAS), "debezium.unavailable": st.just("keep")},
)


@settings(max_examples=120, deadline=None)
@given(st.lists(spoilt(in_json), max_size=14), options)
def test_plain_json(values: list[bytes | None], chosen: dict[str, str]) -> None:
    format_ = open_format("debezium-json", Opening(COLUMNS, chosen))
    assert outcomes(format_, values) == [outcomes(format_, [value])[0] for value in values]


@settings(max_examples=120, deadline=None)
@given(st.lists(spoilt(with_schema), max_size=14), options, st.booleans())
def test_json_with_its_schemas(values: list[bytes | None], chosen: dict[str, str], declared: bool) -> None:
    opening = Opening(COLUMNS if declared else None, chosen | {"debezium.schema-include": "true"})
    format_ = open_format("debezium-json", opening)
    alone = [outcomes(open_format("debezium-json", opening), [value])[0] for value in values]
    assert outcomes(format_, values) == alone


def test_json_with_and_without_a_schema_are_one() -> None:
    @settings(max_examples=60, deadline=None)
    @given(st.lists(events, max_size=8))
    def check(found: list[dict[str, Any]]) -> None:
        plain = open_format("debezium-json", Opening(COLUMNS))
        schemas = open_format("debezium-json", Opening(COLUMNS, {"debezium.schema-include": "true"}))
        one = outcomes(plain, [json.dumps(event).encode() for event in found])
        other = outcomes(schemas, [json.dumps({"schema": SCHEMA, "payload": event}).encode() for event in found])
        assert list(map(without_reason, one)) == list(map(without_reason, other))

    check()


def without_reason(outcome: Outcome) -> Outcome:
    return outcome[:2] if outcome[0] == "reject" else outcome


ROW = {
    "type": "record",
    "name": "Value",
    "fields": [
        {"name": "id", "type": "int"},
        {"name": "name", "type": ["null", "string"]},
        {"name": "at", "type": ["null", {"type": "long", "connect.name": "io.debezium.time.NanoTimestamp"}]},
        {
            "name": "days",
            "type": {"type": "array", "items": ["null", {"type": "int", "connect.name": "io.debezium.time.Date"}]},
        },
    ],
}
ENVELOPE = {
    "type": "record",
    "name": "Envelope",
    "fields": [
        {"name": "before", "type": ["null", ROW], "default": None},
        {"name": "after", "type": ["null", "Value"], "default": None},
        {"name": "op", "type": "string"},
        {"name": "ts_ms", "type": ["null", "long"], "default": None},
    ],
}
fastavro.parse_schema(ENVELOPE)
avro_rows = st.fixed_dictionaries(
    {
        "id": st.integers(0, 9),
        "name": st.none() | st.text(max_size=3) | st.just("__debezium_unavailable_value"),
        "at": st.none() | st.integers(-(2**40), 2**40).map(lambda number: number * 1000) | st.just(1),
        "days": st.lists(st.none() | st.integers(-9, 9) | st.just(2**31 - 1), max_size=2),
    }
)
avro_events = st.fixed_dictionaries(
    {
        "op": st.sampled_from("ccruudddtmx"),
        "before": st.none() | avro_rows,
        "after": st.none() | avro_rows,
        "ts_ms": st.none() | st.integers(0, 2**45) | st.just(2**62),
    }
)
in_avro = avro_events.map(lambda event: framed(1, avro_body(ENVELOPE, event)))


@settings(max_examples=80, deadline=None)
@given(st.lists(spoilt(in_avro), max_size=14), options)
def test_avro(values: list[bytes | None], chosen: dict[str, str]) -> None:
    registry = KnownSchemas(SchemaKind.AVRO, {1: ENVELOPE})
    format_ = open_format("avro-debezium-registry", Opening(None, chosen, topics=("t",), registry=registry))
    assert outcomes(format_, values) == [outcomes(format_, [value])[0] for value in values]


@settings(max_examples=80, deadline=None)
@given(st.lists(avro_events, max_size=10))
def test_avro_against_a_reading_of_each_event(found: list[dict[str, Any]]) -> None:
    registry = KnownSchemas(SchemaKind.AVRO, {1: ENVELOPE})
    format_ = open_format("avro-debezium-registry", Opening(None, topics=("t",), registry=registry))
    seen = outcomes(format_, [framed(1, avro_body(ENVELOPE, event)) for event in found])
    assert [(outcome[0], outcome[-1] if outcome[0] in ("row", "delete") else None) for outcome in seen] == list(
        map(read, found)
    )


def read(event: dict[str, Any]) -> tuple[str, Any]:
    """What an event comes to, by Debezium's own words."""
    if event["op"] in "tm":
        return ("truncate" if event["op"] == "t" else "passed"), None
    row = event["before"] if event["op"] == "d" else event["after"]
    if event["op"] == "x" or row is None or (row["at"] or 0) % 1000 or 2**31 - 1 in row["days"]:
        return "reject", None
    if event["op"] != "d" and row["name"] == "__debezium_unavailable_value":
        return "reject", None
    kept = dict(row)
    kept["at"] = None if row["at"] is None else dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=row["at"] // 1000)
    kept["days"] = [None if day is None else dt.date(1970, 1, 1) + dt.timedelta(days=day) for day in row["days"]]
    return ("delete" if event["op"] == "d" else "row"), kept
