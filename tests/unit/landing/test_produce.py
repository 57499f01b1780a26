"""What a declaration asks of a sink, the records that rows become, and where a sink begins."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest

from lakeflow.declare import TableSpec
from lakeflow.errors import DeclarationError, LakeflowError, Terminal, UnknownName
from lakeflow.job import OnChange
from lakeflow.landing.produce import dumps, loads, start_of
from lakeflow.landing.produce_rows import NOW, RecordWriter
from lakeflow.landing.produce_spec import Delivery, OnRemoval, SinkSpec, checked_columns, has_sink, sink_spec
from lakeflow.progress import SnapshotPosition
from lakeflow.topics.sink import Outgoing, Place

COLUMNS = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("name", pa.string()),
        pa.field("blob", pa.binary()),
        pa.field("at", pa.timestamp("us", "UTC")),
    ]
)
AT = dt.datetime(2026, 1, 2, 3, 4, 5, 678_900, dt.UTC)


def spec(primary_key: tuple[str, ...] = (), /, **options: str) -> SinkSpec:
    named = {f"sink.{name.replace('__', '.')}": text for name, text in options.items()}
    given = {"sink.topic": "out", **named}
    return sink_spec(TableSpec("gold.t", COLUMNS, given, primary_key=primary_key), given)


def records(sink: SinkSpec, *rows: dict[str, Any]) -> list[Outgoing]:
    return RecordWriter(sink, COLUMNS).records(pa.RecordBatch.from_pylist(list(rows), schema=COLUMNS))


def test_the_defaults_without_a_key_and_with_one() -> None:
    plain = spec()
    assert (plain.topic, plain.format, plain.columns, plain.key, plain.rows) == ("out", "json", None, (), 100_000)
    assert (plain.on_change, plain.delivery, plain.is_keyed) == (OnRemoval.FAIL, Delivery.EXACTLY_ONCE, False)
    by_key = spec(("id",))
    assert (by_key.key, by_key.on_change, by_key.on_change.reading) == (("id",), OnRemoval.FOLLOW, OnChange.RECOMPUTE)
    assert spec(("id",), key="name").key == ("name",)
    assert spec(("id",), on_change="ignore_deletes").on_change.reading is OnChange.IGNORE_DELETES


def test_properties_and_options_of_the_format_are_passed_on() -> None:
    sink = spec(**{"properties__linger.ms": "50", "json__decimals": "number"})
    assert (sink.properties, sink.json) == ({"linger.ms": "50"}, {"json.decimals": "number"})


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"topic": " "}, "'sink.topic' is empty"),
        ({"topics": "a"}, "did you mean 'sink.topic'"),
        ({"format": "avro-registry"}, "in which topics are read and not written; valid: json, raw"),
        ({"format": "jsn"}, "did you mean 'json'"),
        ({"key__format": "raw"}, "goes with 'sink.key'"),
        ({"on_change": "follow"}, "needs 'sink.key', or a PRIMARY KEY"),
        ({"on_change": "recompute"}, "valid: fail, follow, ignore_deletes"),
        ({"delivery": "twice"}, "valid: at-least-once, exactly-once"),
        ({"commit__max-rows": "0"}, "a whole number above 0"),
    ],
)
def test_what_is_declared_wrong_is_named_with_the_table(options: dict[str, str], told: str) -> None:
    with pytest.raises(LakeflowError) as caught:
        spec(**options)
    assert "table gold.t" in caught.value.message
    assert told in caught.value.message


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"columns": "id;nme"}, "unknown column in 'sink.columns'"),
        ({"key": "nme"}, "unknown column in 'sink.key'"),
        ({"headers": "id"}, "'sink.headers' names 'id', int64; valid: STRING, BYTES"),
        ({"timestamp": "name"}, "'sink.timestamp' names 'name', string; valid: TIMESTAMP, TIMESTAMP_LTZ"),
        ({"format": "raw"}, "'sink.format' = 'raw' takes one column of STRING or BYTES; given: id int64, name string"),
        ({"key": "id", "key__format": "raw"}, "'sink.key.format' = 'raw' takes one column"),
    ],
)
def test_columns_that_cannot_be_what_they_are_to_be(options: dict[str, str], told: str) -> None:
    with pytest.raises((UnknownName, DeclarationError)) as caught:
        checked_columns(spec(**options), COLUMNS)
    assert told in caught.value.message


def test_a_table_has_a_sink_where_it_names_a_topic() -> None:
    assert has_sink(TableSpec("a.b", COLUMNS, {"sink.topic": "t"}))
    assert not has_sink(TableSpec("a.b", COLUMNS, {"connector": "iceberg"}))
    with pytest.raises(DeclarationError, match=r"'sink.key' goes with 'sink.topic', which is missing"):
        has_sink(TableSpec("a.b", COLUMNS, {"sink.key": "id"}))


def test_a_table_does_not_go_back_to_the_topic_that_it_is_landed_from() -> None:
    options = {"connector": "kafka", "topic": "in;out", "sink.topic": "out"}
    with pytest.raises(DeclarationError, match="it would go round for ever"):
        sink_spec(TableSpec("a.b", COLUMNS, options), options)


def test_values_keys_headers_and_times() -> None:
    sink = spec(columns="name;id", key="id", headers="blob;name", timestamp="at")
    one, two = records(sink, {"id": 1, "name": "a", "blob": b"\xff", "at": AT}, {"id": 2})
    assert (one.value, one.key) == (b'{"name":"a","id":1}', b'{"id":1}')
    assert (one.headers, one.timestamp) == ([("blob", b"\xff"), ("name", b"a")], int(AT.timestamp() * 1000))
    assert (two.value, two.headers, two.timestamp) == (b'{"name":null,"id":2}', [("blob", None), ("name", None)], NOW)


def test_raw_values_and_keys_stand_as_they_are() -> None:
    (record,) = records(
        spec(format="raw", columns="blob", key="name", key__format="raw"), {"id": 1, "name": "é", "blob": b"\0"}
    )
    assert (record.key, record.value) == ("é".encode(), b"\0")
    with pytest.raises(Terminal, match="column 'blob' is NULL in row 0 of a batch"):
        records(spec(format="raw", columns="blob"), {"id": 1})


@pytest.mark.parametrize("before", [1, 10**6], ids=["a millisecond, which is also how now is said", "long"])
def test_times_before_records_have_any_are_refused(before: int) -> None:
    at = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) - dt.timedelta(milliseconds=before)
    with pytest.raises(Terminal, match=f"a time {before} ms before 1970, and records have times after that year began"):
        records(spec(timestamp="at"), {"id": 1, "at": at})


def test_a_null_in_a_key_is_refused() -> None:
    with pytest.raises(Terminal, match=r"column 'name' of 'sink.key' is NULL in 1 of 2 rows"):
        records(spec(key="id;name"), {"id": 1, "name": "a"}, {"id": 2})


def test_where_a_sink_begins() -> None:
    position = SnapshotPosition("u", 7, 3, "file")
    sink = spec()

    def at(place: Place, again: str | None = None) -> SnapshotPosition | None:
        return start_of(sink, place, again, lambda: pytest.fail("the table is not needed"))

    assert at(Place(None, False)) is None
    assert at(Place(dumps(position), True)) == position
    assert at(Place(dumps(position), True), "beginning") is None
    assert at(Place("beginning", True)) is None
    assert loads(dumps(None)) is None
    with pytest.raises(Terminal, match="the brokers hold no position of this sink"):
        at(Place(None, True))
    with pytest.raises(Terminal, match="not readable"):
        at(Place("theirs", True))
