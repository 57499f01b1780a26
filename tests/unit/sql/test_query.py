"""Which tables a query names, and which texts are no read-only query. DuckDB is not asked here."""

from __future__ import annotations

import logging

import pytest

from lakeflow.errors import UsageError
from lakeflow.sql.query import check_query, tables_of


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        ("SELECT 1", ()),
        ("SELECT * FROM bronze.flights", ("bronze.flights",)),
        ("FROM bronze.flights", ("bronze.flights",)),
        ("TABLE bronze.flights", ("bronze.flights",)),
        ("DESCRIBE bronze.flights", ("bronze.flights",)),
        ("SUMMARIZE bronze.flights", ("bronze.flights",)),
        ("VALUES (1)", ()),
        ('SELECT * FROM "bronze"."flights" f', ("bronze.flights",)),
        ("SELECT * FROM lakeflow.bronze.flights", ("bronze.flights",)),
        ("SELECT * FROM lakeflow.runs JOIN lakeflow.lakeflow.models USING (id)", ("lakeflow.runs", "lakeflow.models")),
        ("SELECT * FROM b.t WHERE x IN (SELECT y FROM a.t) UNION SELECT * FROM b.t", ("b.t", "a.t")),
        ("WITH t AS (SELECT * FROM a.t) SELECT * FROM t", ("a.t",)),
        ("WITH t AS (SELECT * FROM t) SELECT * FROM T", ("t",)),
        ("WITH RECURSIVE t AS (SELECT 1 UNION ALL SELECT * FROM t) FROM t", ()),
        ("WITH a AS (SELECT * FROM b), b AS (SELECT 1) FROM a", ("b",)),
        ("WITH a AS (SELECT 1), b AS (FROM a) FROM b", ()),
        ("WITH a AS (SELECT 1) SELECT * FROM ns.a", ("ns.a",)),
        ("SELECT * FROM (WITH a AS (SELECT 1) FROM a) x, a", ("a",)),
        ("FROM range(3) r, generate_series(1, 2), unnest([1])", ()),
        ("FROM 'file.parquet'", ("file.parquet",)),
        ("FROM information_schema.tables", ("information_schema.tables",)),
        ("SELECT ';' FROM a.t; -- no more", ("a.t",)),
        ("SELECT 1 /* FROM a.t; DROP TABLE b.t */", ()),
    ],
)
def test_the_tables_of_a_query(text: str, tables: tuple[str, ...]) -> None:
    assert tables_of(text) == tables


def test_the_catalogs_name_is_blanked_and_nothing_moves() -> None:
    text = "SELECT lakeflow.a.t.x, lakeflow.y FROM lakeflow . a.t"
    assert check_query(text).text == "SELECT          a.t.x, lakeflow.y FROM            a.t"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("COPY a.t TO 'x.csv'", "line 1:1: COPY is no read-only query; valid: DESC, DESCRIBE, FROM, SELECT"),
        ("EXPLAIN ANALYZE COPY a.t TO 'x.csv'", "EXPLAIN is no read-only query"),
        ("ATTACH 'x.db'", "ATTACH is no read-only query"),
        ("INSTALL httpfs", "INSTALL is no read-only query"),
        ("LOAD httpfs", "LOAD is no read-only query"),
        ("PRAGMA database_list", "PRAGMA is no read-only query"),
        ("SET threads = 8", "SET is no read-only query"),
        ("CALL pragma_version()", "CALL is no read-only query"),
        ("CREATE TABLE x (a INT)", "CREATE is no read-only query"),
        ("SELCT 1", "SELCT is no read-only query; did you mean 'SELECT'?"),
        ("SELECT 1; COPY a.t TO 'x.csv'", "line 1:9: a second statement follows; a query is one statement"),
        ("SELECT 1 /* */; /* */ DROP TABLE a.t", "a second statement follows"),
        ("/* SELECT */ DROP TABLE a.t", "DROP is no read-only query"),
        ("-- SELECT\nDROP TABLE a.t", "line 2:1: DROP is no read-only query"),
        ("WITH x AS (INSERT INTO a.t VALUES (1) RETURNING *) FROM x", "INSERT is not allowed within a read-only query"),
        ("WITH x AS (DELETE FROM a.t RETURNING *) FROM x", "DELETE is not allowed within a read-only query"),
        ("FROM read_csv('/etc/passwd')", "line 1:6: table function 'read_csv' is not allowed; valid: generate_series"),
        ("FROM read_text('/etc/passwd')", "table function 'read_text' is not allowed"),
        ("FROM read_parquet('x.parquet')", "table function 'read_parquet' is not allowed"),
        ("SELECT (SELECT count(*) FROM glob('/etc/*'))", "table function 'glob' is not allowed"),
        ("FROM query('SELECT 1')", "table function 'query' is not allowed"),
        ("WITH read_csv AS (SELECT 1) FROM read_csv('/etc/passwd')", "table function 'read_csv' is not allowed"),
        ("SELECT getenv('HOME')", "line 1:8: function 'getenv' is not allowed in a read-only query"),
        ("SELECT GetEnv('HOME')", "function 'getenv' is not allowed"),
        ("SELECT 1 WHERE write_log('x')", "function 'write_log' is not allowed"),
        ("FROM other.bronze.flights", "table 'other.bronze.flights': a table is named namespace.table or lakeflow."),
        ("FROM ns..t", "table 'ns.t': a table is named namespace.table"),
        ("SELECT 1 FROM.. ns.t", "table 'ns.t': a table is named namespace.table"),
        ("FROM a.b.c.d", "table 'a.b.c.d': a table is named namespace.table or lakeflow.namespace.table"),
        ("", "the query is empty"),
        (" ; -- nothing", "the query is empty"),
        ("SELECT 'x", "line 1:8: ' is opened and not closed"),
        ("SELECT 1 /* x", "line 1:10: a comment is opened and not closed"),
        ("SELECT 1 +", "syntax error"),
        ("SELECT " + "(" * 3000 + "1" + ")" * 3000, "the query is nested too deeply"),
    ],
)
def test_what_is_no_read_only_query_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        check_query(text)
    assert message in raised.value.message


def test_a_syntax_error_is_underlined() -> None:
    with pytest.raises(UsageError) as raised:
        check_query("SELECT a\nFROM b.t t ORDER carrier")
    assert raised.value.message.splitlines()[1:] == ["  2 | FROM b.t t ORDER carrier", "    |            ^^^^^"]


def test_a_list_of_tables_is_asked_of_the_command_for_it() -> None:
    with pytest.raises(UsageError) as raised:
        check_query("SHOW TABLES")
    assert raised.value.next_step == "lakeflow tables list"


def test_sqlglot_says_nothing_beside_the_error(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UsageError):
        check_query("WITH x AS (COPY (SELECT 1) TO 'x.csv') SELECT * FROM x")
    assert caplog.records == []
    assert logging.getLogger("sqlglot").level == logging.NOTSET
