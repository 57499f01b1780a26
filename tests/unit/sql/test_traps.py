"""What a query may never do, on every way by which text of a user reaches DuckDB: as it stands, within what a model is asked
about, and as the query of a job. Nothing is written, attached, loaded or set, and no file is read but those of the tables.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from lakeflow.errors import UsageError
from lakeflow.sql.binding import Binder
from lakeflow.sql.compile import compile_query
from lakeflow.sql.execute import Limits, run_compiled, run_query
from lakeflow.sql.relations import ArrowRelation
from lakeflow.sql.script import parse_script
from lakeflow.sql.statements import Insert
from tests.sql.models import Asked

TABLES = {"t.texts": pa.table({"id": pa.array([1, 2], pa.int32()), "text": ["a", "b"]})}
SECRET = "a secret that stands in a file of nobody's table"


def plainly(text: str) -> pa.Table:
    """`lakeflow query`, where no function of lakeflow is called."""
    return run_query(text, {name: ArrowRelation(rows.schema, rows.to_reader) for name, rows in TABLES.items()}).read_all()


def compiled(text: str) -> pa.Table:
    """`lakeflow query` and the queries of `lakeflow sql`."""
    asked = Asked(TABLES)
    query = compile_query(text, asked)
    relations = {read.view: ArrowRelation(TABLES[read.name].schema, TABLES[read.name].to_reader) for read in query.reads}
    with run_compiled(query, relations, asked.functions(query), Limits(threads=1)) as reader:
        return reader.read_all()


def beside_a_model(text: str) -> pa.Table:
    """In a subquery beside a call, which makes the compiler write the whole query anew."""
    return compiled(f"SELECT AI_COMPLETE('chat', 'x') AS answer, (SELECT count(*) FROM ({text}) AS inner_rows) AS n")


def as_input(text: str) -> pa.Table:
    """As the rows that a model is asked about."""
    return compiled(f"SELECT * FROM ML_PREDICT(TABLE (SELECT 'x' AS asked FROM ({text}) AS i), MODEL chat, DESCRIPTOR(asked))")


def as_argument(text: str) -> pa.Table:
    """As what a model is asked."""
    return compiled(f"SELECT AI_COMPLETE('chat', CAST((SELECT max(i) FROM ({text}) AS i) AS VARCHAR))")


def as_lateral(text: str) -> pa.Table:
    """Behind LATERAL, within VALUES of the outer row."""
    rows = f"TABLE (SELECT o.text AS v FROM ({text}) AS i)"
    return compiled(f"SELECT * FROM t.texts o CROSS APPLY ML_PREDICT({rows}, MODEL chat, DESCRIPTOR(v))")


def of_a_job(text: str) -> pa.Table:
    """As the query of INSERT INTO."""
    [insert] = parse_script(f"INSERT INTO gold.t {text}")
    assert isinstance(insert, Insert)
    return compiled(insert.query.text)


WAYS = (plainly, compiled, beside_a_model, as_input, as_argument, as_lateral, of_a_job)

WRITING = (
    "COPY (SELECT 1) TO '{path}'",
    "COPY t.texts TO '{path}' (FORMAT parquet)",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{path}'",
    "EXPLAIN COPY (SELECT 1) TO '{path}'",
    "WITH x AS (COPY (SELECT 1) TO '{path}') SELECT * FROM x",
    "WITH x AS MATERIALIZED (COPY (SELECT 1) TO '{path}') SELECT * FROM x",
    "FROM (COPY (SELECT 1) TO '{path}')",
    "SELECT 1; COPY (SELECT 1) TO '{path}'",
    "SELECT 1 -- \n; COPY (SELECT 1) TO '{path}'",
    "SELECT 1 /* /* */ ; COPY (SELECT 1) TO '{path}' -- */ */",
    "SELECT 'a\\' ; COPY (SELECT 1) TO '{path}' -- '",
    "SELECT $$a$$; COPY (SELECT 1) TO '{path}'",
    "ATTACH '{path}'",
    "ATTACH '{path}' AS d; SELECT 1",
    "EXPORT DATABASE '{path}'",
    "CREATE TABLE made AS SELECT 1",
    "SELECT 1 INTO made",
    "WITH x AS (INSERT INTO t.texts VALUES (3, 'c') RETURNING *) SELECT * FROM x",
    "WITH x AS (DELETE FROM t.texts RETURNING *) SELECT * FROM x",
    "WITH x AS (UPDATE t.texts SET id = 1 RETURNING *) SELECT * FROM x",
    "MERGE INTO t.texts USING t.texts o ON TRUE WHEN MATCHED THEN DELETE",
    "DROP TABLE t.texts",
    "VACUUM",
    "CHECKPOINT",
)
HIDDEN = (
    "SELECT E'a\\' ; COPY (SELECT 1) TO ''{path}'' -- '",
    "SELECT 1 {{# ; COPY (SELECT 1) TO '{path}' #}}",
    "SELECT 1 AS `x\" ; COPY (SELECT 1) TO '{path}' -- `",
    "SELECT $$ ; COPY (SELECT 1) TO '{path}' -- $$",
    "SELECT 1 AS \"; COPY (SELECT 1) TO '{path}' --\"",
)
"""Texts in which one reader of SQL might find a second statement, and another none."""

READING = (
    "SELECT * FROM read_csv('{other}')",
    "SELECT * FROM READ_CSV_AUTO('{other}')",
    "SELECT * FROM \"read_text\"('{other}')",
    "SELECT * FROM read_blob('{other}')",
    "SELECT * FROM read_json('{other}')",
    "SELECT * FROM read_parquet('{other}')",
    "SELECT * FROM parquet_metadata('{other}')",
    "SELECT * FROM sniff_csv('{other}')",
    "SELECT * FROM read_duckdb('{other}')",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM '{other}'",
    'SELECT * FROM "{other}"',
    "SELECT * FROM LATERAL read_text('{other}')",
    "SELECT * FROM t.texts, LATERAL read_text('{other}') r",
    "SELECT * FROM t.texts LEFT JOIN LATERAL glob('{folder}/*') ON TRUE",
    "SELECT * FROM t.texts, LATERAL TABLE(read_text('{other}'))",
    "SELECT * FROM TABLE(read_text('{other}'))",
    "SELECT * FROM t.texts CROSS APPLY read_text('{other}')",
    "SELECT * FROM t.texts WHERE id IN (SELECT size FROM read_blob('{other}'))",
    "SELECT (SELECT max(content) FROM read_text('{other}')) AS x",
    "WITH read_text AS (SELECT 1) SELECT * FROM read_text('{other}')",
    "WITH RECURSIVE r AS (SELECT content FROM read_text('{other}') UNION SELECT content FROM r) SELECT * FROM r",
    "SELECT * FROM query('FROM read_text(''{other}'')')",
    "SELECT * FROM query_table('{other}')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('FROM read_text(''{other}'')'))",
    "SELECT * FROM 's3://bucket/file.parquet'",
    "SELECT * FROM 'https://example.org/file.csv'",
    "SELECT * FROM TABLES_OF_PYTHON",
    "SELECT * FROM SECRET",
)
SETTING = (
    "INSTALL httpfs",
    "LOAD httpfs",
    "PRAGMA database_list",
    "PRAGMA memory_limit = '1TB'",
    "SET threads = 1",
    "SET GLOBAL lock_configuration = false",
    "RESET lock_configuration",
    "CALL pragma_version()",
    "USE memory",
    "DETACH memory",
    "BEGIN TRANSACTION",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "SET VARIABLE x = 1",
    "CREATE SECRET s (TYPE s3)",
    "SELECT getenv('HOME') AS x",
    "SELECT GetEnv('HOME') AS x",
    "SELECT \"getenv\"('HOME') AS x",
    "SELECT main.getenv('HOME') AS x",
    "SELECT system.main.current_setting('temp_directory') AS x",
    "SELECT current_setting('temp_directory') AS x",
    "SELECT write_log('x') AS x",
    "SELECT sleep_ms(100000) AS x",
    "SELECT nextval('s') AS x",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_settings",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM pg_catalog.pg_settings",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM sqlite_master",
    "SELECT * FROM enable_logging()",
    "SELECT * FROM checkpoint()",
)


@pytest.mark.parametrize("text", [*WRITING, *READING, *SETTING])
@pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])
def test_nothing_but_tables_is_read_and_nothing_is_written(way: Callable[[str], pa.Table], text: str, tmp_path: Path) -> None:
    path, other = tmp_path / "written", tmp_path / "other.csv"
    other.write_text(f"content\n{SECRET}\n")
    with pytest.raises(UsageError) as raised:
        way(text.format(path=path, other=other, folder=tmp_path))
    assert SECRET not in str(raised.value)
    assert sorted(tmp_path.iterdir()) == [other]


@pytest.mark.parametrize("text", HIDDEN)
@pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])
def test_what_hides_in_quotes_and_comments_never_runs(way: Callable[[str], pa.Table], text: str, tmp_path: Path) -> None:
    with suppress(UsageError):
        way(text.format(path=tmp_path / "written"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("way", WAYS, ids=[way.__name__ for way in WAYS])
def test_a_query_that_only_reads_is_let_through(way: Callable[[str], pa.Table]) -> None:
    """So that the traps above are refused for what they do, and not for where they stand."""
    assert way("SELECT id, text FROM t.texts WHERE id = 1").num_rows > 0


TEXTS = (
    "it's",
    "'); COPY (SELECT 1) TO '/tmp/x'; --",
    '"; DROP TABLE t.texts; --',
    "$$; SELECT 1; $$",
    "x' OR '1'='1",
    "{{ secret.KEY }} ${HOME}",
    "\\'; --",
    "a\x00b",
    "\ud7ff\u202e🙂",
)


@pytest.mark.parametrize("text", TEXTS)
def test_values_of_rows_reach_a_model_as_they_are(text: str) -> None:
    rows = {"t.texts": pa.table({"id": pa.array([1], pa.int32()), "text": [text]})}
    asked = Asked(rows)
    query = compile_query("SELECT text, answer FROM ML_PREDICT(TABLE t.texts, MODEL chat, DESCRIPTOR(text))", asked)
    relations = {"t.texts": ArrowRelation(rows["t.texts"].schema, rows["t.texts"].to_reader)}
    with run_compiled(query, relations, asked.functions(query), Limits(threads=1)) as reader:
        assert reader.read_all().to_pylist() == [{"text": text, "answer": f"<{text}>"}]


@pytest.mark.parametrize("name", [text for text in TEXTS if "\x00" not in text])
def test_names_of_columns_and_tables_never_become_sql(name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    rows = {f"t.{name}": pa.table({name: ["a"]})} if "." not in name else {"t.x": pa.table({name: ["a"]})}
    [table] = rows
    shown = '"t".' + '"' + table[2:].replace('"', '""') + '"'
    asked = Asked(rows)
    text = f"SELECT {quoted} AS given, answer FROM ML_PREDICT(TABLE {shown}, MODEL chat, DESCRIPTOR({quoted}))"
    query = compile_query(text, asked)
    relations = {table: ArrowRelation(rows[table].schema, rows[table].to_reader)}
    with run_compiled(query, relations, asked.functions(query), Limits(threads=1)) as reader:
        assert reader.read_all().to_pylist() == [{"given": "a", "answer": "<a>"}]


@pytest.mark.parametrize("value", TEXTS)
def test_a_models_name_out_of_a_row_is_no_model(value: str) -> None:
    asked = Asked({"t.texts": pa.table({"text": [value]})})
    with pytest.raises(UsageError, match="line 1:"):
        compile_query("SELECT AI_COMPLETE(text, 'x') FROM t.texts", asked)


def test_binding_a_query_opens_nothing(tmp_path: Path) -> None:
    """Even a text that no check has seen: what knows the types of a query is shut off from everything but the tables."""
    other = tmp_path / "other.csv"
    other.write_text(f"content\n{SECRET}\n")
    leak = pa.table({"a": [1]})
    assert leak.num_rows == 1
    with Binder({}, lambda name, given: pa.null()) as binder:
        for text in (
            f"FROM read_csv('{other}')",
            f"FROM '{other}'",
            f"COPY (SELECT 1) TO '{tmp_path}/x'",
            "FROM leak",
            "INSTALL json",
        ):
            with pytest.raises(duckdb.Error) as raised:
                binder.columns(text)
            assert SECRET not in str(raised.value)
    assert sorted(tmp_path.iterdir()) == [other]


@pytest.mark.parametrize("text", [text for text in READING if "(" in text and "{other}" in text])
def test_table_functions_are_refused_by_their_names_before_duckdb_sees_them(text: str) -> None:
    with pytest.raises(UsageError, match=r"table function '\w+' is not allowed"):
        compile_query(text.format(other="x", folder="y"), Asked(TABLES))
