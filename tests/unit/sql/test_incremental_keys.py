"""Which queries go on from what they keep by key, what they keep, and what is said of those that cannot."""

from __future__ import annotations

import pytest

from lakeflow.errors import UsageError
from lakeflow.sql.incremental import shape_of
from lakeflow.sql.incremental_keys import Column, Grouped
from lakeflow.sql.keyed import fingerprint, keyed_query

RANKED = "SELECT *, row_number() OVER (PARTITION BY k ORDER BY v DESC) AS rn FROM s.o"


@pytest.mark.parametrize(
    "query",
    [
        "SELECT k, count(*) FROM s.o GROUP BY k",
        "SELECT upper(k) AS k, sum(x) FILTER (WHERE y > 1) FROM s.o GROUP BY 1 HAVING max(x) > 3",
        "SELECT date_trunc('day', ts) AS day, avg(x) + 1 AS a, a * 2 FROM s.o AS o WHERE x > 1 GROUP BY day",
        "SELECT k, count(*) FROM s.o o JOIN s.c FOR SYSTEM_TIME AS OF PROCTIME() AS c ON c.k = o.k GROUP BY ALL",
        "SELECT p, count(*) FROM ML_PREDICT(TABLE s.o, MODEL m, DESCRIPTOR(a)) GROUP BY p",
        "SELECT sum(x), bit_or(y), bool_and(z), product(x), count(DISTINCT y) FROM s.o",
        "SELECT DISTINCT a, b FROM s.o",
        "SELECT AI_COMPLETE('m', k) AS said, count(*) FROM s.o GROUP BY said",
        "SELECT DISTINCT * FROM s.o",
        f"SELECT k, v FROM ({RANKED}) WHERE rn = 1",
        f"SELECT k, v FROM ({RANKED}) AS r WHERE r.rn < 3 AND v > 1",
        f"WITH r AS ({RANKED}) SELECT * FROM r WHERE 2 >= rn",
        "SELECT k, v FROM s.o QUALIFY dense_rank() OVER (PARTITION BY k ORDER BY v) <= 2",
        "SELECT v FROM s.o QUALIFY row_number() OVER (ORDER BY v) <= 10",
    ],
)
def test_what_goes_on_by_key(query: str) -> None:
    shape = shape_of(query)
    assert (shape.is_keyed, shape.obstacle) == (True, None)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT k, median(x) FROM s.o GROUP BY k", "MEDIAN cannot be put together from parts"),
        ("SELECT k, first(x) FROM s.o GROUP BY k", "FIRST depends on the order in which rows come"),
        ("SELECT k, any_value(x) FROM s.o GROUP BY k", "ANY_VALUE depends on the order in which rows come"),
        ("SELECT k, string_agg(x, ',') FROM s.o GROUP BY k", "STRING_AGG depends on the order"),
        ("SELECT k, max(x, 3) FROM s.o GROUP BY k", "MAX of 2 arguments has no parts"),
        ("SELECT k, sum(DISTINCT x) FROM s.o GROUP BY k", "SUM(DISTINCT ..) has no parts"),
        ("SELECT count(*) FROM s.o GROUP BY k", "a group by k, which is not among the selected columns"),
        ("SELECT upper(k) AS k, count(*) FROM s.o GROUP BY k", "a group by k, which is not among the selected columns"),
        ("SELECT k, count(*) FROM s.o GROUP BY CUBE (k)", "several sets of groups"),
        ("SELECT k, l, count(*) FROM s.o GROUP BY GROUPING SETS ((k), (l))", "several sets of groups"),
        ("SELECT k, count(*) FROM s.o GROUP BY k LIMIT 3", "LIMIT needs rows that came before"),
        (
            "SELECT k, sum(sum(x)) OVER (ORDER BY k) FROM s.o GROUP BY k",
            "a subquery, a window or a call of a model over groups",
        ),
        ("SELECT k, AI_COMPLETE('m', k) FROM s.o GROUP BY k", "a subquery, a window or a call of a model over groups"),
        ("SELECT k, count(*) FROM (SELECT k FROM s.o LIMIT 3) GROUP BY k", "LIMIT needs rows that came before"),
        ("SELECT DISTINCT k, count(*) FROM s.o GROUP BY k", "DISTINCT of groups"),
        ("SELECT DISTINCT ON (k) k, v FROM s.o", "DISTINCT of groups, or ON some columns,"),
        (f"SELECT v FROM ({RANKED}) WHERE rn = 1", "a rank by a key that is not among the selected columns"),
        (f"SELECT k, count(*) FROM ({RANKED}) WHERE rn = 1", "an aggregate over ranked rows"),
        (f"SELECT k FROM ({RANKED}) WHERE rn > 1", "a window function needs rows"),
        (f"SELECT k FROM ({RANKED}) WHERE rn = 1 ORDER BY k", "ORDER BY needs rows that came before"),
        ("SELECT k FROM s.o QUALIFY row_number() OVER (PARTITION BY k) = 1", "a rank without ORDER BY"),
    ],
)
def test_what_does_not_is_refused_by_name(query: str, said: str) -> None:
    shape = shape_of(query)
    assert not shape.is_keyed
    assert shape.obstacle is not None
    assert said in shape.obstacle


def test_an_aggregate_that_is_there_twice_is_kept_once() -> None:
    found = keyed_query("SELECT k, sum(x) AS s, sum(x) * 2 AS twice FROM s.o AS o GROUP BY k HAVING sum(o.x) > 1")
    assert isinstance(found, Grouped)
    assert [part.name for part in found.parts] == ["sum__1"]
    assert found.final == 'SELECT "k" AS "k", ("sum__1") AS "s", ("sum__1") * 2 AS "twice" FROM kept WHERE ("sum__1") > 1'


def test_a_mean_shares_its_parts_with_sum_and_count() -> None:
    found = keyed_query("SELECT k, avg(x) AS a, sum(x) AS s, count(x) AS n FROM s.o GROUP BY k")
    assert isinstance(found, Grouped)
    assert [part.name for part in found.parts] == ["sum__1", "count__1"]
    assert '("sum__1") AS "s", ("count__1") AS "n"' in found.final


def test_keys_are_told_by_their_places_among_the_selected_columns() -> None:
    found = keyed_query("SELECT count(*) AS n, day, upper(k) AS k FROM s.o GROUP BY 3, o.day")
    assert isinstance(found, Grouped)
    assert (found.keys, found.places) == (("k", "day"), (2, 1))


def test_equals_are_ordered_by_all_columns() -> None:
    found = keyed_query("SELECT a, k FROM s.o QUALIFY row_number() OVER (PARTITION BY k ORDER BY v DESC) = 1")
    assert found is not None
    bound = found.bound([Column(name, "BIGINT") for name in ("a", "k", "key__1", "order__1")], ["a", "k"])
    assert 'ORDER BY "order__1" DESC, "a", "k")' in bound.new
    assert 'ORDER BY "order__1" DESC, "a", "k")' in bound.merge
    assert (bound.keys, bound.places) == (("key__1",), (1,))


def test_a_fingerprint_is_of_the_query_and_not_of_its_layout() -> None:
    one = fingerprint("SELECT k, count(*) FROM s.o GROUP BY k")
    assert one == fingerprint("   select k, count(*)\nFROM s.o -- all of them\n GROUP BY k")
    assert one != fingerprint("SELECT k, count(*) FROM s.o WHERE k > 1 GROUP BY k")


def test_a_query_by_rows_is_none_of_these() -> None:
    assert keyed_query("SELECT a FROM s.o") is None
    with pytest.raises(UsageError):
        keyed_query("SELECT FROM WHERE")
