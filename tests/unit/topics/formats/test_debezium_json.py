"""Debezium's envelopes in plain JSON without schemas: what each operation does, and how each type is written."""

from __future__ import annotations

import datetime as dt
import json
from base64 import b64encode
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from lakeflow.errors import DeclarationError, UnknownName
from lakeflow.topics.formats import Opening, open_format
from lakeflow.topics.formats.format import Decoded, Format, RejectKind
from tests.unit.topics.formats.known import sound

CUSTOMERS = pa.schema(
    [
        pa.field("id", pa.int32(), nullable=False),
        pa.field("first_name", pa.string(), nullable=False),
        pa.field("email", pa.string()),
    ]
)
ANNE = {"id": 1004, "first_name": "Anne", "email": "annek@noanswer.example"}
SALLY = {"id": 1001, "first_name": "Sally", "email": None}
SOURCE = {
    "version": "3.0.5.Final",
    "connector": "postgresql",
    "name": "shop",
    "ts_ms": 1559033904863,
    "snapshot": "false",
    "db": "postgres",
    "sequence": '["24023119","24023128"]',
    "schema": "public",
    "table": "customers",
    "txId": 555,
    "lsn": 24023128,
    "xmin": None,
}


def event(op: str, before: Any = None, after: Any = None, **more: Any) -> bytes:
    return json.dumps(
        {"before": before, "after": after, "source": SOURCE, "op": op, "ts_ms": 1559033904961, "transaction": None} | more
    ).encode()


TRUNCATE = json.dumps({"source": SOURCE, "op": "t", "ts_ms": 1559033904961}).encode()
MESSAGE = json.dumps({"source": SOURCE, "op": "m", "ts_ms": 1, "message": {"prefix": "p", "content": "aGk="}}).encode()


def opened(declared: pa.Schema | None = CUSTOMERS, /, **options: str) -> Format:
    return open_format("debezium-json", Opening(declared, {f"debezium.{k.replace('__', '.')}": v for k, v in options.items()}))


def decoded(*values: bytes | None, **options: str) -> Decoded:
    return sound(opened(**options).decode(values), len(values))


def reasons(found: Decoded) -> list[str]:
    assert {reject.kind for reject in found.rejects} == {RejectKind.MISFIT}
    return [reject.reason for reject in found.rejects]


@pytest.mark.parametrize("op", ["c", "r", "u"])
@pytest.mark.parametrize("before", [None, SALLY, {"id": 1004}])
def test_create_read_and_update_are_the_row_after(op: str, before: Any) -> None:
    found = decoded(event(op, before, ANNE))
    assert found.rows.schema == CUSTOMERS
    assert found.rows.to_pylist() == [ANNE]
    assert found.deletes == ()


def test_a_delete_is_the_row_before_of_which_only_the_key_need_be_there() -> None:
    found = decoded(event("c", None, ANNE), event("d", SALLY), event("d", {"id": 1002}))
    (gone,) = found.deletes
    assert gone.rows.schema == pa.schema([field.with_nullable(True) for field in CUSTOMERS])
    assert gone.rows.to_pylist() == [SALLY, {"id": 1002, "first_name": None, "email": None}]
    assert gone.kept is not None
    assert gone.kept.to_pylist() == [1, 2]
    assert found.rows.to_pylist() == [ANNE]


def test_a_tombstone_a_truncate_and_a_message_give_no_row() -> None:
    found = decoded(event("d", SALLY), None, TRUNCATE, MESSAGE, event("c", None, ANNE), None)
    assert found.truncates == (2,)
    assert found.passed == (1, 3, 5)
    assert found.rejects == ()


def test_a_change_of_the_key_is_a_delete_and_a_create() -> None:
    found = decoded(event("d", ANNE), None, event("c", None, ANNE | {"id": 2000}))
    assert [part.rows.to_pylist() for part in found.deletes] == [[ANNE]]
    assert found.rows.to_pylist() == [ANNE | {"id": 2000}]
    assert found.passed == (1,)


def test_a_delete_without_a_row_before_says_what_to_do() -> None:
    found = decoded(event("d"), event("d", SALLY))
    assert [reason for reason in reasons(found) if "REPLICA IDENTITY FULL" in reason] == reasons(found)
    assert [part.rows.to_pylist() for part in found.deletes] == [[SALLY]]


def test_what_is_no_event_is_rejected_alone() -> None:
    found = decoded(
        event("u", ANNE),
        event("x", None, ANNE),
        b'{"after": {"id": 1, "first_name": "x"}}',
        json.dumps({"schema": {}, "payload": json.loads(event("c", None, ANNE))}).encode(),
        event("c", None, ANNE | {"id": "7"}),
        event("c", None, {"id": 7}),
        event("d", {"id": 1.5}),
        event("d", [1]),
        event("c", None, ANNE),
    )
    assert found.rows.to_pylist() == [ANNE]
    wanted = "wanted op, one of c, r, u, d, t, m; where values are {schema, payload}: 'debezium.schema-include' = 'true'"
    assert reasons(found) == [
        "op is 'u', and there is no row in `after`",
        f"op is 'x'; {wanted}",
        f"op is None; {wanted}",
        f"op is None; {wanted}",
        '$.after.id is the string "7"; wanted INT',
        "$.after.first_name is missing, and it is NOT NULL",
        "$.before.id is the number 1.5; wanted INT",
        "$.before: the top level is the array, not an object: [1]",
    ]


def test_what_is_no_json_is_malformed() -> None:
    found = decoded(b"{", b"[]", b"", event("c", None, ANNE)[:-1])
    assert {reject.kind for reject in found.rejects} == {RejectKind.MALFORMED}
    assert found.rows.num_rows == 0


def test_as_changes_every_event_is_a_row() -> None:
    found = decoded(
        event("c", None, ANNE), event("d", ANNE), event("d", {"id": 1}), None, TRUNCATE, **{"as": "changes", "columns": "op"}
    )
    assert [part.rows.to_pylist() for part in found.parts] == [
        [ANNE | {"debezium_op": "c"}],
        [ANNE | {"debezium_op": "d"}],
    ]
    assert found.deletes == ()
    assert found.parts[1].rows.schema == opened(CUSTOMERS, **{"as": "changes"}).schema().append(
        pa.field("debezium_op", pa.string())
    )
    assert reasons(found) == ["$.before.first_name is missing, and it is NOT NULL"]
    assert (found.truncates, found.passed) == ((4,), (3,))


EXTRAS = "op, ts, source.lsn, source.snapshot, source.table, transaction.id"


def test_columns_of_the_envelope_stand_beside_the_row() -> None:
    moved = SOURCE | {"snapshot": True}
    found = sound(
        opened(CUSTOMERS, columns=EXTRAS).decode(
            [
                event("c", None, ANNE, transaction={"id": "571", "total_order": 1, "data_collection_order": 1}),
                event("r", None, SALLY, source=moved),
                event("u", None, ANNE, source=None, ts_ms=None),
                event("d", {"id": 1004}),
                event("c", None, ANNE, ts_ms="x"),
                event("c", None, ANNE, ts_ms=2**62),
            ]
        ),
        6,
    )
    assert found.rows.schema == opened(CUSTOMERS, columns=EXTRAS).schema()
    moment = dt.datetime(2019, 5, 28, 8, 58, 24, 961_000, dt.UTC)
    beside = {"debezium_op": "c", "debezium_ts": moment, "debezium_source_lsn": 24023128}
    beside |= {"debezium_source_snapshot": "false", "debezium_source_table": "customers", "debezium_transaction_id": "571"}
    nothing = dict.fromkeys(beside, None)
    assert found.rows.to_pylist() == [
        ANNE | beside,
        SALLY | beside | {"debezium_op": "r", "debezium_source_snapshot": "true", "debezium_transaction_id": None},
        ANNE | nothing | {"debezium_op": "u"},
    ]
    (gone,) = found.deletes
    assert gone.rows.to_pylist()[0]["debezium_source_lsn"] == 24023128
    assert reasons(found)[0] == '$.ts_ms is the string "x"; wanted BIGINT'
    assert reasons(found)[1].endswith("wanted milliseconds since 1970-01-01")


def test_a_value_that_the_connector_could_not_read_is_no_value() -> None:
    lost = ANNE | {"email": "__debezium_unavailable_value"}
    found = decoded(event("u", None, ANNE), event("u", None, lost), event("d", lost))
    assert found.rows.to_pylist() == [ANNE]
    (reason,) = reasons(found)
    assert reason.startswith("$.after.email is '__debezium_unavailable_value'")
    assert "'debezium.unavailable' = 'keep'" in reason
    assert len(found.deletes[0].rows) == 1, "a delete goes by its key"
    assert decoded(event("u", None, lost), unavailable="keep").rows.to_pylist() == [lost]
    blob = pa.schema([("b", pa.binary())])
    written = b64encode(b"__debezium_unavailable_value").decode()
    assert reasons(sound(opened(blob).decode([event("u", None, {"b": written})]), 1))


MOMENT = dt.datetime(2018, 6, 20, 15, 13, 16, 945104)
DATE, TIME, LOCAL, ZONED = pa.date32(), pa.time64("us"), pa.timestamp("us"), pa.timestamp("us", "UTC")
DECIMAL = pa.decimal128(6, 2)
MODE, UNIT, DECIMALS = "time__precision__mode", "timestamp__unit", "decimal__mode"
LATEST = 253402300799999999  # microseconds, 9999-12-31T23:59:59.999999


def blob(number: int) -> str:
    return b64encode(number.to_bytes((number.bit_length() + 8) // 8, "big", signed=True)).decode()


@pytest.mark.parametrize(
    ("type_", "options", "written", "kept"),
    [
        (DATE, {}, 17702, dt.date(2018, 6, 20)),
        (DATE, {}, -719162, dt.date(1, 1, 1)),
        (DATE, {MODE: "connect"}, 0, dt.date(1970, 1, 1)),
        (DATE, {MODE: "isostring"}, "2018-06-20Z", dt.date(2018, 6, 20)),
        (TIME, {}, 86_399_999_999, dt.time(23, 59, 59, 999_999)),
        (TIME, {MODE: "adaptive_time_microseconds"}, 1, dt.time(0, 0, 0, 1)),
        (TIME, {MODE: "connect"}, 1, dt.time(0, 0, 0, 1000)),
        (TIME, {MODE: "nanoseconds"}, 1000, dt.time(0, 0, 0, 1)),
        (TIME, {"time__unit": "milliseconds"}, 1, dt.time(0, 0, 0, 1000)),
        (TIME, {MODE: "isostring"}, "05:06:07.5Z", dt.time(5, 6, 7, 500_000)),
        (LOCAL, {}, 1529507596945104, MOMENT),
        (LOCAL, {}, LATEST, dt.datetime(9999, 12, 31, 23, 59, 59, 999_999)),
        (LOCAL, {MODE: "connect"}, 1529507596945, MOMENT.replace(microsecond=945_000)),
        (LOCAL, {MODE: "microseconds"}, -1, dt.datetime(1969, 12, 31, 23, 59, 59, 999_999)),
        (LOCAL, {MODE: "nanoseconds"}, 1529507596945104000, MOMENT),
        (LOCAL, {UNIT: "milliseconds"}, 1529507596945, MOMENT.replace(microsecond=945_000)),
        (LOCAL, {UNIT: "nanoseconds"}, -1000, dt.datetime(1969, 12, 31, 23, 59, 59, 999_999)),
        (LOCAL, {MODE: "isostring"}, "2018-06-20T15:13:16.945104Z", MOMENT),
        (ZONED, {}, "2018-06-20T13:37:03.5Z", dt.datetime(2018, 6, 20, 13, 37, 3, 500_000, dt.UTC)),
        (ZONED, {MODE: "connect"}, "2018-06-20T13:37:03+02:00", dt.datetime(2018, 6, 20, 11, 37, 3, tzinfo=dt.UTC)),
        (DECIMAL, {}, blob(123456), Decimal("1234.56")),
        (DECIMAL, {}, blob(-1), Decimal("-0.01")),
        (DECIMAL, {}, "//8=", Decimal("-0.01")),
        (DECIMAL, {DECIMALS: "string"}, "1234.5", Decimal("1234.50")),
        (DECIMAL, {DECIMALS: "double"}, 1234.5, Decimal("1234.50")),
        (pa.decimal128(38, 0), {}, blob(10**38 - 1), Decimal(10**38 - 1)),
        (pa.binary(), {}, "YWJj", b"abc"),
        (pa.list_(DATE), {}, [0, None], [dt.date(1970, 1, 1), None]),
        (pa.map_(pa.string(), LOCAL), {}, {"x": 0}, [("x", dt.datetime(1970, 1, 1))]),
        (pa.struct([("x", DECIMAL)]), {}, {"x": blob(5)}, {"x": Decimal("0.05")}),
    ],
)
def test_how_types_are_written_without_a_schema(type_: pa.DataType, options: dict[str, str], written: Any, kept: Any) -> None:
    found = sound(
        opened(pa.schema([("v", type_)]), **options).decode([event("c", None, {"v": written}), event("c", None, {})]), 2
    )
    assert found.rejects == ()
    assert found.rows.column(0).to_pylist() == [kept, None]


@pytest.mark.parametrize(
    ("type_", "options", "written", "wanted"),
    [
        (DATE, {}, 2932897, "days since 1970-01-01"),
        (DATE, {}, "2018-06-20", "INT"),
        (DATE, {MODE: "isostring"}, "2018-06-20+01:00", "DATE in UTC"),
        (TIME, {}, 86_400_000_000, "microseconds of a day"),
        (TIME, {}, -1, "microseconds of a day"),
        (TIME, {MODE: "nanoseconds"}, 1001, "nanoseconds, in whole microseconds of a day"),
        (LOCAL, {}, LATEST + 1, "microseconds since 1970-01-01"),
        (LOCAL, {MODE: "connect"}, 2**60, "milliseconds since 1970-01-01"),
        (LOCAL, {MODE: "connect"}, -62135596800001, "milliseconds since 1970-01-01"),
        (LOCAL, {MODE: "nanoseconds"}, 1, "nanoseconds, in whole microseconds"),
        (LOCAL, {}, "2018-06-20T15:13:16Z", "BIGINT"),
        (LOCAL, {}, 1.5, "BIGINT"),
        (ZONED, {}, "2018-06-20T13:37:03", "TIMESTAMP_LTZ(6)"),
        (ZONED, {}, "2018-06-20T13:37:03.1234567Z", "TIMESTAMP_LTZ(6)"),
        (DECIMAL, {}, blob(1_000_000), "DECIMAL(6, 2) as unscaled bytes"),
        (DECIMAL, {}, blob(-1_000_000), "DECIMAL(6, 2) as unscaled bytes"),
        (DECIMAL, {}, blob(2**130), "DECIMAL(6, 2) as unscaled bytes"),
        (DECIMAL, {}, "", "DECIMAL(6, 2) as unscaled bytes"),
        (DECIMAL, {}, 12.5, "BINARY in base64"),
        (DECIMAL, {DECIMALS: "string"}, "1.005", "DECIMAL(6, 2)"),
        (DECIMAL, {DECIMALS: "double"}, 0.30000000000000004, "DECIMAL(6, 2)"),
        (pa.decimal128(38, 0), {}, blob(10**38), "DECIMAL(38, 0)"),
        (pa.decimal128(38, 0), {}, blob(-(2**127)), "DECIMAL(38, 0)"),
    ],
)
def test_what_does_not_fit_is_never_cut(type_: pa.DataType, options: dict[str, str], written: Any, wanted: str) -> None:
    found = sound(
        opened(pa.schema([("v", type_)]), **options).decode([event("c", None, {"v": written}), event("c", None, {"v": None})]),
        2,
    )
    assert found.rows.to_pylist() == [{"v": None}]
    (reason,) = reasons(found)
    assert reason.startswith("$.after.v is ")
    assert wanted in reason.partition("; wanted ")[2]


@pytest.mark.parametrize(
    ("error", "message", "options"),
    [
        (UnknownName, r"debezium\.mode", {"debezium.mode": "x"}),
        (DeclarationError, "'debezium.as' is 'row'; did you mean 'rows'", {"debezium.as": "row"}),
        (DeclarationError, "names 'source.lsm'; did you mean 'source.lsn'", {"debezium.columns": "source.lsm"}),
        (DeclarationError, "'debezium_op' is there already", {"debezium.columns": "op"}),
        (DeclarationError, "valid: adaptive", {"debezium.time.precision.mode": "x"}),
    ],
)
def test_options_that_cannot_be_meant(error: type[Exception], message: str, options: dict[str, str]) -> None:
    columns = CUSTOMERS.append(pa.field("Debezium_OP", pa.string()))
    with pytest.raises(error, match=message):
        open_format("debezium-json", Opening(columns, options))


def test_keys_are_no_envelopes_and_columns_must_be_declared() -> None:
    with pytest.raises(DeclarationError, match="keys of Debezium's topics are no envelopes"):
        open_format("debezium-json", Opening(CUSTOMERS, side="key"))
    with pytest.raises(DeclarationError, match="need declared columns"):
        opened(None, **{"schema-include": "false"})
    with pytest.raises(DeclarationError, match="which JSON cannot give"):
        opened(pa.schema([("a", pa.uint8())]))
    with pytest.raises(DeclarationError, match="the columns are in the records alone"):
        opened(None).schema()
