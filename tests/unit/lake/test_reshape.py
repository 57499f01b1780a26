"""Arrays of one nested type as arrays of another."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakeflow.errors import SchemaMismatch
from lakeflow.lake.reshape import FIELD_ID, by_id, by_name, nulls, reshaped


def required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


def numbered(name: str, kind: pa.DataType, number: int) -> pa.Field:
    return pa.field(name, kind, metadata={FIELD_ID: str(number)})


def parquet_round(values: pa.Array, field: pa.Field) -> list[Any]:
    file = io.BytesIO()
    pq.write_table(pa.table([values], schema=pa.schema([field])), file)
    rows: list[Any] = pq.read_table(file).column(0).to_pylist()
    return rows


NARROW = pa.struct([("b", pa.int16()), ("a", pa.float32())])
WIDE = pa.struct([("a", pa.float64()), ("new", pa.struct([required("x", pa.int64())])), ("b", pa.int64())])
ROWS = [None, {"b": 1, "a": 0.5}, {"b": None, "a": None}]
WIDENED = [None, {"a": 0.5, "new": None, "b": 1}, {"a": None, "new": None, "b": None}]

CASES = [
    (NARROW, WIDE, ROWS, WIDENED),
    (pa.list_(NARROW), pa.list_(WIDE), [None, ROWS, [], [None]], [None, WIDENED, [], [None]]),
    (pa.large_list(NARROW), pa.list_(WIDE), [None, ROWS, []], [None, WIDENED, []]),
    (pa.list_(NARROW), pa.large_list(WIDE), [None, ROWS, []], [None, WIDENED, []]),
    (pa.list_(pa.int8(), 2), pa.list_(pa.int64()), [None, [1, 2]], [None, [1, 2]]),
    (
        pa.map_(pa.string(), NARROW),
        pa.map_(pa.string(), WIDE),
        [None, [("k", ROWS[1])], [], [("l", None)]],
        [None, [("k", WIDENED[1])], [], [("l", None)]],
    ),
    (pa.null(), WIDE, [None, None], [None, None]),
    (pa.dictionary(pa.int8(), pa.string()), pa.string(), ["a", None], ["a", None]),
    (
        pa.struct([("l", pa.list_(pa.map_(pa.int32(), NARROW)))]),
        pa.struct([("l", pa.list_(pa.map_(pa.int64(), WIDE)))]),
        [None, {"l": None}, {"l": [None, [(1, ROWS[1])]]}],
        [None, {"l": None}, {"l": [None, [(1, WIDENED[1])]]}],
    ),
]


@pytest.mark.parametrize(("source", "target", "rows", "expected"), CASES, ids=[str(case[0])[:40] for case in CASES])
@pytest.mark.parametrize("start", [0, 1])
def test_fields_are_found_by_name_at_any_depth_and_missing_ones_are_null(
    source: pa.DataType, target: pa.DataType, rows: list[Any], expected: list[Any], start: int
) -> None:
    field = pa.field("c", target)
    found = reshaped(pa.array(rows, source).slice(start), field, by_name, "column c")
    found.validate(full=True)
    assert found.type == target
    assert found.to_pylist() == expected[start:]
    assert parquet_round(found, field) == expected[start:]


def test_fields_are_found_by_id_whatever_their_names() -> None:
    source = pa.struct([numbered("a", pa.int32(), 1), numbered("b", pa.int32(), 2)])
    target = pa.struct([numbered("a", pa.int32(), 3), numbered("b", pa.int32(), 1)])
    found = reshaped(pa.array([{"a": 1, "b": 2}], source), numbered("s", target, 9), by_id, "s")
    assert found.to_pylist() == [{"a": None, "b": 1}]


INNER = pa.struct([required("x", pa.int32()), required("l", pa.list_(required("element", pa.string())))])
STRICT = pa.struct(
    [
        required("g", pa.large_list(pa.int64())),
        required("r", INNER),
        required("m", pa.map_(pa.string(), required("value", pa.int64()))),
    ]
)
LOOSE = pa.struct(
    [
        ("g", pa.list_(pa.int64())),
        ("m", pa.map_(pa.string(), pa.int32())),
        ("r", pa.struct([("l", pa.list_(pa.string())), ("x", pa.int16())])),
    ]
)
GOOD = {"g": [1], "r": {"x": 1, "l": ["a"]}, "m": [("k", 1)]}


def test_required_fields_of_a_null_struct_are_no_missing_values() -> None:
    field = pa.field("s", STRICT)
    found = reshaped(pa.array([None, GOOD, None], LOOSE), field, by_name, "s")
    assert found.to_pylist() == [None, GOOD, None]
    assert parquet_round(found, field) == [None, GOOD, None]
    assert parquet_round(nulls(3, STRICT), field) == [None] * 3


@pytest.mark.parametrize(
    ("row", "path"),
    [
        ({**GOOD, "r": {"x": None, "l": []}}, "s.r.x"),
        ({**GOOD, "r": None}, "s.r"),
        ({**GOOD, "r": {"x": 1, "l": [None]}}, "s.r.l.element"),
        ({**GOOD, "r": {"x": 1, "l": None}}, "s.r.l"),
        ({**GOOD, "m": [("k", None)]}, "s.m.value"),
    ],
)
def test_a_null_in_a_required_field_is_refused_by_its_path(row: dict[str, Any], path: str) -> None:
    with pytest.raises(SchemaMismatch, match=f"^{path} is required and holds a null"):
        reshaped(pa.array([None, row], LOOSE), pa.field("s", STRICT), by_name, "s")


def test_a_required_field_that_is_missing_is_refused() -> None:
    lacking = pa.struct([("x", pa.int32())])
    target = pa.field("s", pa.struct([("x", pa.int32()), required("y", pa.int32())]))
    with pytest.raises(SchemaMismatch, match=r"s\.y is required"):
        reshaped(pa.array([{"x": 1}], lacking), target, by_name, "s")
    assert reshaped(pa.array([None], lacking), target, by_name, "s").to_pylist() == [None]


def test_values_that_do_not_fit_are_refused() -> None:
    with pytest.raises(pa.ArrowInvalid):
        reshaped(pa.array([[2**40]], pa.list_(pa.int64())), pa.field("l", pa.list_(pa.int32())), by_name, "l")
