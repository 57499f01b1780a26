from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakeflow.index.mask import columns_of, mask
from lakeflow.index.where import parse
from lakeflow.testing.index import evaluate

NAN = float("nan")
ROWS = pa.RecordBatch.from_pylist(
    [
        {"name": "a_b", "n": 1, "x": 1.5, "f": 0.1, "d": Decimal("1.10"), "on": True, "day": date(2026, 1, 1), "tags": ["a"]},
        {"name": "A%b\nc", "n": 7, "x": NAN, "f": 0.2, "d": Decimal("2.00"), "on": False, "day": date(2026, 2, 1), "tags": []},
        {"name": "", "n": -3, "x": -2.0, "f": NAN, "d": None, "on": None, "day": None, "tags": ["b", None, "a"]},
        {
            "name": None,
            "n": None,
            "x": None,
            "f": None,
            "d": Decimal("9.99"),
            "on": True,
            "day": date(2027, 1, 1),
            "tags": None,
        },
    ],
    pa.schema(
        [
            ("name", pa.string()),
            ("n", pa.int32()),
            ("x", pa.float64()),
            ("f", pa.float32()),
            ("d", pa.decimal128(10, 2)),
            ("on", pa.bool_()),
            ("day", pa.date32()),
            ("tags", pa.list_(pa.string())),
        ]
    ),
)
TESTS = [
    "n = 1",
    "n <> 1",
    "n > 0.5",
    "n in (1, -3)",
    "not n in (1, -3)",
    "n between -3 and 1",
    "n < 9000000000",
    "x > 1",
    "x >= 1.5",
    "x < 2",
    "x = 1.5",
    "f = 0.1",
    "f > 0.15",
    "d = 1.1",
    "d < 2",
    "on",
    "not on",
    "true",
    "day < '2026-02-01'",
    "day >= date '2026-02-01'",
    "name is null",
    "name is not null",
    r"name like 'a\_b'",
    "name like 'a_b'",
    "name like '%b%'",
    r"name like 'A\%b%'",
    "lower(name) = 'a_b'",
    "upper(name) like 'A%'",
    "length(name) > 2",
    "starts_with(name, 'a')",
    "ends_with(name, 'b')",
    "contains(name, '_')",
    "array_has(tags, 'a')",
    "not array_has(tags, 'b')",
]


def met(text: str, rows: pa.RecordBatch = ROWS) -> list[bool | None]:
    found: list[bool | None] = mask(parse(text, rows.schema, rows.schema.names, "docs"), rows).to_pylist()
    return found


def expected(text: str, rows: pa.RecordBatch = ROWS) -> list[bool | None]:
    condition = parse(text, rows.schema, rows.schema.names, "docs")
    return [evaluate(condition, row) for row in rows.to_pylist()]


@pytest.mark.parametrize("text", TESTS)
def test_every_test_means_what_it_means_row_by_row(text: str) -> None:
    assert met(text) == expected(text)


def _joined(one: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(one, st.sampled_from(["and", "or"]), one).map("({0[0]}) {0[1]} ({0[2]})".format)


@given(st.recursive(st.sampled_from(TESTS), lambda one: st.one_of(_joined(one), one.map("not ({})".format)), max_leaves=6))
def test_tests_that_are_joined_mean_what_they_mean_row_by_row(text: str) -> None:
    assert met(text) == expected(text)


def test_rows_of_a_slice_are_those_of_the_slice() -> None:
    rows = ROWS.slice(1, 2)
    for text in TESTS:
        assert met(text, rows) == expected(text, rows), text


def test_instants_compare_as_instants() -> None:
    moments = [datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 1, 1, 14, tzinfo=UTC), None]
    rows = pa.record_batch({"at": pa.array(moments, pa.timestamp("us", tz="UTC"))})
    assert met("at >= '2026-01-01T15:00:00+02:00'", rows) == [False, True, None]


def test_the_columns_that_a_condition_looks_at() -> None:
    condition = parse(
        "on and (n = 1 or not lower(name) like 'x%') and array_has(tags, 'a')", ROWS.schema, ROWS.schema.names, "docs"
    )
    assert list(columns_of(condition)) == ["on", "n", "name", "tags"]
