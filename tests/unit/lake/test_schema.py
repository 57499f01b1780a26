"""Arrow types through `storable` and `fit`, and the messages where they do not fit."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from lakeflow.errors import SchemaMismatch, UnknownName
from lakeflow.lake.catalog import Lake, arrow_schema
from lakeflow.lake.schema import difference, fit, require_columns, storable
from tests.lakes import made, open_lake, query, written

UTC_US = pa.timestamp("us", "UTC")


def stored(kind: pa.DataType) -> pa.DataType:
    return storable(pa.schema([("c", kind)]), "table t").field("c").type


STORED = [
    (pa.bool_(), pa.bool_(), [True, None]),
    (pa.int8(), pa.int32(), [-128, 127]),
    (pa.int16(), pa.int32(), [-(2**15), 2**15 - 1]),
    (pa.int32(), pa.int32(), [-(2**31), 2**31 - 1]),
    (pa.int64(), pa.int64(), [-(2**63), 2**63 - 1]),
    (pa.uint8(), pa.int32(), [0, 255]),
    (pa.uint16(), pa.int32(), [0, 2**16 - 1]),
    (pa.uint32(), pa.int64(), [0, 2**32 - 1]),
    (pa.uint64(), pa.int64(), [0, 2**63 - 1]),
    (pa.float16(), pa.float32(), [0.5, None]),
    (pa.float32(), pa.float32(), [0.1, None]),
    (pa.float64(), pa.float64(), [0.1, float("inf")]),
    (pa.decimal32(7, 2), pa.decimal128(7, 2), [Decimal("1.25")]),
    (pa.decimal128(38, 10), pa.decimal128(38, 10), [Decimal("1.0000000001")]),
    (pa.decimal256(38, 0), pa.decimal128(38, 0), [Decimal(10**37)]),
    (pa.string(), pa.string(), ["ü", ""]),
    (pa.large_string(), pa.string(), ["ü", None]),
    (pa.string_view(), pa.string(), ["ü", "longer than the twelve bytes kept inline"]),
    (pa.binary(), pa.binary(), [b"\x00", None]),
    (pa.large_binary(), pa.binary(), [b"\xff"]),
    (pa.binary_view(), pa.binary(), [b"\xff"]),
    (pa.binary(4), pa.binary(4), [b"abcd"]),
    (pa.date32(), pa.date32(), [date(1969, 12, 31)]),
    (pa.date64(), pa.date32(), [date(2024, 2, 29)]),
    (pa.time32("s"), pa.time64("us"), [time(23, 59, 59)]),
    (pa.time32("ms"), pa.time64("us"), [time(1, 2, 3, 4000)]),
    (pa.time64("us"), pa.time64("us"), [time(1, 2, 3, 4)]),
    (pa.timestamp("s"), pa.timestamp("us"), [datetime(1969, 1, 1)]),
    (pa.timestamp("ms"), pa.timestamp("us"), [datetime(2024, 1, 1)]),
    (pa.timestamp("us"), pa.timestamp("us"), [datetime(2024, 1, 1, 0, 0, 0, 1)]),
    (pa.timestamp("us", "UTC"), UTC_US, [datetime(2024, 1, 1, tzinfo=UTC)]),
    (pa.timestamp("ms", "Europe/Berlin"), UTC_US, [datetime(2024, 7, 1, 12, tzinfo=UTC)]),
    (pa.timestamp("us", "+05:30"), UTC_US, [datetime(2024, 7, 1, 12, tzinfo=UTC)]),
    (pa.dictionary(pa.int8(), pa.string()), pa.string(), ["a", None, "a"]),
    (pa.dictionary(pa.int32(), pa.int64()), pa.int64(), [7, 7]),
    (pa.list_(pa.uint8()), pa.list_(pa.field("element", pa.int32())), [[1, None], None, []]),
    (pa.large_list(pa.int64()), pa.list_(pa.field("element", pa.int64())), [[1]]),
    (pa.list_(pa.float32(), 2), pa.list_(pa.field("element", pa.float32())), [[1.0, 2.0]]),
    (pa.map_(pa.string_view(), pa.int16()), pa.map_(pa.string(), pa.int32()), [[("k", 1)]]),
    (
        pa.struct([("a", pa.uint8()), ("b", pa.list_(pa.dictionary(pa.int8(), pa.string())))]),
        pa.struct([("a", pa.int32()), ("b", pa.list_(pa.field("element", pa.string())))]),
        [{"a": 1, "b": ["x"]}, None],
    ),
]
NAMES = [str(kind) for kind, _, _ in STORED]


@pytest.mark.parametrize(("kind", "expected", "values"), STORED, ids=NAMES)
def test_each_type_has_one_type_that_it_is_stored_as(kind: pa.DataType, expected: pa.DataType, values: list[Any]) -> None:
    assert stored(kind) == expected
    assert stored(expected) == expected


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return open_lake(tmp_path_factory.mktemp("lake"))


@pytest.mark.parametrize(("kind", "expected", "values"), STORED, ids=NAMES)
def test_values_of_each_type_fit_the_table_made_for_it(
    lake: Lake, kind: pa.DataType, expected: pa.DataType, values: list[Any], request: pytest.FixtureRequest
) -> None:
    name = f"types.t{abs(hash(request.node.name))}"
    table = made(lake, pa.schema([("c", kind)]), name=name)
    assert storable(arrow_schema(table), name).field("c").type == expected
    rows = pa.table({"c": pa.array(values, kind)})
    fitted = fit(rows, arrow_schema(table), name)
    fitted.validate(full=True)
    assert fitted.schema.equals(arrow_schema(table))
    assert fitted.column("c").to_pylist() == rows.column("c").to_pylist()
    assert made(lake, pa.schema([("c", kind)]), name=name).schema() == table.schema()


REFUSED = [
    (pa.decimal256(39, 0), "decimal256"),
    (pa.decimal128(5, -2), "decimal128"),
    (pa.null(), "null"),
    (pa.duration("us"), "duration"),
    (pa.month_day_nano_interval(), "interval"),
    (pa.list_view(pa.int32()), "list_view"),
    (pa.large_list_view(pa.int32()), "large_list_view"),
    (pa.list_(pa.duration("s")), r"c.\.element has the type duration"),
    (pa.struct([("d", pa.null())]), r"'c'\.d has the type null"),
    (pa.map_(pa.string(), pa.duration("s")), r"'c'\.value has the type duration"),
    (pa.struct([]), "no fields"),
    (pa.struct([("a", pa.int8()), ("A", pa.int8())]), "differ by case only"),
    (pa.struct([("a", pa.int8()), ("a", pa.int8())]), "'a' is there twice"),
    (pa.run_end_encoded(pa.int32(), pa.int64()), "run_end_encoded"),
]


@pytest.mark.parametrize(("kind", "said"), REFUSED, ids=[str(kind) for kind, _ in REFUSED])
def test_types_without_a_place_are_refused_by_name(kind: pa.DataType, said: str) -> None:
    with pytest.raises(SchemaMismatch, match=said) as caught:
        stored(kind)
    assert "table t: column 'c'" in str(caught.value)


def test_columns_that_differ_by_case_only_are_refused() -> None:
    with pytest.raises(SchemaMismatch, match="'Carrier' and 'carrier' differ by case only"):
        storable(pa.schema([("carrier", pa.string()), ("Carrier", pa.string())]), "table t")


def test_nullability_survives() -> None:
    schema = pa.schema(
        [
            pa.field("a", pa.int8(), nullable=False),
            pa.field("s", pa.struct([pa.field("x", pa.int8(), nullable=False)])),
            pa.field("l", pa.list_(pa.field("item", pa.int8(), nullable=False))),
        ]
    )
    fitted = storable(schema, "t")
    assert not fitted.field("a").nullable
    assert not fitted.field("s").type.field("x").nullable
    assert not fitted.field("l").type.value_field.nullable


def one(target: pa.DataType, values: pa.Array | pa.ChunkedArray, *, nullable: bool = True) -> list[Any]:
    fitted = fit(pa.table({"c": values}), pa.schema([pa.field("c", target, nullable)]), "t")
    fitted.validate(full=True)
    return fitted.column("c").to_pylist()  # type: ignore[no-any-return]


def test_widening_changes_no_value() -> None:
    assert one(pa.int64(), pa.array([2**31 - 1], pa.int32())) == [2**31 - 1]
    assert one(pa.float64(), pa.array([0.5], pa.float32())) == [0.5]
    assert one(pa.float64(), pa.array([2**53], pa.int64())) == [float(2**53)]
    assert one(pa.decimal128(12, 2), pa.array([Decimal("1.25")], pa.decimal128(5, 2))) == [Decimal("1.25")]
    assert one(pa.decimal128(22, 2), pa.array([3], pa.int64())) == [Decimal("3.00")]
    assert one(pa.large_string(), pa.array(["a"], pa.string_view())) == ["a"]


def test_nulls_of_no_type_fit_any_column() -> None:
    assert one(pa.large_string(), pa.nulls(2)) == [None, None]
    assert one(pa.list_(pa.int32()), pa.array([[None], []], pa.list_(pa.null()))) == [[None], []]
    assert one(pa.struct([("a", pa.int32())]), pa.array([{"a": None}], pa.struct([("a", pa.null())]))) == [{"a": None}]


def test_ints_fit_a_narrower_column_as_long_as_each_value_does() -> None:
    assert one(pa.int32(), pa.array([5], pa.int64())) == [5]
    assert one(pa.decimal128(5, 2), pa.array([Decimal("1.250")], pa.decimal128(6, 3))) == [Decimal("1.25")]
    assert one(pa.timestamp("us"), pa.array([1000], pa.timestamp("ns"))) == [datetime(1970, 1, 1, 0, 0, 0, 1)]


OVERFLOWS: list[tuple[pa.DataType, pa.Array]] = [
    (pa.int32(), pa.array([2**31], pa.int64())),
    (pa.int32(), pa.array([2**32 - 1], pa.uint32())),
    (pa.int64(), pa.array([2**63], pa.uint64())),
    (pa.float64(), pa.array([2**53 + 1], pa.int64())),
    (pa.float32(), pa.array([2**24 + 1], pa.int32())),
    (pa.decimal128(4, 2), pa.array([Decimal("100.00")], pa.decimal128(5, 2))),
    (pa.decimal128(5, 2), pa.array([Decimal("1.255")], pa.decimal128(6, 3))),
    (pa.timestamp("us"), pa.array([1], pa.timestamp("ns"))),
    (pa.time64("us"), pa.array([1], pa.time64("ns"))),
    (pa.list_(pa.int32()), pa.array([[2**31]], pa.list_(pa.int64()))),
    (pa.struct([("a", pa.int32())]), pa.array([{"a": 2**31}], pa.struct([("a", pa.int64())]))),
]


@pytest.mark.parametrize(("target", "values"), OVERFLOWS, ids=[f"{v.type} into {t}" for t, v in OVERFLOWS])
def test_a_value_that_would_change_is_refused(target: pa.DataType, values: pa.Array) -> None:
    with pytest.raises(SchemaMismatch, match=r"column 'c' of table t is .* that does not fit"):
        one(target, values)


MISFITS: list[tuple[pa.DataType, pa.Array]] = [
    (pa.int64(), pa.array([1.0])),
    (pa.int64(), pa.array(["1"])),
    (pa.float32(), pa.array([0.5], pa.float64())),
    (pa.int64(), pa.array([Decimal("1")])),
    (pa.float64(), pa.array([Decimal("1")])),
    (pa.decimal128(5, 2), pa.array([1.0])),
    (pa.string(), pa.array([1])),
    (pa.string(), pa.array([b"a"])),
    (pa.bool_(), pa.array([1])),
    (pa.date32(), pa.array([datetime(2024, 1, 1)])),
    (pa.timestamp("us"), pa.array([datetime(2024, 1, 1)], pa.timestamp("us", "UTC"))),
    (UTC_US, pa.array([datetime(2024, 1, 1)], pa.timestamp("us"))),
    (pa.int64(), pa.array([timedelta(1)])),
    (pa.list_(pa.int32()), pa.array([["1"]])),
    (pa.list_(pa.int32()), pa.array([[1.0]])),
    (pa.list_(pa.int32()), pa.array([1])),
    (pa.int32(), pa.array([[1]])),
    (pa.list_(pa.int8()), pa.array([[1]], pa.list_view(pa.int8()))),
    (pa.map_(pa.string(), pa.int32()), pa.array([[("a", "1")]], pa.map_(pa.string(), pa.string()))),
    (pa.struct([("a", pa.int32())]), pa.array([{"a": 1, "z": 2}])),
    (pa.struct([("a", pa.int32())]), pa.array([{"a": "1"}])),
    (pa.struct([pa.field("a", pa.int32()), pa.field("b", pa.int32(), nullable=False)]), pa.array([{"a": 1}])),
]


@pytest.mark.parametrize(("target", "values"), MISFITS, ids=[f"{v.type} into {t}" for t, v in MISFITS])
def test_a_type_that_could_lose_a_value_is_refused(target: pa.DataType, values: pa.Array) -> None:
    with pytest.raises(SchemaMismatch):
        one(target, values)


def test_structs_are_fitted_by_the_names_of_their_fields() -> None:
    target = pa.struct([("a", pa.int64()), ("b", pa.string()), ("c", pa.int64())])
    assert one(target, pa.array([{"b": "x", "a": 1}], pa.struct([("b", pa.string()), ("a", pa.int8())]))) == [
        {"a": 1, "b": "x", "c": None}
    ]


TABLE = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("note", pa.string())])


def test_columns_are_found_by_name_in_any_order() -> None:
    rows = pa.table({"note": ["x"], "id": pa.array([1], pa.int16())})
    assert fit(rows, TABLE, "t").to_pydict() == {"id": [1], "note": ["x"]}


def test_a_missing_optional_column_is_null() -> None:
    assert fit(pa.table({"id": [1, 2]}), TABLE, "t").column("note").to_pylist() == [None, None]


def test_a_missing_required_column_is_named() -> None:
    with pytest.raises(SchemaMismatch, match=r"column 'id' of table t is required \(int64 NOT NULL\) and the rows have no"):
        fit(pa.table({"note": ["x"]}), TABLE, "t")


def test_an_unknown_column_shows_both_sides() -> None:
    with pytest.raises(SchemaMismatch, match="table t has no column 'Note'; it has: id, note; the rows have: id, Note"):
        fit(pa.table({"id": [1], "Note": ["x"]}), TABLE, "t")


def test_a_column_that_is_there_twice_is_named() -> None:
    with pytest.raises(SchemaMismatch, match="'id' is there twice"):
        fit(pa.Table.from_arrays([pa.array([1]), pa.array([1])], names=["id", "id"]), TABLE, "t")


@pytest.mark.parametrize("schema", [TABLE, pa.schema([("id", pa.int64()), ("note", pa.string())])])
def test_a_null_in_a_required_column_names_the_row(schema: pa.Schema) -> None:
    rows = pa.Table.from_arrays([pa.array([1, None, 3]), pa.array(["a", "b", "c"])], schema=schema)
    with pytest.raises(SchemaMismatch, match=r"column 'id' of table t is required .* row 1 of 3 holds a null"):
        fit(rows, TABLE, "t")


def test_a_null_in_a_required_field_of_a_struct_is_refused() -> None:
    target = pa.struct([pa.field("x", pa.int32(), nullable=False)])
    with pytest.raises(SchemaMismatch, match="column 'c' of table t"):
        one(target, pa.array([{"x": None}], pa.struct([("x", pa.int32())])))


def test_rows_without_rows_fit() -> None:
    assert fit(TABLE.empty_table(), TABLE, "t").num_rows == 0


def test_what_polars_makes_fits(tmp_path: Any) -> None:
    frame = pl.DataFrame(
        {
            "c": ["a", "b", "a"],
            "e": ["x", "y", "x"],
            "l": [[1], [], None],
            "a": [[1, 2], [3, 4], [5, 6]],
            "t": [datetime(2024, 1, 1)] * 3,
        },
        schema={
            "c": pl.Categorical(),
            "e": pl.Enum(["x", "y"]),
            "l": pl.List(pl.UInt32),
            "a": pl.Array(pl.Float32, 2),
            "t": pl.Datetime("ms", "Europe/Berlin"),
        },
    )
    rows = frame.to_arrow()
    table = made(open_lake(tmp_path), rows.schema)
    assert sum(data_file.record_count for data_file in written(table, rows)) == 3


def test_difference_shows_a_line_a_column_with_both_sides() -> None:
    declared = pa.schema([("same", pa.int64()), ("wider", pa.int64()), ("new", pa.string())])
    existing = pa.schema([("old", pa.string()), ("wider", pa.int32()), ("same", pa.int64())])
    assert difference(declared, existing) == (
        "  wider: declared int64, in the table int32\n"
        "  new: declared string, in the table nothing\n"
        "  old: declared nothing, in the table string"
    )


def test_order_metadata_and_large_types_are_no_difference() -> None:
    declared = pa.schema([("a", pa.string()), ("b", pa.list_(pa.int32()))])
    existing = pa.schema(
        [pa.field("b", pa.large_list(pa.int32())), pa.field("a", pa.large_string(), metadata={"PARQUET:field_id": "1"})]
    )
    assert difference(declared, existing) is None


def test_nullability_is_a_difference() -> None:
    assert difference(pa.schema([pa.field("a", pa.int64(), nullable=False)]), pa.schema([("a", pa.int64())])) == (
        "  a: declared int64 NOT NULL, in the table int64"
    )


def test_an_unknown_column_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(UnknownName, match="unknown column of t 'nota'; did you mean 'note'"):
        require_columns(["id", "nota"], TABLE, "t")


def test_unsigned_values_are_read_back_by_another_engine(lake: Lake) -> None:
    table = made(lake, pa.schema([("c", pa.uint32())]), name="types.unsigned")
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as producer:
        for data_file in written(table, pa.table({"c": pa.array([2**32 - 1, 0], pa.uint32())})):
            producer.append_data_file(data_file)
    assert query(lake.table("types.unsigned"), "SELECT c FROM rows ORDER BY c") == [(0,), (2**32 - 1,)]
