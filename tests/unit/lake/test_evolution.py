"""What a table's columns may become: the table in evolution.py, row by row and at every depth."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest

from lakeflow.errors import SchemaMismatch
from lakeflow.lake.evolution import Evolved, evolve, left_over
from lakeflow.lake.schema import storable

WHERE = "table bronze.flights"
LONG = pa.int64()


def columns(*fields: tuple[str, pa.DataType] | pa.Field) -> pa.Schema:
    return pa.schema([field if isinstance(field, pa.Field) else pa.field(*field) for field in fields])


def required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


Nest = Callable[[pa.Field], pa.DataType]
"""A type that holds a field named x somewhere within."""

NESTS: list[tuple[str, Nest]] = [
    ("c.", lambda field: pa.struct([field])),
    ("c.element.", lambda field: pa.list_(pa.field("element", pa.struct([field])))),
    ("c.value.", lambda field: pa.map_(pa.string(), pa.struct([field]))),
    ("c.element.value.s.", lambda field: pa.list_(pa.map_(pa.int32(), pa.struct([("s", pa.struct([field]))])))),
]
DEPTHS = pytest.mark.parametrize(("path", "nest"), NESTS, ids=[path for path, _ in NESTS])

WIDENED = [
    (pa.int32(), pa.int64()),
    (pa.float32(), pa.float64()),
    (pa.decimal128(5, 2), pa.decimal128(9, 2)),
    (pa.int16(), pa.uint32()),
]
WIDENING = pytest.mark.parametrize(("narrow", "wide"), WIDENED, ids=[f"{a} {b}" for a, b in WIDENED])

NO_MEETING = [
    (pa.int32(), pa.string()),
    (pa.int64(), pa.float64()),
    (pa.float64(), pa.int32()),
    (pa.int64(), pa.decimal128(20, 0)),
    (pa.decimal128(5, 2), pa.decimal128(9, 3)),
    (pa.decimal128(9, 3), pa.decimal128(5, 2)),
    (pa.date32(), pa.timestamp("us")),
    (pa.timestamp("us"), pa.timestamp("us", "UTC")),
    (pa.string(), pa.binary()),
    (pa.binary(4), pa.binary(8)),
    (pa.bool_(), pa.int32()),
    (pa.struct([("a", LONG)]), LONG),
    (LONG, pa.struct([("a", LONG)])),
    (pa.list_(LONG), LONG),
    (pa.list_(LONG), pa.map_(LONG, LONG)),
    (pa.map_(pa.string(), LONG), pa.struct([("a", LONG)])),
    (pa.map_(pa.int32(), LONG), pa.map_(pa.int64(), LONG)),
    (pa.map_(pa.struct([("a", LONG)]), LONG), pa.map_(pa.struct([("a", LONG), ("b", LONG)]), LONG)),
]
REFUSED = pytest.mark.parametrize(("present", "brought"), NO_MEETING, ids=[f"{a} {b}" for a, b in NO_MEETING])


def test_the_same_columns_hold_their_rows_in_any_order() -> None:
    current = columns(("a", LONG), ("s", pa.struct([("x", LONG), ("y", pa.string())])))
    assert evolve(current, current, WHERE) is None
    assert evolve(current, columns(("s", pa.struct([("y", pa.string()), ("x", LONG)])), ("a", LONG)), WHERE) is None


@WIDENING
def test_a_type_widens(narrow: pa.DataType, wide: pa.DataType) -> None:
    found = evolve(columns(("n", narrow), ("z", LONG)), columns(("n", wide)), WHERE)
    stored = evolve(columns(("z", LONG)), columns(("n", wide)), WHERE)
    assert found is not None
    assert stored is not None
    assert found.schema == columns(("n", stored.schema.field("n").type), ("z", LONG))
    assert len(found.changes) == 1
    assert found.changes[0].startswith("column n: ")
    assert " -> " in found.changes[0]


@WIDENING
def test_a_narrower_type_is_no_change(narrow: pa.DataType, wide: pa.DataType) -> None:
    assert evolve(columns(("n", wide)), columns(("n", narrow)), WHERE) is None


@DEPTHS
@WIDENING
def test_a_type_widens_at_any_depth(path: str, nest: Nest, narrow: pa.DataType, wide: pa.DataType) -> None:
    found = evolve(columns(("c", nest(pa.field("x", narrow)))), columns(("c", nest(pa.field("x", wide)))), WHERE)
    assert found is not None
    assert evolve(found.schema, columns(("c", nest(pa.field("x", wide)))), WHERE) is None
    assert found.changes[0].startswith(f"column {path}x: ")
    assert evolve(columns(("c", nest(pa.field("x", wide)))), columns(("c", nest(pa.field("x", narrow)))), WHERE) is None


def test_elements_and_values_widen_and_become_optional() -> None:
    current = columns(
        ("l", pa.list_(required("element", pa.int32()))), ("m", pa.map_(pa.string(), required("value", pa.float32())))
    )
    incoming = columns(("l", pa.list_(pa.field("element", LONG))), ("m", pa.map_(pa.string(), pa.field("value", pa.float64()))))
    assert evolve(current, incoming, WHERE) == Evolved(
        incoming,
        (
            "column l.element: int32 -> int64",
            "column l.element: required -> optional",
            "column m.value: float -> double",
            "column m.value: required -> optional",
        ),
    )


def test_new_columns_go_last_and_are_nullable_to_the_innermost() -> None:
    deep = pa.struct([required("a", LONG), required("l", pa.list_(required("element", pa.struct([required("b", LONG)]))))])
    found = evolve(columns(required("id", LONG)), columns(required("new", deep), required("id", LONG)), WHERE)
    optional = pa.struct([("a", LONG), ("l", pa.list_(pa.field("element", pa.struct([("b", LONG)]))))])
    assert found == Evolved(columns(required("id", LONG), ("new", optional)), (f"column new: added, {optional}",))
    assert found is not None
    assert [field.nullable for field in found.schema] == [False, True]
    assert found.schema.field("new").type.field("a").nullable


@DEPTHS
def test_a_field_is_added_at_any_depth(path: str, nest: Nest) -> None:
    current = columns(("c", nest(pa.field("x", LONG))))
    incoming = columns(("c", nest(pa.field("y", pa.string()))))
    found = evolve(current, incoming, WHERE)
    assert found is not None
    assert found.changes == (f"column {path}y: added, string",)
    again = evolve(incoming, current, WHERE)
    assert again is not None
    assert again.changes == (f"column {path}x: added, int64",)
    assert left_over(found.schema, again.schema) is None


@DEPTHS
def test_required_becomes_optional_at_any_depth_and_never_back(path: str, nest: Nest) -> None:
    strict, loose = columns(("c", nest(required("x", LONG)))), columns(("c", nest(pa.field("x", LONG))))
    found = evolve(strict, loose, WHERE)
    assert found is not None
    assert found.changes == (f"column {path}x: required -> optional",)
    assert left_over(loose, found.schema) is None
    assert evolve(loose, strict, WHERE) is None


@DEPTHS
def test_a_required_field_that_rows_lack_becomes_optional(path: str, nest: Nest) -> None:
    found = evolve(columns(("c", nest(required("x", LONG)))), columns(("c", nest(pa.field("y", LONG)))), WHERE)
    assert found is not None
    assert found.changes == (
        f"column {path}x: required -> optional, since rows come without it",
        f"column {path}y: added, int64",
    )


def test_a_column_that_rows_lack_is_kept() -> None:
    current = columns(("a", LONG), ("b", pa.string()))
    assert evolve(current, columns(("a", LONG)), WHERE) is None
    found = evolve(current, columns(("c", LONG)), WHERE)
    assert found is not None
    assert found.schema.names == ["a", "b", "c"]


@REFUSED
def test_two_types_that_do_not_meet_are_refused_with_both_sides(present: pa.DataType, brought: pa.DataType) -> None:
    with pytest.raises(SchemaMismatch) as caught:
        evolve(columns(("c", present)), columns(("c", brought)), WHERE)
    message = caught.value.message
    assert message.startswith(f"{WHERE} cannot evolve")
    (line,) = [line for line in message.splitlines() if line.startswith(("  c ", "  c."))]
    sides = (
        (present.key_type, brought.key_type) if pa.types.is_map(present) and pa.types.is_map(brought) else (present, brought)
    )
    for side in sides:
        assert str(storable(columns(("c", side)), WHERE).field("c").type) in line


@DEPTHS
@REFUSED
def test_what_is_refused_is_refused_at_any_depth(path: str, nest: Nest, present: pa.DataType, brought: pa.DataType) -> None:
    with pytest.raises(SchemaMismatch) as caught:
        evolve(columns(("c", nest(pa.field("x", present)))), columns(("c", nest(pa.field("x", brought)))), WHERE)
    assert f"  {path}x" in caught.value.message


@DEPTHS
def test_a_name_that_differs_by_case_only_is_refused(path: str, nest: Nest) -> None:
    with pytest.raises(SchemaMismatch, match="by case only") as caught:
        evolve(columns(("c", nest(pa.field("zip", LONG)))), columns(("c", nest(pa.field("Zip", LONG)))), WHERE)
    assert f"  {path}Zip" in caught.value.message
    with pytest.raises(SchemaMismatch, match="by case only"):
        evolve(columns(("zip", LONG)), columns(("ZIP", LONG)), WHERE)


def test_everything_that_is_refused_is_said_at_once() -> None:
    current = columns(("a", LONG), ("s", pa.struct([("x", pa.decimal128(5, 2)), ("fine", pa.int32())])), ("m", pa.bool_()))
    incoming = columns(("m", pa.string()), ("s", pa.struct([("x", pa.decimal128(5, 3)), ("fine", LONG)])), ("A", LONG))
    with pytest.raises(SchemaMismatch) as caught:
        evolve(current, incoming, WHERE)
    assert caught.value.message == (
        "table bronze.flights cannot evolve to hold these rows:\n"
        "  column  in the table      in the rows\n"
        "  s.x     decimal128(5, 2)  decimal128(5, 3)  a decimal's scale cannot change\n"
        "  m       bool              string            another type\n"
        "  A       a int64           A int64           the names differ by case only"
    )


def test_what_a_declaration_says_otherwise_is_left_over() -> None:
    table = columns(("a", LONG), ("s", pa.struct([("x", LONG), ("y", LONG)])))
    assert left_over(columns(("s", pa.struct([("y", LONG), ("x", LONG)])), ("a", LONG)), table) is None
    assert left_over(columns(("a", pa.int32())), table) == (
        "  a: declared int32, in the table int64\n  s: declared nothing, in the table struct<x: int64, y: int64>"
    )
