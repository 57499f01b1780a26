"""Rows that are written as JSON are read back as they were: any schema, any values, any cutting."""

from __future__ import annotations

import datetime
import decimal
import json
import math
import os
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflow.errors import Terminal
from lakeflow.topics.formats.json import JsonFormat
from lakeflow.topics.formats.json_write import JsonWriter
from tests.property.test_json_format import schemas

EXAMPLES = int(os.environ.get("LAKEFLOW_JSON_EXAMPLES", "60"))
WIDE = decimal.Context(prec=50)
MOMENTS = st.datetimes(datetime.datetime.min, datetime.datetime.max)


def value(kind: pa.DataType) -> st.SearchStrategy[Any]:
    """What a column of a type may hold, but for null."""
    if pa.types.is_struct(kind):
        return st.fixed_dictionaries({field.name: values(field) for field in kind})
    if pa.types.is_list(kind):
        return st.lists(values(kind.value_field), max_size=3)
    if pa.types.is_map(kind):
        return st.dictionaries(st.text(max_size=3), values(kind.item_field), max_size=3).map(lambda found: list(found.items()))
    if pa.types.is_decimal(kind):
        most = 10**kind.precision - 1
        return st.integers(-most, most).map(lambda digits: decimal.Decimal(digits).scaleb(-kind.scale, WIDE))
    if pa.types.is_integer(kind):
        return st.integers(-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1) - 1)
    if pa.types.is_floating(kind):
        return st.floats(width=kind.bit_width, allow_nan=False, allow_infinity=False)
    if pa.types.is_fixed_size_binary(kind):
        return st.binary(min_size=kind.byte_width, max_size=kind.byte_width)
    if kind == pa.timestamp("us", "UTC"):
        return MOMENTS.map(lambda moment: moment.replace(tzinfo=datetime.UTC))
    plain: dict[pa.DataType, st.SearchStrategy[Any]] = {
        pa.bool_(): st.booleans(),
        pa.string(): st.text(max_size=8),
        pa.binary(): st.binary(max_size=8),
        pa.date32(): st.dates(),
        pa.time64("us"): st.times(),
        pa.timestamp("us"): MOMENTS,
    }
    return plain[kind]


def values(field: pa.Field) -> st.SearchStrategy[Any]:
    return st.none() | value(field.type) if field.nullable else value(field.type)


@st.composite
def rows_of(draw: st.DrawFn) -> pa.RecordBatch:
    schema = draw(schemas)
    rows = draw(st.lists(st.fixed_dictionaries({field.name: values(field) for field in schema}), max_size=6))
    return pa.RecordBatch.from_pylist(rows, schema=schema)


@settings(max_examples=EXAMPLES, deadline=None)
@given(rows_of(), st.sampled_from(["string", "number"]), st.integers(0, 6))
def test_what_is_written_is_read_back(rows: pa.RecordBatch, decimals: str, start: int) -> None:
    part = rows.slice(min(start, rows.num_rows))
    written = JsonWriter(rows.schema, {"json.decimals": decimals}).values(part)
    decoded = JsonFormat(rows.schema).decode(written)
    assert decoded.rejects == ()
    assert decoded.parts[0].rows.equals(part), written


FLOATS = pa.schema(
    [
        ("a", pa.float64()),
        ("b", pa.struct([("c", pa.list_(pa.float32()))])),
        ("d", pa.map_(pa.string(), pa.float64())),
    ]
)
WRONG: dict[str, dict[str, Any]] = {
    "a": {"a": math.nan},
    "b": {"b": {"c": [1.0, -math.inf]}},
    "d": {"d": [("x", 1.0), ("y", math.inf)]},
}


@pytest.mark.parametrize("column", WRONG)
def test_numbers_that_json_lacks_are_refused_by_their_column_or_null_where_that_is_said(column: str) -> None:
    rows = pa.RecordBatch.from_pylist([{"a": 1.0}, {"a": None, **WRONG[column]}], schema=FLOATS)
    with pytest.raises(Terminal, match=f"column '{column}' holds NaN or an infinity"):
        JsonWriter(FLOATS, {}).values(rows)
    assert JsonWriter(FLOATS, {}).values(rows.slice(0, 1)) == [b'{"a":1.0,"b":null,"d":null}']
    told = json.loads(JsonWriter(FLOATS, {"json.non-finite": "null"}).values(rows)[1])
    assert "null" in json.dumps(told[column])


def test_years_that_json_lacks_are_refused() -> None:
    far = pa.schema([("at", pa.timestamp("us"))])
    rows = pa.RecordBatch.from_arrays([pa.array([2**60], pa.timestamp("us"))], schema=far)
    with pytest.raises(Terminal, match="years go from 0001 to 9999"):
        JsonWriter(far, {}).values(rows)
