"""Conditions of expectations: what they are as SQL, and which rows violate them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakeflow.errors import UnknownName, UsageError
from lakeflow.expect import InRange, NotNull, OneOf, References, RowKind
from lakeflow.sql.conditions import check_condition, condition_of, read_condition, violating
from lakeflow.sql.execute import Limits
from lakeflow.sql.relations import ArrowRelation

LIMITS = Limits(threads=1, in_order=True)
NOON = datetime(2013, 1, 1, 12, tzinfo=UTC)
KNOWN = pa.table({"code": ["AA", None, "UA"]})


def violated(kind: RowKind | str, values: list[Any], arrow: pa.DataType, name: str = "x") -> list[bool]:
    """For each value, whether a row that holds it violates."""
    condition = kind if isinstance(kind, str) else condition_of(kind)
    relations = {"dim.known": ArrowRelation(KNOWN.schema, lambda: KNOWN.to_reader())}
    [mask] = violating(pa.table({name: pa.array(values, arrow)}), [condition], relations, LIMITS)
    found: list[bool] = mask.to_pylist()
    return found


@pytest.mark.parametrize(
    ("kind", "values", "arrow", "expected"),
    [
        (NotNull("x"), [1, None], pa.int64(), [False, True]),
        (InRange("x", 0, 2), [-1, 0, 2, 3, None], pa.int32(), [True, False, False, True, False]),
        (InRange("x", None, 2.5), [2.5, 2.6, float("nan")], pa.float64(), [False, True, True]),
        (InRange("x", Decimal("0.1"), None), [Decimal("0.10"), Decimal("0.09")], pa.decimal128(5, 2), [False, True]),
        (InRange("x", NOON, None), [NOON, datetime(2013, 1, 1, tzinfo=UTC)], pa.timestamp("us", "UTC"), [False, True]),
        (InRange("x", None, datetime(2013, 1, 1)), [datetime(2013, 1, 2)], pa.timestamp("us"), [True]),
        (InRange("x", date(2013, 1, 2), None), [date(2013, 1, 1), date(2013, 1, 2)], pa.date32(), [True, False]),
        (OneOf("x", ("it's", "b")), ["it's", "a", None], pa.string(), [False, True, False]),
        (OneOf("x", (True,)), [True, False], pa.bool_(), [False, True]),
        (References("x", "dim.known", "code"), ["AA", "ZZ", None, "UA"], pa.string(), [False, True, False, False]),
        ("x > 0 -- positive", [1, -1, None], pa.int64(), [False, True, False]),
    ],
)
def test_a_row_violates_what_is_false_of_it(
    kind: RowKind | str, values: list[Any], arrow: pa.DataType, expected: list[bool]
) -> None:
    assert violated(kind, values, arrow) == expected


def test_a_name_of_any_kind_is_a_column() -> None:
    assert violated(NotNull('a "b" c'), [None], pa.int64(), 'a "b" c') == [True]


def test_violations_stand_where_their_rows_do() -> None:
    values = [value % 7 for value in range(300_000)]
    assert violated(References("x", "dim.known", "code"), [None] * 3, pa.string()) == [False] * 3
    assert violated("x <> 3", values, pa.int64()) == [value == 3 for value in values]


@pytest.mark.parametrize(
    ("text", "of_table"),
    [("a > 0", False), ("count(*) > 0 AND max(a) < 3", True), ("quantile_cont(a, 0.5) < 3", True), ("abs(a) > 1", False)],
)
def test_a_condition_of_aggregates_is_of_the_table(text: str, of_table: bool) -> None:
    assert read_condition(text).of_table is of_table


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a >=", "syntax error"),
        ("a > 1; SELECT 1", "this is no condition"),
        ("a > 0) OR (true", "line 1:6: syntax error"),
        ("SELECT 1", "this is no condition"),
        ("DROP TABLE a", "this is no condition"),
        ("a AS b", "this is no condition"),
        ("a IN (SELECT b FROM c.d)", "holds no query"),
        ("sum(a) OVER () > 1", "no window"),
        ("getenv('HOME') = 'a'", "function 'getenv' is not allowed"),
    ],
)
def test_what_is_no_condition_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_condition(text)
    assert said in str(caught.value)


def test_a_condition_of_a_file_is_pointed_at_there() -> None:
    with pytest.raises(UsageError) as caught:
        read_condition("a >", "\n\n   a >", Path("tables/a.sql"))
    assert str(caught.value).startswith("tables/a.sql:3:")


def test_an_unknown_column_is_told_before_rows_come() -> None:
    with pytest.raises(UnknownName) as caught:
        check_condition("delai > 0", pa.schema([("delay", pa.int64()), ("id", pa.int64())]))
    assert str(caught.value) == "unknown column 'delai'; did you mean 'delay'? valid: delay, id"


def test_a_comparison_that_makes_no_sense_is_told_before_rows_come() -> None:
    with pytest.raises(UsageError, match="Cannot compare"):
        check_condition("carrier > 1.5", pa.schema([("carrier", pa.string())]))
