"""JSON records to rows, strictly: each kind of bad record is rejected alone, with its field and its value."""

from __future__ import annotations

import datetime as dt
import io
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakeflow.topics.formats.format import RejectKind
from lakeflow.topics.formats.json import JsonFormat

ROUTE = pa.struct([pa.field("origin", pa.string()), pa.field("miles", pa.int32(), nullable=False)])
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("small", pa.int8()),
        pa.field("ratio", pa.float32()),
        pa.field("ok", pa.bool_()),
        pa.field("name", pa.string()),
        pa.field("blob", pa.binary()),
        pa.field("price", pa.decimal128(8, 2)),
        pa.field("day", pa.date32()),
        pa.field("clock", pa.time64("us")),
        pa.field("local", pa.timestamp("us")),
        pa.field("moment", pa.timestamp("us", "UTC")),
        pa.field("route", ROUTE),
        pa.field("tags", pa.list_(pa.string())),
        pa.field("counts", pa.map_(pa.string(), pa.int32())),
    ]
)
GOOD = b'{"id": 7}'


def row(text: str) -> dict[str, Any]:
    """The columns that are not null in the row of one record."""
    decoded = JsonFormat(SCHEMA).decode([text.encode()])
    assert decoded.rejects == ()
    decoded.rows.validate(full=True)
    (found,) = decoded.rows.to_pylist()
    return {name: value for name, value in found.items() if value is not None}


def test_all_types_at_once() -> None:
    text = """{"id": 1, "small": -128, "ratio": 0.5, "ok": true, "name": "Zo\\u00eb", "blob": "YWJj", "price": 12.5,
        "day": "2013-01-31", "clock": "05:06:07.000008", "local": "2013-01-01T05:00:00", "moment": "2013-01-01 05:00:00Z",
        "route": {"origin": "JFK", "miles": 100}, "tags": ["a", null], "counts": {"x": 1, "y": null}}"""
    assert row(text) == {
        "id": 1,
        "small": -128,
        "ratio": 0.5,
        "ok": True,
        "name": "Zoë",
        "blob": b"abc",
        "price": Decimal("12.50"),
        "day": dt.date(2013, 1, 31),
        "clock": dt.time(5, 6, 7, 8),
        "local": dt.datetime(2013, 1, 1, 5),
        "moment": dt.datetime(2013, 1, 1, 5, tzinfo=dt.UTC),
        "route": {"origin": "JFK", "miles": 100},
        "tags": ["a", None],
        "counts": [("x", 1), ("y", None)],
    }


def test_missing_and_null_are_null() -> None:
    assert row('{"id": 1, "name": null, "price": null, "route": null, "tags": null}') == {"id": 1}


@pytest.mark.parametrize("text", ['{"id": 1, "extra": {"a": [1, 2, "x"]}}', ' \n{"id":1}\t ', '{"id": 5, "id": 1}'])
def test_unknown_fields_and_blanks_around_are_ignored_and_the_last_of_a_key_counts(text: str) -> None:
    assert row(text) == {"id": 1}


@pytest.mark.parametrize(
    ("token", "value"),
    [
        ("999999.99", "999999.99"),
        ('"999999.99"', "999999.99"),
        ("-0.10", "-0.10"),
        ("1e3", "1000.00"),
        ("1.2300000000000000000000000000000000000000000000000000", "1.23"),
        ("0e99", "0.00"),
    ],
)
def test_decimals_keep_every_digit(token: str, value: str) -> None:
    assert row(f'{{"id": 1, "price": {token}}}')["price"] == Decimal(value)


@pytest.mark.parametrize(
    ("field", "token", "wanted"),
    [
        ("id", '"7"', 'the string "7"; wanted BIGINT'),
        ("id", "1.0", "the number 1.0; wanted BIGINT"),
        ("id", "1.5", "the number 1.5; wanted BIGINT"),
        ("id", "true", "the truth value true; wanted BIGINT"),
        ("id", "null", "$.id is null, and it is NOT NULL"),
        ("id", "9223372036854775808", "the number 9223372036854775808; wanted BIGINT"),
        ("small", "128", "the number 128; wanted TINYINT"),
        ("small", "-129", "the number -129; wanted TINYINT"),
        ("ratio", "3.5e38", "the number 3.5e38; wanted FLOAT"),
        ("ratio", '"0.5"', 'the string "0.5"; wanted FLOAT'),
        ("ok", "1", "the number 1; wanted BOOLEAN"),
        ("ok", '"true"', 'the string "true"; wanted BOOLEAN'),
        ("name", "5", "the number 5; wanted STRING"),
        ("name", "{}", "the object {}; wanted STRING"),
        ("blob", '"YW Jj"', 'the string "YW Jj"; wanted BINARY in base64'),
        ("price", "1.005", "the number 1.005; wanted DECIMAL(8, 2)"),
        ("price", "1000000", "the number 1000000; wanted DECIMAL(8, 2)"),
        ("price", '" 1"', 'the string " 1"; wanted DECIMAL(8, 2)'),
        ("price", "true", "the truth value true; wanted DECIMAL(8, 2)"),
        ("price", "999999999999999999999999999999999999999", "wanted DECIMAL(8, 2)"),
        ("day", '"2013-02-30"', 'the string "2013-02-30"; wanted DATE'),
        ("day", '"0000-01-01"', "wanted DATE"),
        ("day", "20130101", "the number 20130101; wanted DATE"),
        ("clock", '"24:00:00"', 'the string "24:00:00"; wanted TIME(6)'),
        ("clock", '""', 'the string ""; wanted TIME(6)'),
        ("local", '"2013-01-01T05:00:00Z"', "wanted TIMESTAMP(6), which has no zone"),
        ("local", '"2013-01-01"', "wanted TIMESTAMP(6)"),
        ("moment", '"2013-01-01T05:00:00"', "wanted TIMESTAMP_LTZ(6), which needs a zone"),
        ("moment", '"2013-01-01T05:00:00.1234567Z"', "wanted TIMESTAMP_LTZ(6)"),
        ("route", '{"origin": "JFK"}', "$.route.miles is missing, and it is NOT NULL"),
        ("route", '{"miles": "far"}', '$.route.miles is the string "far"; wanted INT'),
        ("route", "[1]", "$.route is the array [1]; wanted an object (a ROW)"),
        ("tags", '["a", 5]', "$.tags[1] is the number 5; wanted STRING"),
        ("tags", '"a"', '$.tags is the string "a"; wanted an array'),
        ("counts", '{"x": 1, "y": "2"}', '$.counts[y] is the string "2"; wanted INT'),
        ("counts", "[]", "$.counts is the array []; wanted an object (a MAP)"),
    ],
)
def test_a_value_that_does_not_fit_is_named_and_rejected_alone(field: str, token: str, wanted: str) -> None:
    identity = "" if field == "id" else '"id": 1, '
    decoded = JsonFormat(SCHEMA).decode([GOOD, f'{{{identity}"{field}": {token}}}'.encode(), GOOD])
    (reject,) = decoded.rejects
    assert (reject.index, reject.kind) == (1, RejectKind.MISFIT)
    assert reject.reason.startswith(f"$.{field}")
    assert wanted in reject.reason
    assert decoded.kept is not None
    assert decoded.kept.to_pylist() == [0, 2]
    assert decoded.rows["id"].to_pylist() == [7, 7]


@pytest.mark.parametrize(
    ("value", "kind", "reason"),
    [
        (None, RejectKind.TOMBSTONE, "no value (a tombstone)"),
        (b"", RejectKind.MALFORMED, "the value is blank"),
        (b" \n", RejectKind.MALFORMED, "the value is blank"),
        (b'{"id": 1', RejectKind.MALFORMED, 'not one JSON object: Input data was truncated: {"id": 1'),
        (b'{"id": 1}{"id": 2}', RejectKind.MALFORMED, "trailing characters"),
        (b'{"id": 1}\n{"id": 2}', RejectKind.MALFORMED, "trailing characters"),
        (b'{"id": 1},"x": {}', RejectKind.MALFORMED, "trailing characters"),
        (b'{"id": 1}\x00', RejectKind.MALFORMED, "trailing characters"),
        (b'{"id": NaN}', RejectKind.MALFORMED, "invalid character (byte 7)"),
        (b'{"id": 1, "ratio": Infinity}', RejectKind.MALFORMED, "not one JSON object"),
        (b'{"id": 1, "ratio": 1e999}', RejectKind.MISFIT, "$.ratio is the number 1e999; wanted FLOAT"),
        (b'{"id": 1, "name": "caf\xe9"}', RejectKind.MALFORMED, "broken UTF-8 at byte 22: b'\\xe9\"}'"),
        (b'{"id": 1, "unknown": "\xff"}', RejectKind.MALFORMED, "broken UTF-8 at byte 22"),
        (b'{"id": 1, "\xff": 2}', RejectKind.MALFORMED, "broken UTF-8 at byte 11"),
        (b'{"id": ' + b"[" * 600 + b"]" * 600 + b"}", RejectKind.MALFORMED, "nested too deeply"),
        (b'{"id": 1, "name": "\\ud800"}', RejectKind.MALFORMED, 'half of a surrogate pair: "\\ud800"'),
        (b"null", RejectKind.MALFORMED, "the top level is null, not an object"),
        (b"[1]", RejectKind.MALFORMED, "the top level is the array, not an object: [1]"),
        (b"7", RejectKind.MALFORMED, "the top level is the number, not an object: 7"),
        (b"\xef\xbb\xbf" + GOOD, RejectKind.MALFORMED, "not one JSON object"),
        (b'{"id": 1, "unknown": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", RejectKind.MALFORMED, "nested too deeply"),
    ],
)
@pytest.mark.parametrize("block", [1, 2, 100])
def test_a_record_that_is_no_json_object_is_rejected_alone(
    value: bytes | None, kind: RejectKind, reason: str, block: int
) -> None:
    decoded = JsonFormat(SCHEMA, block=block).decode([GOOD, GOOD, value, GOOD])
    (reject,) = decoded.rejects
    assert (reject.index, reject.kind) == (2, kind)
    assert reason in reject.reason
    assert decoded.rows["id"].to_pylist() == [7, 7, 7]


def test_records_that_would_merge_across_a_block_stay_two_rejects() -> None:
    decoded = JsonFormat(SCHEMA).decode([b'{"id": 1', b'"small": 2}', GOOD])
    assert [reject.index for reject in decoded.rejects] == [0, 1]
    assert decoded.rows.num_rows == 1


def test_unknown_fields_are_refused_where_that_is_set() -> None:
    decoded = JsonFormat(SCHEMA, refuse_unknown=True).decode(
        [b'{"id": 1, "extra": 2}', b'{"id": 1, "route": {"miles": 1, "x": 1}}', GOOD]
    )
    assert [reject.reason for reject in decoded.rejects] == ["unknown field $.extra", "unknown field $.route.x"]


def test_a_reason_shows_only_the_start_of_a_long_value() -> None:
    (reject,) = JsonFormat(SCHEMA).decode([b'{"id": "' + b"x" * 5000 + b'"}']).rejects
    assert len(reject.reason) < 150
    assert "(5002 characters)" in reject.reason


def test_no_values_give_no_rows() -> None:
    decoded = JsonFormat(SCHEMA).decode([])
    assert decoded.rows.num_rows == 0
    assert decoded.rows.schema == SCHEMA
    assert decoded.kept is None


def test_only_rejects_give_no_rows() -> None:
    decoded = JsonFormat(SCHEMA).decode([None, b"x"])
    assert decoded.rows.num_rows == 0
    assert len(decoded.rejects) == 2


def test_many_rejects_of_every_kind_keep_rows_and_places_apart() -> None:
    bad = [None, b"\xff", b"{", b'{"id": "x"}', b'{"id": 1, "day": "2013-02-30"}', b'{"id": 1, "tags": [1]}']
    values = [bad[number % 6] if number % 7 == 3 else b'{"id": %d, "day": "2013-01-01"}' % number for number in range(1000)]
    decoded = JsonFormat(SCHEMA, block=64).decode(values)
    assert decoded.kept is not None
    assert decoded.rows["id"].to_pylist() == decoded.kept.to_pylist()
    assert [reject.index for reject in decoded.rejects] == [number for number in range(1000) if number % 7 == 3]


def test_not_null_fields_under_a_null_parent_can_be_written_to_parquet() -> None:
    schema = pa.schema(
        [
            pa.field(
                "outer",
                pa.struct(
                    [
                        pa.field("inner", ROUTE, nullable=False),
                        pa.field("text", pa.string(), nullable=False),
                        pa.field("flag", pa.bool_(), nullable=False),
                        pa.field("price", pa.decimal128(8, 2), nullable=False),
                        pa.field("moment", pa.timestamp("us", "UTC"), nullable=False),
                        pa.field("tags", pa.list_(pa.string()), nullable=False),
                        pa.field("counts", pa.map_(pa.string(), pa.int32()), nullable=False),
                    ]
                ),
            ),
            pa.field("id", pa.int32()),
        ]
    )
    decoded = JsonFormat(schema).decode([b'{"id": 1, "outer": null}', b'{"id": 2}'])
    written = io.BytesIO()
    pq.write_table(pa.Table.from_batches([decoded.rows]), written)
    assert pq.read_table(written).to_pylist() == [{"outer": None, "id": 1}, {"outer": None, "id": 2}]
