"""Debezium's envelopes in Protobuf: the same rows, deletes and rejects as in Avro and JSON."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass

from lakeflow.errors import DeclarationError, UnknownName
from lakeflow.topics.formats import Opening, open_format
from lakeflow.topics.formats.format import Decoded, Format, RejectKind
from lakeflow.topics.registered import RegisteredSchema
from tests.property.protobuf_schemas import FakeRegistry, compiled, registered
from tests.unit.topics.formats.known import framed, sound

SHOP = """
syntax = "proto3";
package shop.customers;
import "google/protobuf/timestamp.proto";
import "google/type/date.proto";
import "confluent/meta.proto";
import "confluent/type/decimal.proto";
message Envelope {
  Value before = 1; Value after = 2; Source source = 3; string op = 4; optional int64 ts_ms = 5; Block transaction = 6;
  message Value {
    int32 id = 1; string name = 2; optional string email = 3;
    google.protobuf.Timestamp seen = 4; google.type.Date born = 5;
    confluent.type.Decimal due = 6
        [(confluent.field_meta) = {params: [{key: "precision", value: "9"}, {key: "scale", value: "2"}]}];
  }
  message Source { string table = 1; optional int64 lsn = 2; }
  message Block { string id = 1; int64 total_order = 2; }
}
"""
NO_ENVELOPE = 'syntax = "proto3"; message Row { int32 id = 1; string op = 2; }'
ANNE = {"id": 7, "name": "Anne", "email": "a@b.example", "seen": "2013-01-31T10:00:00.000001Z",
        "born": {"year": 1980, "month": 2, "day": 29}, "due": {"value": "AYk=", "precision": 9, "scale": 2}}  # fmt: skip
SEEN = dt.datetime(2013, 1, 31, 10, 0, 0, 1, dt.UTC)
ROW = {"id": 7, "name": "Anne", "email": "a@b.example", "seen": SEEN, "born": dt.date(1980, 2, 29), "due": Decimal("3.93")}


def event(op: str | None, **fields: Any) -> bytes:
    message = GetMessageClass(next(iter(compiled(SHOP).message_types_by_name.values())))()
    ParseDict(fields | ({} if op is None else {"op": op}), message)
    body: bytes = message.SerializeToString()
    return framed(1, b"\0" + body)


def opened(columns: pa.Schema | None = None, schema: RegisteredSchema | None = None, **options: str) -> Format:
    chosen = {name.replace("__", "."): value for name, value in options.items()}
    registry = FakeRegistry({1: schema or registered(SHOP)})
    return open_format("proto-debezium-registry", Opening(columns, chosen, topics=("t",), registry=registry))


def reasons(found: Decoded) -> list[str]:
    assert {reject.kind for reject in found.rejects} == {RejectKind.MISFIT}
    return [reject.reason for reject in found.rejects]


def test_each_operation_does_what_it_does_in_other_formats() -> None:
    events = [
        event("r", after=ANNE),
        event("u", before={"id": 7}, after={"id": 7, "name": ""}),
        event("d", before={"id": 7}),
        None,
        event("t"),
        event("m"),
    ]
    format_ = opened()
    found = sound(format_.decode(events), len(events))
    assert found.rows.schema == format_.schema()
    empty = {"id": 7, "name": "", "email": None, "seen": None, "born": None, "due": None}
    assert found.rows.to_pylist() == [ROW, empty]
    assert [part.rows.column("id").to_pylist() for part in found.deletes] == [[7]]
    assert (found.truncates, found.passed, found.rejects) == ((4,), (3, 5), ())


def test_what_is_no_event_is_rejected_alone() -> None:
    found = sound(opened().decode([event("c"), event("d"), event(None, after=ANNE), event("x"), event("c", after=ANNE)]), 5)
    after, before, none, other = reasons(found)
    assert "no row in `after`" in after
    assert "REPLICA IDENTITY" in before
    assert "wanted op" in none
    assert "'x'" in other
    assert found.kept is not None
    assert found.kept.to_pylist() == [4]


def test_as_changes_with_columns_of_the_envelope() -> None:
    asked = "op, ts, source.lsn, transaction.id"
    format_ = opened(pa.schema([("id", pa.int64())]), debezium__as="changes", debezium__columns=asked)
    at = {"ts_ms": "1559033904961", "source": {"lsn": 42}, "transaction": {"id": "571"}}
    found = sound(format_.decode([event("c", after=ANNE, **at), event("d", before={"id": 7})]), 2)
    rows = [row for part in found.parts for row in part.rows.to_pylist()]
    when = dt.datetime(2019, 5, 28, 8, 58, 24, 961000, dt.UTC)
    assert rows == [
        {"id": 7, "debezium_op": "c", "debezium_ts": when, "debezium_source_lsn": 42, "debezium_transaction_id": "571"},
        {"id": 7, "debezium_op": "d", "debezium_ts": None, "debezium_source_lsn": None, "debezium_transaction_id": None},
    ]


def test_a_declared_column_may_be_wider_or_missing_and_a_timestamp_without_its_zone() -> None:
    columns = pa.schema([("id", pa.decimal128(20, 0)), ("seen", pa.timestamp("us")), ("later", pa.string())])
    found = opened(columns).decode([event("c", after=ANNE)])
    assert found.rows.to_pylist() == [{"id": 7, "seen": SEEN.replace(tzinfo=None), "later": None}]


@pytest.mark.parametrize(
    ("schema", "columns", "message"),
    [
        (registered(NO_ENVELOPE), None, "the schema is no envelope: it has no 'before'"),
        (None, pa.schema([("name", pa.int64())]), "name is written as string, and the column is of int64"),
        (None, pa.schema([pa.field("more", pa.int64(), nullable=False)]), "the writer has no such field"),
    ],
)
def test_a_schema_that_gives_no_rows_is_the_fault_of_its_records(
    schema: RegisteredSchema | None, columns: pa.Schema | None, message: str
) -> None:
    (reject,) = opened(columns, schema).decode([framed(1, b"\0")]).rejects
    assert reject.kind is RejectKind.SCHEMA
    assert message in reject.reason


def test_broken_bytes_are_malformed_and_take_no_neighbour_along() -> None:
    found = sound(opened().decode([framed(1, b"\0\x12\x7f"), event("c", after=ANNE)]), 2)
    assert [(reject.index, reject.kind) for reject in found.rejects] == [(0, RejectKind.MALFORMED)]
    assert found.rows.to_pylist() == [ROW]


def test_options_are_those_of_both() -> None:
    format_ = open_format(
        "proto-debezium-registry",
        Opening(
            None,
            {"proto-registry.message": "shop.customers.Envelope"},
            registry=FakeRegistry({1: registered(SHOP)}),
            topics=("t",),
        ),
    )
    assert format_.schema().names == list(ROW)
    with pytest.raises(UnknownName, match="option of format proto-registry"):
        open_format("proto-debezium-registry", Opening(None, {"proto-registry.mesage": "x"}, registry=FakeRegistry({})))
    with pytest.raises(DeclarationError, match="are no envelopes"):
        open_format("proto-debezium-registry", Opening(None, {}, "key", ("t",), FakeRegistry({})))
