"""Which queries run over new rows alone, and what is said of those that do not."""

from __future__ import annotations

import pytest

from lakeflow.errors import UsageError
from lakeflow.sql.incremental import shape_of

STILL = "s.c FOR SYSTEM_TIME AS OF PROCTIME() AS c"


@pytest.mark.parametrize(
    "query",
    [
        "SELECT a, upper(b) AS b FROM s.o WHERE a > 1",
        "FROM s.o",
        f"SELECT o.a, c.n FROM s.o AS o JOIN {STILL} ON o.a = c.a",
        "SELECT o.a, c.n FROM s.o o LEFT JOIN s.c FOR SYSTEM_TIME AS OF o.proc_time AS c ON o.a = c.a",
        f"SELECT o.a FROM {STILL} JOIN s.o o ON o.a = c.a",
        f"SELECT o.a FROM {STILL} RIGHT JOIN s.o o ON o.a = c.a",
        "SELECT a, c.b FROM s.o, s.c FOR VERSION AS OF 'tag' AS c",
        f"SELECT * FROM (s.o JOIN {STILL} ON true)",
        "SELECT a, u.x FROM s.o CROSS JOIN UNNEST(xs) AS u(x)",
        "SELECT a, unnest(xs) FROM s.o",
        "SELECT a FROM s.o UNION ALL SELECT b FROM s.o WHERE b > 2",
        "WITH x AS (SELECT a FROM s.o) SELECT a FROM x WHERE a > 2",
        f"WITH x AS (SELECT a, max(n) AS n FROM {STILL} GROUP BY a) SELECT o.a, x.n FROM s.o o JOIN x ON x.a = o.a",
        f"SELECT a, (SELECT max(n) FROM {STILL} WHERE c.a = o.a) FROM s.o o",
        f"SELECT a FROM s.o WHERE a IN (SELECT a FROM {STILL})",
        f"SELECT a FROM s.o WHERE a NOT IN (SELECT a FROM {STILL} ORDER BY a LIMIT 3)",
        "SELECT a, (SELECT sum(x) FROM UNNEST(o.xs) AS u(x)) FROM s.o o",
        "SELECT len(list_filter(xs, x -> x > 1)), greatest(a, b), list_sum(xs) FROM s.o",
        "SELECT * FROM ML_PREDICT(TABLE s.o, MODEL m, DESCRIPTOR(a)) WHERE p > 1",
        "SELECT * FROM ML_PREDICT(TABLE (SELECT a FROM s.o WHERE a > 1), MODEL m, DESCRIPTOR(a))",
        "SELECT a, p FROM s.o, LATERAL TABLE(ML_PREDICT('m$2', a))",
        "SELECT CASE WHEN p > 0.5 THEN AI_COMPLETE('m', b) ELSE 'x' END FROM s.o",
        "SELECT q.a, h.id FROM s.q AS q, LATERAL TABLE(VECTOR_SEARCH(TABLE s.d, DESCRIPTOR(v), q.v, 3)) AS h",
        "SELECT q.a, d.t FROM s.q q, LATERAL (SELECT string_agg(h.b, ' ' ORDER BY h.score) AS t "
        "FROM LATERAL TABLE(VECTOR_SEARCH(TABLE s.d, DESCRIPTOR(v), q.v, 3)) AS h) AS d",
        "SELECT * FROM TUMBLE(TABLE s.o, DESCRIPTOR(ts), INTERVAL '1' HOUR)",
    ],
)
def test_what_runs_over_new_rows_alone(query: str) -> None:
    assert shape_of(query).obstacle is None


@pytest.mark.parametrize(
    ("query", "what", "underlined"),
    [
        ("SELECT a, count(*) FROM s.o GROUP BY a ORDER BY a", "ORDER BY", "a"),
        ("SELECT histogram(a) FROM s.o", "HISTOGRAM cannot be put together from parts", "histogram(a"),
        ("SELECT a FROM s.o HAVING count(*) > 1", "column 'a' beside groups", "a"),
        ("SELECT DISTINCT ON (a) a, b FROM s.o", "DISTINCT", "a"),
        ("SELECT a FROM s.o ORDER BY a", "ORDER BY", "a"),
        ("SELECT a FROM s.o LIMIT 3", "LIMIT", "LIMIT"),
        ("SELECT a FROM s.o OFFSET 3", "OFFSET", "OFFSET"),
        ("SELECT a FROM (SELECT a FROM s.o LIMIT 2)", "LIMIT", "LIMIT"),
        ("SELECT row_number() OVER (PARTITION BY b) FROM s.o", "a window function", "b"),
        ("SELECT a FROM s.o QUALIFY row_number() OVER () = 1", "a rank without ORDER BY", "S"),
        ("SELECT a FROM s.o UNION SELECT b FROM s.o", "UNION without ALL", "b FROM s.o"),
        ("SELECT a FROM s.o EXCEPT SELECT b FROM s.o", "EXCEPT", "b FROM s.o"),
        ("SELECT a FROM s.o INTERSECT SELECT b FROM s.o", "INTERSECT", "b FROM s.o"),
        (f"SELECT a FROM s.o UNION ALL SELECT a FROM {STILL}", "a branch of UNION ALL that reads no new rows", "a FROM s.c"),
        ("SELECT o.a FROM s.o o JOIN s.c c ON o.a = c.a", "s.c is a second table beside s.o", "s.c"),
        ("SELECT a FROM s.o UNION SELECT b FROM s.p", "s.p is a second table beside s.o", "s.p"),
        ("SELECT a FROM s.o WHERE a IN (SELECT b FROM s.p)", "s.p is a second table beside s.o", "s.p"),
        ("SELECT x.a FROM s.o x JOIN s.o y ON x.a = y.a", "a join of a table with itself", "s.o y"),
        ("SELECT o.a FROM s.o o RIGHT JOIN s.c FOR SYSTEM_TIME AS OF PROCTIME() AS c ON o.a = c.a", "RIGHT JOIN", "s.c"),
        (f"SELECT o.a FROM s.o o FULL JOIN {STILL} ON o.a = c.a", "FULL JOIN", "s.c"),
        (f"SELECT c.a FROM {STILL} LEFT JOIN s.o o ON o.a = c.a", "LEFT JOIN", "s.o o"),
        (f"SELECT c.a FROM {STILL} ANTI JOIN s.o o ON o.a = c.a", "ANTI JOIN", "s.o o"),
        ("SELECT a FROM s.o WHERE a IN (SELECT a FROM s.o)", "a subquery over the table's rows", "a FROM s.o"),
        ("SELECT a FROM s.o o WHERE EXISTS (SELECT 1 FROM s.o z)", "a subquery over the table's rows", "s.o z"),
        ("SELECT o.a FROM s.o, (VALUES ((SELECT a FROM s.o))) AS v(m)", "a subquery over the table's rows", "a FROM s.o"),
        ("SELECT o.a FROM s.o, range((SELECT a FROM s.o)) AS r", "a subquery over the table's rows", "a FROM s.o"),
        ("SELECT o.a FROM s.o, UNNEST((SELECT a FROM s.o)) AS r", "a subquery over the table's rows", "a FROM s.o"),
        (
            "SELECT h.a FROM s.o, LATERAL TABLE(VECTOR_SEARCH(TABLE s.d, DESCRIPTOR(v), (SELECT a FROM s.o), 3)) AS h",
            "a subquery over the table's rows",
            "a FROM s.o",
        ),
        (f"SELECT a FROM {STILL} WHERE a IN (SELECT a FROM s.o)", "a subquery over the table's rows", "a FROM s.o"),
        ("WITH x AS (SELECT a, count(*) n FROM s.o GROUP BY a) SELECT a, n FROM x", "GROUP BY", "a"),
        ("SELECT * FROM ML_PREDICT(TABLE (SELECT sum(b) b FROM s.o), MODEL m, DESCRIPTOR(b))", "the aggregate SUM", "sum(b"),
        ("SELECT (SELECT sum(o.b)) FROM s.o o", "the aggregate SUM over columns of the query around it", "sum(o.b"),
        ("SELECT a FROM s.o TABLESAMPLE 10%", "TABLESAMPLE", "s.o"),
    ],
)
def test_what_does_not_and_where_it_stands(query: str, what: str, underlined: str) -> None:
    obstacle = shape_of(query).obstacle
    assert obstacle is not None
    message, line, carets = obstacle.splitlines()
    assert f": {what}" in message
    start = carets.index("^")
    assert line[start:].lower().startswith(underlined.lower())
    assert carets.count("^") >= len(underlined)


def test_places_are_those_of_the_file() -> None:
    obstacle = shape_of("           \n\n  SELECT a FROM s.o LIMIT 3").obstacle
    assert obstacle is not None
    assert obstacle.startswith("line 3:21: LIMIT")


def test_what_is_read_and_named() -> None:
    shape = shape_of(
        "WITH x AS (SELECT a FROM lakeflow.s.o) SELECT a, AI_COMPLETE('m', 'say'), p, c.n FROM x, "
        f"LATERAL TABLE(ML_PREDICT(MODEL late$2, a)), {STILL}, "
        "LATERAL TABLE(VECTOR_SEARCH(TABLE s.d, DESCRIPTOR(v), a, 3)) AS h"
    )
    assert shape.moving == ("s.o",)
    assert shape.still == ("s.c", "s.d")
    assert shape.texts == {"m", "say", "late$2"}


def test_what_gives_up_the_order_of_rows() -> None:
    assert shape_of("SELECT a FROM s.o").is_ordered
    assert shape_of(f"SELECT a FROM s.o JOIN {STILL} ON true WHERE a IN (SELECT 1 UNION ALL SELECT 2)").is_ordered
    assert not shape_of(f"SELECT a FROM {STILL} JOIN s.o ON true").is_ordered
    assert not shape_of("SELECT a FROM s.o UNION ALL SELECT b FROM s.o").is_ordered


def test_what_is_no_query_is_refused() -> None:
    with pytest.raises(UsageError, match="line 1:"):
        shape_of("SELECT FROM WHERE")


def test_models_whose_rows_cannot_be_left_out() -> None:
    text = (
        "SELECT AI_COMPLETE('value', a) FROM ML_PREDICT(TABLE s.o, MODEL rows_of, DESCRIPTOR(a)) AS o "
        "CROSS JOIN LATERAL TABLE(ML_PREDICT('crossed', a)) LEFT JOIN LATERAL TABLE(ML_PREDICT('kept', a)) ON true "
        "OUTER APPLY ML_PREDICT('applied', a)"
    )
    assert shape_of(text).values == {"value", "kept", "applied"}


def test_several_tables_meet_in_union_all_alone() -> None:
    shape = shape_of(
        "WITH x AS (SELECT a FROM s.o) SELECT a FROM x UNION ALL SELECT b FROM s.p UNION ALL SELECT 1 - b FROM s.p"
    )
    assert (shape.moving, shape.obstacle, shape.is_ordered) == (("s.o", "s.p"), None, False)
