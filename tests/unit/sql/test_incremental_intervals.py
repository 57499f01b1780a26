"""Joins within a bound: which are found in a query, how a bound may be spelt, and what is refused."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from lakeflow.sql.incremental import Shape, shape_of
from lakeflow.within import How, Within

MINUTE = timedelta(minutes=1)
PAIR = "SELECT a.k, a.ts, b.v FROM s.a {kept} JOIN s.b ON a.k = b.j AND {bound}"
TIMES = ("ts", "at")


def bound_of(bound: str, kept: str = "") -> tuple[int, int]:
    """Before and after, in minutes."""
    shape = shape_of(PAIR.format(bound=bound, kept=kept))
    assert shape.obstacle is None
    assert shape.joined is not None
    assert (shape.joined.within.left_time, shape.joined.within.right_time) == TIMES
    return shape.joined.within.before // 60_000_000, shape.joined.within.after // 60_000_000


@pytest.mark.parametrize(
    ("bound", "wanted"),
    [
        ("b.at BETWEEN a.ts - INTERVAL '60' MINUTE AND a.ts + INTERVAL '10' MINUTE", (60, 10)),
        ("a.ts BETWEEN b.at - INTERVAL '10' MINUTE AND b.at + INTERVAL '1' HOUR", (60, 10)),
        ("b.at >= a.ts - INTERVAL '1' HOUR AND b.at < a.ts + INTERVAL '10' MINUTE", (60, 10)),
        ("(a.ts <= b.at + INTERVAL '1' HOUR) AND (a.ts + INTERVAL '10' MINUTE > b.at)", (60, 10)),
        ("b.at - a.ts <= INTERVAL 10 MINUTE AND b.at - a.ts >= -INTERVAL '1' HOUR", (60, 10)),
        ("b.at - a.ts BETWEEN INTERVAL '-60' MINUTES AND INTERVAL '600 seconds'", (60, 10)),
        ("b.at BETWEEN a.ts - INTERVAL '2' HOUR AND a.ts + INTERVAL '10' MINUTE AND a.ts < b.at + INTERVAL '1' HOUR", (60, 10)),
        ("b.at BETWEEN a.ts + INTERVAL '1' HOUR AND a.ts + INTERVAL '2' HOUR", (-60, 120)),
        ("b.at BETWEEN a.ts - INTERVAL '1' HOUR AND a.ts - INTERVAL '30' MINUTE", (60, -30)),
        ("b.at = a.ts + INTERVAL '5' MINUTE", (-5, 5)),
        ("b.at BETWEEN a.ts AND a.ts + INTERVAL '1' DAY - INTERVAL '1' HOUR AND a.v > b.v AND a.v < 7", (0, 1380)),
    ],
)
def test_a_bound_may_be_spelt_in_many_ways(bound: str, wanted: tuple[int, int]) -> None:
    assert bound_of(bound) == wanted


def joined(text: str) -> tuple[tuple[str, ...], Within]:
    shape = shape_of(text)
    assert shape.obstacle is None, shape.obstacle
    assert shape.joined is not None
    assert not shape.is_ordered
    return shape.moving, shape.joined.within


def test_conditions_of_an_inner_join_may_stand_in_where_and_names_in_using() -> None:
    moving, within = joined(
        "SELECT a.k FROM s.a, s.b WHERE a.k = b.j AND b.at BETWEEN a.ts - INTERVAL '1' MINUTE AND a.ts AND a.v = b.v"
    )
    assert moving == ("s.a", "s.b")
    assert within == Within(left_on=["k", "v"], right_on=["j", "v"], times=TIMES, before=MINUTE)
    _, within = joined("SELECT k FROM s.a JOIN s.b USING (k, v) WHERE b.at BETWEEN a.ts AND a.ts + INTERVAL '1' MINUTE")
    assert within == Within(["k", "v"], times=TIMES, after=MINUTE)


def test_columns_are_followed_through_subqueries_and_models() -> None:
    moving, within = joined(
        """WITH late AS (SELECT *, ts AS moment FROM s.a WHERE v > 1), named(x) AS (SELECT 1)
        SELECT l.k, p.tb FROM ML_PREDICT(TABLE late, MODEL m, DESCRIPTOR(v)) AS l
        JOIN (SELECT j AS kb, at AS tb FROM s.b) AS p ON l.K = p.kb AND p.tb BETWEEN l.moment AND l.moment + INTERVAL '1' MINUTE
        JOIN s.a FOR SYSTEM_TIME AS OF PROCTIME() AS z ON z.k = p.kb"""
    )
    assert moving == ("s.a", "s.b")
    assert within == Within(left_on="k", right_on="j", times=TIMES, after=MINUTE)


KEEPING = "b.at BETWEEN a.ts AND a.ts + INTERVAL '1' MINUTE"


@pytest.mark.parametrize(
    ("query", "moving", "outputs"),
    [
        (f"SELECT a.k AS key, a.ts, b.v FROM s.a LEFT JOIN s.b ON a.k = b.j AND {KEEPING}", ("s.a", "s.b"), ("key", "ts")),
        (f"SELECT * FROM s.a LEFT JOIN s.b ON a.k = b.j AND {KEEPING}", ("s.a", "s.b"), ("k", "ts")),
        (f"SELECT a.*, b.v FROM s.a LEFT JOIN s.b ON a.k = b.j AND {KEEPING}", ("s.a", "s.b"), ("k", "ts")),
        (
            f"SELECT j, at, w FROM (SELECT b.j, b.at, a.v AS w FROM s.a RIGHT JOIN s.b ON a.k = b.j AND {KEEPING}) AS q",
            ("s.b", "s.a"),
            ("j", "at"),
        ),
        (
            "SELECT * FROM ML_PREDICT(TABLE (SELECT a.ts, a.k, b.v FROM s.a LEFT JOIN s.b ON a.k = b.j AND "
            f"{KEEPING}), MODEL m, DESCRIPTOR(v))",
            ("s.a", "s.b"),
            ("k", "ts"),
        ),
    ],
)
def test_the_table_whose_rows_stay_comes_first_and_its_rows_are_told(
    query: str, moving: tuple[str, ...], outputs: tuple[str, ...]
) -> None:
    found, within = joined(query)
    assert (found, within.how, within.outputs) == (moving, How.LEFT, outputs)


def obstacle(query: str) -> str:
    shape: Shape = shape_of(query)
    assert shape.joined is None
    assert shape.obstacle is not None
    return shape.obstacle


BOUND = "b.at BETWEEN a.ts AND a.ts + INTERVAL '1' MINUTE"
ON = f"a.k = b.j AND {BOUND}"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (f"SELECT a.k FROM s.a JOIN s.b ON {BOUND}", "s.b is joined to s.a by no equality of columns; .* ON a.key = b.key AND"),
        ("SELECT a.k FROM s.a JOIN s.b ON a.k = b.j", "s.b is a second table beside s.a: .* needs an equality and a bound"),
        ("SELECT a.k FROM s.a JOIN s.b ON a.k = b.j AND a.ts = b.at", "s.b is a second table beside s.a"),
        ("SELECT a.k FROM s.a JOIN s.b ON k = j AND at BETWEEN ts AND ts", "each column with its table's name"),
        ("SELECT a.k FROM s.a JOIN s.b ON a.k = b.j AND b.at <= a.ts", "says no earliest moment of at, counted from ts"),
        ("SELECT a.k FROM s.a JOIN s.b ON a.k = b.j AND b.at > a.ts", "says no latest moment of at, counted from ts"),
        (
            "SELECT a.k FROM s.a JOIN s.b ON a.k = b.j AND b.at BETWEEN a.ts - 5 AND a.ts",
            "is written with 5, and is of INTERVALs",
        ),
        (
            "SELECT a.k FROM s.a JOIN s.b ON a.k = b.j AND b.at BETWEEN a.ts - INTERVAL '1' MONTH AND a.ts",
            "is written with INTERVAL '1' MONTH, and is of INTERVALs of one length",
        ),
        (
            "SELECT a.k FROM s.a JOIN s.b ON a.k = b.j AND b.at BETWEEN a.ts + INTERVAL '1' HOUR AND a.ts",
            "ends before it begins, and nothing meets",
        ),
        (f"SELECT a.k FROM s.a JOIN s.b ON {ON} JOIN s.c ON c.k = a.k", "s.c is a table too many: new rows of 3 tables"),
        (f"SELECT a.k FROM s.a JOIN s.b ON {ON} UNION ALL SELECT k FROM s.a", "s.a is read twice"),
        (
            f"WITH a AS (SELECT * FROM s.a) SELECT a.k FROM a JOIN s.b ON {ON} UNION ALL SELECT k FROM a",
            "a is read twice, and a join within a bound reads each table once",
        ),
        (
            f"SELECT a.k, a.ts, count(*) FROM s.a LEFT JOIN s.b ON {ON} GROUP BY 1, 2",
            "GROUP BY needs rows .*over JOIN groups and ranks",
        ),
        (f"SELECT a.k, median(b.v) FROM s.a JOIN s.b ON {ON} GROUP BY 1", "MEDIAN cannot be put together from parts"),
        (f"SELECT a.k FROM s.a JOIN s.b ON {ON} LIMIT 1", "LIMIT needs rows that came before"),
        (f"SELECT a.k FROM s.a FULL JOIN s.b ON {ON}", "FULL JOIN of two tables that both bring new rows"),
        (f"SELECT a.k FROM s.a SEMI JOIN s.b ON {ON}", "SEMI JOIN of two tables that both bring new rows"),
        (f"SELECT a.k FROM s.a, LATERAL (SELECT * FROM s.b WHERE {ON}) AS q", "s.b is a second table beside s.a"),
        (f"SELECT a.k FROM s.a LEFT JOIN s.b ON a.k = b.j WHERE {BOUND}", "s.b is a second table beside s.a"),
        (f"SELECT a.k, b.v FROM s.a LEFT JOIN s.b ON {ON}", "found again by ts, which SELECT does not give"),
        (f"SELECT a.k + 1 AS k, a.ts FROM s.a LEFT JOIN s.b ON {ON}", "found again by k, which SELECT does not give"),
        (f"SELECT b.*, a.k, a.ts FROM s.a LEFT JOIN s.b ON {ON}", "found again by k, .* before any \\*"),
        (f"SELECT a.* EXCLUDE (v) FROM s.a LEFT JOIN s.b ON {ON}", "found again by k"),
        (f"SELECT a.k FROM s.a AS a(k, ts) JOIN s.b ON {ON}", "a second table"),
    ],
)
def test_what_is_no_join_within_a_bound_is_refused(query: str, message: str) -> None:

    assert re.search(message, obstacle(query), re.DOTALL), obstacle(query)


@pytest.mark.parametrize(
    "query",
    [
        f"SELECT a.k, count(*) FROM s.a JOIN s.b ON {ON} GROUP BY 1",
        f"SELECT DISTINCT a.k, b.v FROM s.a JOIN s.b ON {ON}",
        f"SELECT k, v FROM (SELECT a.k, b.v, row_number() OVER (PARTITION BY a.k ORDER BY b.v) AS n FROM s.a JOIN s.b ON {ON}) "
        "WHERE n = 1",
    ],
)
def test_groups_and_ranks_of_pairs_go_on_by_key(query: str) -> None:
    shape = shape_of(query)
    assert shape.obstacle is None
    assert shape.is_keyed
    assert shape.joined is not None
    assert shape.moving == ("s.a", "s.b")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT x.k, count(*) FROM s.a AS x JOIN s.a AS y ON x.k = y.k GROUP BY 1",
        "WITH c AS (SELECT * FROM s.a) SELECT x.k, count(*) FROM c AS x JOIN s.a AS y ON x.k = y.k GROUP BY 1",
    ],
)
def test_groups_over_a_join_of_a_table_with_itself_are_refused(query: str) -> None:
    assert "a join of a table with itself" in obstacle(query)


def test_a_bound_is_of_the_pair_of_times_that_has_both_ends() -> None:
    """Rows of validity: each end is bound by another column, so that no time is bound on both sides."""
    assert "says no" in obstacle("SELECT a.k FROM s.a JOIN s.b ON a.k = b.k AND b.at >= a.since AND b.at < a.until")
