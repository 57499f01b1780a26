"""Queries without models, made by Hypothesis, are answered as plain DuckDB answers them: as they stand, and where the compiler
writes them anew, since a model is asked beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from lakeflow.errors import UsageError
from lakeflow.sql.compile import compile_query
from lakeflow.sql.execute import Limits, run_compiled
from lakeflow.sql.relations import ArrowRelation
from tests.sql.corpus import shown
from tests.sql.models import Asked

A = pa.table(
    {
        "id": pa.array([1, 2, 3, 4, 5, 6], pa.int32()),
        "n": pa.array([10, None, -3, 7, 10, 0], pa.int32()),
        "x": pa.array([1.5, 2.0, None, -0.5, 1.5, 8.25]),
        "s": ["ab", "b", None, "abc", "", "b"],
        "l": pa.array([[1, 2], [], None, [3], [1], [2, 2]], pa.list_(pa.int32())),
    }
)
B = pa.table(
    {"id": pa.array([1, 2, 2, 7], pa.int32()), "n": pa.array([5, 10, None, 1], pa.int32()), "s": ["b", "zz", "ab", None]}
)
TABLES = {"t.a": A, "t.b": B}

WHOLE = st.sampled_from(["{0}.id", "{0}.n", "1", "-2", "NULL::INT", "length({0}.s)", "abs({0}.n)", "{0}.n % 4", "{0}.id // 2"])
TEXT = st.sampled_from(["{0}.s", "upper({0}.s)", "'b'", "{0}.s || 'c'", "NULL::VARCHAR", "substring({0}.s, 1, 1)"])
COMPARED = st.sampled_from(["=", "<>", "<", ">=", "IS DISTINCT FROM"])


@st.composite
def numbers(draw: st.DrawFn, depth: int = 2) -> str:
    if depth == 0 or draw(st.booleans()):
        return draw(WHOLE)
    inner = numbers(depth - 1)
    match draw(st.integers(0, 5)):
        case 0:
            return f"({draw(inner)} + {draw(inner)})"
        case 1:
            return f"({draw(inner)} * {draw(inner)})"
        case 2:
            return f"COALESCE({draw(inner)}, {draw(inner)})"
        case 3:
            return f"CASE WHEN {draw(conditions(depth - 1))} THEN {draw(inner)} ELSE {draw(inner)} END"
        case 4:
            return f"NULLIF({draw(inner)}, {draw(inner)})"
        case _:
            return f"greatest({draw(inner)}, {draw(inner)})"


@st.composite
def conditions(draw: st.DrawFn, depth: int = 2) -> str:
    inner = conditions(max(depth - 1, 0))
    match draw(st.integers(0, 7 if depth else 4)):
        case 0:
            return f"{draw(numbers(depth and depth - 1))} {draw(COMPARED)} {draw(numbers(0))}"
        case 1:
            return f"{draw(TEXT)} {draw(COMPARED)} {draw(TEXT)}"
        case 2:
            return f"{draw(numbers(0))} IS {draw(st.sampled_from(['NULL', 'NOT NULL']))}"
        case 3:
            return f"{draw(numbers(0))} BETWEEN {draw(numbers(0))} AND {draw(numbers(0))}"
        case 4:
            return f"{draw(TEXT)} LIKE {draw(st.sampled_from(['%b%', '_', 'a%']))!r}"
        case 5:
            return f"({draw(inner)} AND {draw(inner)})"
        case 6:
            return f"({draw(inner)} OR {draw(inner)})"
        case _:
            return f"NOT ({draw(inner)})"


def filled(text: str, *names: str) -> str:
    """The text with one name for all the places of a table."""
    return text.format(*names)


@st.composite
def sources(draw: st.DrawFn) -> str:
    """What a query reads, with the columns id, n and s under the name r."""
    match draw(st.integers(0, 5)):
        case 0:
            return f"t.{draw(st.sampled_from('ab'))} AS r"
        case 1:
            kind = draw(st.sampled_from(["JOIN", "LEFT JOIN", "FULL JOIN", "SEMI JOIN", "ANTI JOIN"]))
            return f"(SELECT x.id, x.n, x.s FROM t.a x {kind} t.b y ON x.id = y.id AND {filled(draw(conditions(1)), 'x')}) AS r"
        case 2:
            return "(SELECT u AS id, p.n, p.s FROM t.a p, UNNEST(p.l) q(u)) AS r"
        case 3:
            on = filled(draw(conditions(1)), "p")
            below = "SELECT max(w.n) AS top FROM t.b w WHERE w.id <= p.id"
            return f"(SELECT p.id, q.top AS n, p.s FROM t.a p, LATERAL ({below}) q WHERE {on}) AS r"
        case 4:
            how = draw(st.sampled_from(["UNION", "UNION ALL", "EXCEPT", "INTERSECT"]))
            return f"(SELECT id, n, s FROM t.a {how} SELECT id, n, s FROM t.b) AS r"
        case _:
            having = draw(st.sampled_from(["count(*) > 0", "sum(n) > 0"]))
            return f"(SELECT id, sum(n)::INT AS n, max(s) AS s FROM t.a GROUP BY id HAVING {having}) AS r"


@st.composite
def queries(draw: st.DrawFn) -> str:
    """Queries whose rows, as a set with repetitions, depend on nothing but the tables."""
    source, where = draw(sources()), filled(draw(conditions()), "r")
    match draw(st.integers(0, 4)):
        case 0:
            columns = ", ".join(f"{filled(draw(numbers()), 'r')} AS c{place}" for place in range(draw(st.integers(1, 3))))
            return f"SELECT {draw(st.sampled_from(['', 'DISTINCT ']))}{columns} FROM {source} WHERE {where}"
        case 1:
            key, value = filled(draw(numbers(1)), "r"), filled(draw(numbers(1)), "r")
            told = f"count(*) AS c, sum({value}) AS total, min(r.s) AS least, count(*) FILTER (WHERE {where}) AS f"
            return f"SELECT {key} AS k, {told} FROM {source} GROUP BY k"
        case 2:
            window = f"PARTITION BY r.id % 2 ORDER BY r.id, r.n, r.s {draw(st.sampled_from(['', 'DESC']))}"
            function = draw(st.sampled_from(["rank()", "sum(r.n)", "lag(r.n)", "count(r.s)", "first_value(r.s)"]))
            frame = f"SELECT r.id, r.n, r.s, {function} OVER ({window}) AS w FROM {source} WHERE {where}"
            return f"{frame} QUALIFY rank() OVER ({window}) <= {draw(st.integers(1, 3))}"
        case 3:
            named = f"WITH r AS (SELECT * FROM {source}), k AS (SELECT id FROM r WHERE {where})"
            return f"{named} SELECT r.id, r.s FROM r WHERE r.id IN (FROM k)"
        case _:
            counted = f"SELECT count(*) FROM t.b i WHERE i.id = r.id AND {filled(draw(conditions(1)), 'i')}"
            return f"SELECT r.id, ({counted}) AS c FROM {source}"


@contextmanager
def plain() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"integer_division": True, "threads": 1}) as connection:
        connection.execute("CREATE SCHEMA t")
        for name, rows in TABLES.items():
            connection.register("rows", rows)
            connection.execute(f"CREATE TABLE {name} AS FROM rows")
        yield connection


def expected(text: str) -> list[list[object]] | None:
    """The rows of DuckDB, sorted; None where it fails: on a number that is too large, for instance."""
    with plain() as connection:
        try:
            return _sorted(connection.sql(text).to_arrow_table())
        except duckdb.Error:
            return None


def found(text: str) -> list[list[object]] | None:
    asked = Asked(TABLES)
    try:
        query = compile_query(text, asked)
        relations = {read.view: ArrowRelation(TABLES[read.name].schema, TABLES[read.name].to_reader) for read in query.reads}
        with run_compiled(query, relations, asked.functions(query), Limits(threads=1)) as reader:
            return _sorted(reader.read_all())
    except UsageError:
        return None


def _sorted(rows: pa.Table) -> list[list[object]]:
    return sorted(([shown(value) for value in row.values()] for row in rows.to_pylist()), key=repr)


@given(text=queries())
def test_a_query_is_answered_as_duckdb_answers_it(text: str) -> None:
    assert found(text) == expected(text)


@given(text=queries())
def test_a_query_beside_a_model_is_answered_as_duckdb_answers_it(text: str) -> None:
    rows = expected(text)
    beside = found(f"SELECT q.*, AI_COMPLETE('chat', 'x') AS answer FROM ({text}) AS q")
    assert beside == (None if rows is None else [[*row, "<x>"] for row in rows])


@given(text=queries())
def test_rows_come_through_a_model_as_they_are(text: str) -> None:
    """The rows of any query are those of ML_PREDICT over it, without what it adds."""
    rows = expected(text)
    given_rows = f"TABLE (SELECT *, 'x' AS asked FROM ({text}))"
    asked = f"SELECT * EXCLUDE (asked, answer) FROM ML_PREDICT({given_rows}, MODEL chat, DESCRIPTOR(asked))"
    assert found(asked) == rows
