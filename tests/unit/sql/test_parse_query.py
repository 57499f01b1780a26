"""Statements that hold a query: how they are read out of files of jobs/ and out of scripts."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from lakeflow.declare import PartitionField
from lakeflow.errors import DeclarationError
from lakeflow.sql.describe import describe
from lakeflow.sql.parse import parse_declarations, parse_jobs
from lakeflow.sql.script import parse_script
from lakeflow.sql.statements import (
    CreateMaterializedTable,
    CreateTableAs,
    DropMaterializedTable,
    Explain,
    Insert,
    Query,
    ReadRows,
    RefreshMode,
    RefreshTable,
    ResetOption,
    ResumeTable,
    SetOption,
    StatementSet,
    SuspendTable,
)

ONE = Query("SELECT 1")
INSERT = Insert("a.b", ONE)
COUNTED = """CREATE MATERIALIZED TABLE gold.counted (PRIMARY KEY (city) NOT ENFORCED)
COMMENT 'how many' PARTITIONED BY (bucket(4, city), day(at)) WITH ('write.format' = 'parquet')
FRESHNESS = INTERVAL '3' MINUTE REFRESH_MODE = CONTINUOUS
AS SELECT city, at FROM bronze.t"""


def refusal(text: str) -> DeclarationError:
    with pytest.raises(DeclarationError) as raised:
        parse_jobs(text, Path("jobs/x.sql"))
    return raised.value


@pytest.mark.parametrize(
    ("text", "statement"),
    [
        ("INSERT INTO a.b SELECT 1", INSERT),
        ("insert /* all */ into lakeflow.a.b select 1", Insert("a.b", Query("select 1"))),
        ('INSERT INTO `a b`."c" (SELECT 1)', Insert("a b.c", Query("(SELECT 1)"))),
        ("INSERT INTO a.b ((SELECT 1))", Insert("a.b", Query("((SELECT 1))"))),
        ('INSERT INTO a.b (x, "y z") SELECT 1, 2', Insert("a.b", Query("SELECT 1, 2"), ("x", "y z"))),
        ("INSERT INTO a.b (x) (SELECT 1)", Insert("a.b", Query("(SELECT 1)"), ("x",))),
        ("INSERT INTO a.b (values) VALUES (1)", Insert("a.b", Query("VALUES (1)"), ("values",))),
        ("INSERT INTO a.b (select, x) SELECT 1, 2", Insert("a.b", Query("SELECT 1, 2"), ("select", "x"))),
        ("INSERT INTO a.b VALUES (1), (';')", Insert("a.b", Query("VALUES (1), (';')"))),
        ("INSERT INTO a.b WITH x AS (SELECT 1) FROM x", Insert("a.b", Query("WITH x AS (SELECT 1) FROM x"))),
        ("INSERT INTO a.b TABLE c.d", Insert("a.b", Query("TABLE c.d"))),
        ("INSERT OVERWRITE a.b SELECT 1", Insert("a.b", ONE, overwrite=True)),
        ("BEGIN STATEMENT SET; INSERT INTO a.b SELECT 1; END", StatementSet((INSERT,))),
        (
            "BEGIN STATEMENT SET;; INSERT INTO a.b SELECT CASE WHEN x THEN 1 END FROM y.z; INSERT OVERWRITE c.d SELECT 1;; END",
            StatementSet((Insert("a.b", Query("SELECT CASE WHEN x THEN 1 END FROM y.z")), Insert("c.d", ONE, overwrite=True))),
        ),
        ("EXECUTE STATEMENT SET BEGIN INSERT INTO a.b SELECT 1; END", StatementSet((INSERT,))),
        ("SET 'k' = 'v'", SetOption("k", "v")),
        ("SET", SetOption()),
        ("RESET 'k'", ResetOption("k")),
        ("RESET", ResetOption()),
    ],
)
def test_a_statement_of_a_job_is_read_whole(text: str, statement: object) -> None:
    assert parse_jobs(text) == [statement]
    assert parse_jobs(f"-- before\n;{text} ;; -- after") == [statement]
    assert parse_script(text) == [statement]


@pytest.mark.parametrize(
    ("text", "statement"),
    [
        ("EXPLAIN SELECT 1", Explain(ReadRows(ONE))),
        ("EXPLAIN PLAN FOR (SELECT 1)", Explain(ReadRows(Query("(SELECT 1)")))),
        ("EXPLAIN INSERT INTO a.b SELECT 1", Explain(INSERT)),
        ("EXPLAIN STATEMENT SET BEGIN INSERT INTO a.b SELECT 1; END", Explain(StatementSet((INSERT,)))),
        ("EXPLAIN BEGIN STATEMENT SET; INSERT INTO a.b SELECT 1; END", Explain(StatementSet((INSERT,)))),
        ("ALTER MATERIALIZED TABLE a.b SUSPEND", SuspendTable("a.b")),
        ("ALTER MATERIALIZED TABLE a.b RESUME", ResumeTable("a.b")),
        ("ALTER MATERIALIZED TABLE a.b REFRESH", RefreshTable("a.b")),
        ("DROP MATERIALIZED TABLE IF EXISTS a.b", DropMaterializedTable("a.b", if_exists=True)),
    ],
)
def test_a_statement_of_a_script_is_read_whole(text: str, statement: object) -> None:
    assert parse_script(f"{text}; {text}") == [statement, statement]


def test_a_materialized_table_is_read_with_all_its_parts() -> None:
    [statement] = parse_jobs(COUNTED)
    assert isinstance(statement, CreateMaterializedTable)
    table = statement.table
    assert (table.name, table.primary_key, table.comment) == ("gold.counted", ("city",), "how many")
    assert table.partitioning == (PartitionField("city", "bucket", 4), PartitionField("at", "day"))
    assert (table.options, table.schema.names) == ({"write.format": "parquet"}, [])
    assert (statement.freshness, statement.refresh_mode) == (timedelta(minutes=3), RefreshMode.CONTINUOUS)
    assert statement.query.text == "SELECT city, at FROM bronze.t"
    [plain] = parse_jobs("create materialized table if not exists a.b refresh_mode = full as select 1")
    assert isinstance(plain, CreateMaterializedTable)
    assert (plain.freshness, plain.refresh_mode, plain.if_not_exists) == (None, RefreshMode.FULL, True)


def test_a_table_is_made_of_a_query() -> None:
    [statement] = parse_jobs("CREATE TABLE a.b PARTITIONED BY (x) WITH ('k' = 'v') AS SELECT 1 AS x")
    assert isinstance(statement, CreateTableAs)
    assert (statement.query.text, statement.table.partitioning) == ("SELECT 1 AS x", (PartitionField("x"),))
    [explained] = parse_script("EXPLAIN CREATE TABLE a.b AS SELECT 1")
    assert isinstance(explained, Explain)
    assert isinstance(explained.statement, CreateTableAs)


@pytest.mark.parametrize(
    "text",
    [
        COUNTED,
        "CREATE TABLE IF NOT EXISTS a.b AS SELECT 1",
        "INSERT OVERWRITE a.b (x, `y z`) SELECT 1, 2",
        "BEGIN STATEMENT SET; INSERT INTO a.b SELECT 1; INSERT INTO a.c SELECT ';' -- end\n; END",
    ],
)
def test_a_statement_of_a_job_comes_back_out_of_its_text(text: str) -> None:
    [statement] = parse_jobs(text)
    assert not isinstance(statement, SetOption | ResetOption)
    assert describe(parse_jobs(describe(statement))[0]) == describe(statement)  # type: ignore[arg-type]
    assert type(parse_jobs(describe(statement))[0]) is type(statement)


def test_a_query_keeps_its_place_in_the_file() -> None:
    text = "SET 'a' = 'b';\nINSERT INTO a.b\n  SELECT x\n  FROM c.d;"
    [_, insert] = parse_jobs(text, Path("jobs/x.sql"))
    assert isinstance(insert, Insert)
    query = insert.query
    assert (query.text, text[query.offset :][:8]) == ("SELECT x\n  FROM c.d", "SELECT x")
    assert query.padded == "\n\n  SELECT x\n  FROM c.d"
    assert str(query.origin) == "jobs/x.sql:3"
    assert str(insert.origin) == "jobs/x.sql:2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("INSERT a.b SELECT 1", "jobs/x.sql:1:8: expected INTO or OVERWRITE after INSERT, found 'a'"),
        ("INSERT INTO b SELECT 1", "1:13: table 'b': a table is named namespace.table"),
        ("INSERT INTO c.a.b SELECT 1", "1:13: unknown catalog 'c'; valid: lakeflow.a.b"),
        ("INSERT INTO a.b", "expected a query after INSERT INTO a.b, found the end of the text"),
        (
            "INSERT OVERWRITE a.b SELEC 1",
            "1:22: expected a query after INSERT OVERWRITE a.b, found 'SELEC'; did you mean 'SELECT'?",
        ),
        ("INSERT INTO a.b (x, X) SELECT 1, 2", "1:21: column 'X' is written twice"),
        ("INSERT INTO a.b (x SELECT 1", "expected ')' or ',' after a column, found 'SELECT'"),
        ("INSERT INTO a.b PARTITION (x = 1) SELECT 1", "1:17: PARTITION (..) is not needed"),
        ("BEGIN; INSERT INTO a.b SELECT 1; END", "expected STATEMENT SET after BEGIN, found ';'"),
        ("BEGIN STATEMENT SET INSERT INTO a.b SELECT 1; END", "expected ';' after BEGIN STATEMENT SET, found 'INSERT'"),
        ("BEGIN STATEMENT SET; END", "a statement set holds one INSERT at the least"),
        (
            "BEGIN STATEMENT SET; INSERT INTO a.b SELECT 1;",
            "expected INSERT or END in a statement set, found the end of the text",
        ),
        ("BEGIN STATEMENT SET; INSERT INTO a.b SELECT 1; EDN", "found 'EDN'; did you mean 'END'?"),
        (
            "BEGIN STATEMENT SET;\nINSERT INTO a.b SELECT 1;\nINSERT INTO a.b SELECT 2; END",
            "x.sql:3:1: table a.b is written twice in one",
        ),
        ("EXECUTE STATEMENT SET INSERT INTO a.b SELECT 1; END", "expected EXECUTE STATEMENT SET BEGIN before the first INSERT"),
        ("CREATE MATERIALIZED VIEW a.b AS SELECT 1", "expected TABLE after CREATE MATERIALIZED, found 'VIEW'"),
        ("CREATE MATERIALIZED TABLE a.b FRESHNESS = INTERVAL '3' MINUTE", "materialized table 'a.b' has no query"),
        ("CREATE MATERIALIZED TABLE a.b FRESHNESS = '3' MINUTE AS SELECT 1", "expected INTERVAL after FRESHNESS =, found '3'"),
        ("CREATE MATERIALIZED TABLE a.b FRESHNESS = INTERVAL '0' MINUTE AS SELECT 1", "FRESHNESS of no time is no freshness"),
        ("CREATE MATERIALIZED TABLE a.b FRESHNESS = INTERVAL '3' WEEK AS SELECT 1", "unknown unit 'WEEK' of an interval"),
        ("CREATE MATERIALIZED TABLE a.b REFRESH_MODE = CONTINUOS AS SELECT 1", "'CONTINUOS'; did you mean 'CONTINUOUS'?"),
        ("CREATE MATERIALIZED TABLE a.b (x INT) AS SELECT 1", "1:32: materialized table 'a.b' has the columns of its query"),
        (
            "CREATE MATERIALIZED TABLE a.b FRESH = 1 AS SELECT 1",
            "expected COMMENT, PARTITIONED BY, WITH, FRESHNESS, REFRESH_MODE, AS",
        ),
        ("CREATE TABLE a.b (x INT) AS SELECT 1", "1:19: table 'a.b' has the columns of its query"),
        ("CREATE TABLE a.b AS", "expected a query after AS, found the end of the text"),
        ("CREATE TABLE a.b (x INT)", "CREATE TABLE without a query is no job"),
        ("CREATE MODEL m INPUT (a INT)", "x.sql:1:8: CREATE MODEL is no job; valid in jobs/: INSERT INTO"),
        ("SELECT 1", "x.sql:1:1: SELECT is no job; valid in jobs/: INSERT INTO"),
        ("INSRET INTO a.b SELECT 1", "INSRET is no job; did you mean"),
        ("SET k = 'v'", "1:5: expected an option's key in single quotes, found 'k'; valid: SET 'key' = 'value'"),
        ("SET 'k' 'v'", "expected '=' after SET 'k', found 'v'"),
        ("SET 'k' = 5", "expected the value of 'k' in single quotes, found '5'"),
        ("RESET k", "expected an option's key in single quotes"),
        ("5", "expected a statement, found '5'; valid in jobs/"),
    ],
)
def test_a_wrong_statement_of_a_job_says_what_is_wrong_and_where(text: str, message: str) -> None:
    assert message in refusal(text).message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("EXPLAIN", "expected what EXPLAIN explains, found the end of the text; valid: CREATE"),
        ("EXPLAIN CREATE TABLE a.b (x INT)", "EXPLAIN of a CREATE TABLE without a query"),
        ("EXPLAIN DROP TABLE a.b", "1:9: expected what EXPLAIN explains, found 'DROP'"),
        ("EXPLAIN STATEMENT SET INSERT INTO a.b SELECT 1; END", "expected BEGIN after EXPLAIN STATEMENT SET"),
        (
            "ALTER MATERIALIZED TABLE a.b SUSPND",
            "expected what ALTER MATERIALIZED TABLE does, found 'SUSPND'; did you mean 'SUSPEND'?",
        ),
        ("ALTER MATERIALIZED TABLE a.b RESUME WITH ('k' = 'v')", "RESUME takes no options"),
        ("ALTER MATERIALIZED TABLE a.b REFRESH PARTITION (x = 1)", "REFRESH makes the whole table anew"),
        ("ALTER MATERIALIZED TABLE a.b AS SELECT 1", "the query of a materialized table is changed in its file in jobs/"),
    ],
)
def test_a_wrong_statement_of_a_script_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(DeclarationError) as raised:
        parse_script(text)
    assert message in raised.value.message


@pytest.mark.parametrize(
    "text", ["INSERT INTO a.b SELECT 1", "BEGIN STATEMENT SET; END", "CREATE TABLE a.b AS SELECT 1", COUNTED, "SET"]
)
def test_a_file_of_declarations_sends_jobs_to_jobs(text: str) -> None:
    with pytest.raises(DeclarationError) as raised:
        parse_declarations(text, Path("tables/x.sql"))
    assert raised.value.next_step == "move the statement to a file in jobs/"


@pytest.mark.parametrize("text", ["CREATE TABLE a.b (x INT)", "CREATE MODEL m", "CREATE VECTOR INDEX i"])
def test_a_file_of_jobs_sends_declarations_to_tables(text: str) -> None:
    assert refusal(text).next_step == "move the declaration to a file in tables/"
