"""Computed columns over batches: every row in its place, bad ones found alone, nested and null values, and threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflow.errors import UsageError
from lakeflow.sql.computed import ComputedColumns, check_expression, computed_columns

SCHEMA = pa.schema([("code", pa.string()), ("n", pa.int64()), ("tags", pa.list_(pa.string()))])


def rows(*codes: str | None) -> pa.RecordBatch:
    tags = [None if code is None else [code, "x"] for code in codes]
    return pa.RecordBatch.from_arrays(
        [pa.array(codes, pa.string()), pa.array(range(len(codes)), pa.int64()), tags], schema=SCHEMA
    )


@pytest.fixture(scope="module")
def computed() -> ComputedColumns:
    return computed_columns([("number", "CAST(code AS INT) * 2"), ("half", "n / 2"), ("first", "tags[1]")], SCHEMA)


@given(st.lists(st.sampled_from(["1", "27", "x", "", None]), max_size=40))
@settings(max_examples=40, deadline=None)
def test_each_row_has_its_value_and_each_bad_one_its_place(computed: ComputedColumns, codes: list[str | None]) -> None:
    found, failures = computed.of(rows(*codes))
    good = [place for place, code in enumerate(codes) if code is None or code.isdigit()]
    assert found.column("n").to_pylist() == good
    assert found.column("number").to_pylist() == [None if codes[at] is None else int(codes[at] or 0) * 2 for at in good]
    assert found.column("half").to_pylist() == [at // 2 for at in good]
    assert found.column("first").to_pylist() == [codes[at] for at in good]
    assert [place for place, _ in failures] == [place for place in range(len(codes)) if place not in good]
    assert all("Could not convert string" in why for _, why in failures)
    assert found.schema.names == [*SCHEMA.names, "number", "half", "first"]


def test_several_threads_share_one() -> None:
    computed = computed_columns([("upper", "upper(code)")], SCHEMA)
    batches = [rows(*(f"a{number}-{row}" for row in range(50))) for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(computed.of, batches))
    assert [one.column("upper").to_pylist() for one, _ in found] == [
        [code.upper() for code in batch.column("code").to_pylist()] for batch in batches
    ]


@pytest.mark.parametrize(
    "text", ["list_transform(tags, lambda x: x || code)", "CASE WHEN n > 1 THEN code END", "regexp_extract(code, 'a')"]
)
def test_what_an_expression_may_be(text: str) -> None:
    check_expression(text, None)
    assert computed_columns([("x", text)], SCHEMA).of(rows("a", None))[1] == ()


@pytest.mark.parametrize("text", ["uuid()", "today()", "current_date", "now()", "CURRENT_USER"])
def test_what_is_another_each_time(text: str) -> None:
    with pytest.raises(UsageError, match="another value each time"):
        computed_columns([("x", text)], SCHEMA)
