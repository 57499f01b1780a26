"""What statements about tables and indexes do to a project, and what they say of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakeflow.errors import DeclarationError, LakeflowError, SchemaMismatch, UnknownName
from lakeflow.lake.catalog import arrow_schema
from lakeflow.lake.commit import Change
from lakeflow.lake.write import DataWriter
from lakeflow.runner.model_statements import Outcome
from lakeflow.runner.project import Project
from lakeflow.runner.sql_query import query_project
from lakeflow.runner.statements import carry_out
from lakeflow.runner.suspension import is_suspended
from lakeflow.sql.execute import Limits
from lakeflow.sql.parse import parse_declarations, parse_jobs
from lakeflow.sql.script import parse_script
from lakeflow.sql.statements import CreateMaterializedTable, CreateTable, CreateVectorIndex

TABLES = """
CREATE TABLE bronze.flights (
  id BIGINT COMMENT 'one', at TIMESTAMP_LTZ(3) METADATA FROM 'timestamp', WATERMARK FOR at AS at - INTERVAL '5' MINUTE
) WITH ('connector' = 'kafka', 'topic' = 'flights');
CREATE TABLE gold.docs (id STRING, vec ARRAY<FLOAT>, PRIMARY KEY (id) NOT ENFORCED);
CREATE VECTOR INDEX docs_index ON gold.docs (vec) WITH ('key' = 'id');
"""
JOBS = """
CREATE MATERIALIZED TABLE gold.counted PARTITIONED BY (city) FRESHNESS = INTERVAL '3' MINUTE REFRESH_MODE = FULL
AS SELECT city, count(*) AS n FROM silver.towns GROUP BY city;
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "lakeflow.toml").write_text("")
    for name, text in (("tables", TABLES), ("jobs", JOBS)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "all.sql").write_text(text)
    return Project.open(tmp_path, environ={})


def run(project: Project, text: str, confirm: Callable[[str], bool] = lambda question: True) -> Outcome:
    outcome = Outcome((), ())
    for statement in parse_script(text):
        outcome = carry_out(project, statement, confirm)  # type: ignore[arg-type]
    return outcome


def rows(project: Project, text: str) -> list[dict[str, Any]]:
    return list(run(project, text).rows)


def status(project: Project, text: str) -> str:
    [row] = rows(project, text)
    return str(row["status"])


def names(project: Project, table: str) -> list[str]:
    return list(arrow_schema(project.lake.table(table)).names)


TOWNS = (
    "CREATE TABLE silver.towns (id BIGINT NOT NULL COMMENT 'key', city STRING) COMMENT 'all' PARTITIONED BY (bucket(4, id));"
)


def test_a_table_is_made_changed_and_dropped(project: Project) -> None:
    assert status(project, TOWNS) == "created"
    assert status(project, "CREATE TABLE IF NOT EXISTS silver.towns (x INT)") == "there already"
    assert status(project, "ALTER TABLE silver.towns ADD (a INT FIRST, b DOUBLE AFTER id)") == "changed"
    assert status(project, "ALTER TABLE silver.towns MODIFY a BIGINT COMMENT 'wide'") == "changed"
    assert status(project, "ALTER TABLE silver.towns RENAME b TO c; ALTER TABLE silver.towns DROP city") == "changed"
    assert names(project, "silver.towns") == ["a", "id", "c"]
    assert status(project, "ALTER TABLE silver.towns SET ('k' = 'v', 'l' = 'w')") == "changed"
    assert status(project, "ALTER TABLE silver.towns RESET ('l')") == "changed"
    assert project.lake.table("silver.towns").properties["k"] == "v"
    assert status(project, "ALTER TABLE silver.towns RENAME TO silver.cities") == "renamed from silver.towns"
    assert status(project, "DROP TABLE silver.cities").startswith("dropped; its files are left at ")
    assert project.lake.names() == ()


def test_a_table_is_shown_as_the_statement_that_makes_it(project: Project) -> None:
    run(project, TOWNS + "ALTER TABLE silver.towns SET ('lakeflow-x' = 'it''s')")
    shown = run(project, "SHOW CREATE TABLE silver.towns").sql or ""
    run(project, "DROP TABLE silver.towns;" + shown)
    assert run(project, "SHOW CREATE TABLE silver.towns").sql == shown
    [statement] = parse_script(shown)
    assert isinstance(statement, CreateTable)
    assert statement.table.comment == "all"
    assert "COMMENT 'key'" in shown
    assert "bucket(4, id)" in shown


def test_what_is_declared_is_shown_as_it_is_declared(project: Project) -> None:
    shown = [run(project, f"SHOW CREATE {what}").sql or "" for what in ("TABLE bronze.flights", "VECTOR INDEX docs_index")]
    [flights, _, index] = parse_declarations(TABLES)
    assert isinstance(flights, CreateTable)
    assert isinstance(index, CreateVectorIndex)
    [again, index_again] = parse_declarations("\n".join(shown))
    assert isinstance(again, CreateTable)
    assert isinstance(index_again, CreateVectorIndex)
    assert (again.table.schema, again.table.metadata) == (flights.table.schema, flights.table.metadata)
    assert index_again.index.key == index.index.key


def test_a_materialized_table_is_shown_as_its_statement(project: Project) -> None:
    shown = run(project, "SHOW CREATE MATERIALIZED TABLE gold.counted").sql or ""
    [statement] = parse_jobs(JOBS)
    [again] = parse_jobs(shown)
    assert isinstance(statement, CreateMaterializedTable)
    assert isinstance(again, CreateMaterializedTable)
    assert (again.query, again.freshness, again.refresh_mode) == (statement.query, statement.freshness, statement.refresh_mode)
    assert again.table.partitioning == statement.table.partitioning


def test_a_table_is_like_one_of_the_catalog(project: Project) -> None:
    run(project, TOWNS + "CREATE TABLE gold.towns (extra DATE) LIKE silver.towns")
    assert names(project, "gold.towns") == ["id", "city", "extra"]
    assert len(project.lake.table("gold.towns").spec().fields) == 1
    run(project, "CREATE TABLE gold.plain LIKE silver.towns (EXCLUDING ALL)")
    assert len(project.lake.table("gold.plain").spec().fields) == 0


def test_tables_jobs_and_indexes_are_listed(project: Project) -> None:
    run(project, TOWNS)
    missing = "not there yet"
    assert rows(project, "SHOW TABLES") == [
        {"table": "bronze.flights", "state": missing},
        {"table": "gold.docs", "state": missing},
        {"table": "silver.towns", "state": None},
    ]
    assert [row["table"] for row in rows(project, "SHOW TABLES FROM gold")] == ["gold.docs"]
    assert [row["table"] for row in rows(project, "SHOW TABLES LIKE '%s'")] == ["bronze.flights", "gold.docs", "silver.towns"]
    assert [row["table"] for row in rows(project, "SHOW TABLES NOT LIKE 'gold.%'")] == ["bronze.flights", "silver.towns"]
    assert rows(project, "SHOW NAMESPACES") == [{"namespace": "silver"}]
    [job] = rows(project, "SHOW JOBS FROM gold")
    assert (job["mode"], job["reads"], job["target"]) == ("snapshot", ["silver.towns"], "gold.counted")
    assert rows(project, "SHOW JOBS FROM silver") == []
    [index] = rows(project, "SHOW VECTOR INDEXES")
    assert (index["index"], index["table"], index["metric"]) == ("docs_index", "gold.docs", "cosine")
    [table] = rows(project, "SHOW MATERIALIZED TABLES")
    assert (table["table"], table["refresh_mode"], table["freshness"], table["state"]) == (
        "gold.counted",
        "FULL",
        "0:03:00",
        missing,
    )


def test_a_table_is_described_by_its_columns(project: Project) -> None:
    run(project, TOWNS)
    assert rows(project, "DESCRIBE silver.towns") == [
        {"name": "id", "type": "BIGINT", "null": False, "key": False, "extras": None, "comment": "key"},
        {"name": "city", "type": "STRING", "null": True, "key": False, "extras": None, "comment": None},
    ]
    outcome = run(project, "DESC EXTENDED silver.towns")
    assert outcome.facts is not None
    told = {"table": "silver.towns", "comment": "all", "partitioned_by": "bucket(4, id)", "rows": 0, "files": 0}
    assert told.items() <= outcome.facts.items()
    [key, _] = rows(project, "DESCRIBE TABLE gold.docs")
    assert (key["key"], key["null"]) == (True, False)


def test_a_landed_table_is_described_before_it_is_there(project: Project) -> None:
    found = {row["name"]: row for row in rows(project, "DESCRIBE bronze.flights")}
    assert found["id"]["comment"] == "one"
    assert found["at"]["extras"] == "METADATA FROM 'timestamp', WATERMARK FOR at AS at - INTERVAL '5' MINUTE"


def test_an_index_is_described_with_how_it_stands(project: Project) -> None:
    facts = {row["property"]: row["value"] for row in rows(project, "DESCRIBE VECTOR INDEX docs_index")}
    assert (facts["table"], facts["key"], facts["rows"]) == ("gold.docs", "id", None)
    assert facts["state"] == "waits for gold.docs, not there yet"


def test_a_materialized_table_is_suspended_and_resumed(project: Project) -> None:
    run(project, TOWNS)
    job = next(iter(project.declarations.jobs.values()))
    project.run(job.name)
    assert status(project, "ALTER MATERIALIZED TABLE gold.counted SUSPEND") == "suspended"
    assert is_suspended(job, project.lake)
    assert rows(project, "SHOW MATERIALIZED TABLES")[0]["state"] == "suspended"
    assert status(project, "ALTER MATERIALIZED TABLE gold.counted RESUME") == "resumed"
    assert not is_suspended(job, project.lake)
    assert "lakeflow" not in (run(project, "DESC EXTENDED gold.counted").facts or {})["options"]


def test_a_table_stays_where_nobody_says_yes(project: Project) -> None:
    asked: list[str] = []

    def no(question: str) -> bool:
        asked.append(question)
        return False

    run(project, TOWNS)
    [row] = run(project, "DROP TABLE silver.towns", no).rows
    assert (row["status"], asked) == ("kept", ["Drop table silver.towns from the catalog?"])
    assert project.lake.exists("silver.towns")


@pytest.mark.parametrize(
    "text",
    [
        "DROP TABLE IF EXISTS gold.x",
        "ALTER TABLE IF EXISTS gold.x DROP a",
        "DROP MATERIALIZED TABLE IF EXISTS gold.x",
        "DROP VECTOR INDEX IF EXISTS x",
        "ALTER VECTOR INDEX IF EXISTS x RESET ('a')",
    ],
)
def test_what_is_not_there_may_be_left_alone(project: Project, text: str) -> None:
    assert status(project, text) == "not there"


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("CREATE TABLE silver.towns (x INT)", DeclarationError, "table silver.towns is there already"),
        ("CREATE TABLE gold.docs (x INT)", DeclarationError, "table gold.docs is declared at tables/all.sql:5"),
        (
            "CREATE TABLE a.b (x INT) WITH ('connector' = 'kafa')",
            DeclarationError,
            "did you mean 'kafka'?",
        ),
        ("CREATE TABLE a.b LIKE a.z", UnknownName, "unknown table 'a.z'"),
        ("CREATE TABLE a.b (x INT) WITH ('lakeflow.y' = '1')", DeclarationError, "option 'lakeflow.y'"),
        ("CREATE TABLE lakeflow.b (x INT)", DeclarationError, "the tables of lakeflow are lakeflow's own"),
        ("CREATE TABLE a.`b/c` (x INT)", DeclarationError, "printable characters without slashes"),
        ("DROP TABLE lakeflow.runs", DeclarationError, "the tables of lakeflow are lakeflow's own"),
        ("ALTER TABLE lakeflow.runs DROP x", DeclarationError, "the tables of lakeflow are lakeflow's own"),
        ("ALTER TABLE silver.towns RENAME TO lakeflow.runs", DeclarationError, "the tables of lakeflow are lakeflow's own"),
        ("ALTER TABLE silver.towns RENAME TO gold.docs", DeclarationError, "table gold.docs is declared at"),
        ("ALTER TABLE gold.docs DROP id", DeclarationError, "tables/all.sql:5: change it there, then: lakeflow plan"),
        ("ALTER TABLE silver.towns MODIFY id STRING", SchemaMismatch, "another type"),
        ("ALTER TABLE silver.towns DROP id", DeclarationError, "in which partition a row lies"),
        ("ALTER TABLE silver.twns DROP id", UnknownName, "did you mean 'silver.towns'?"),
        ("DROP TABLE silver.twns", UnknownName, "did you mean 'silver.towns'?"),
        ("DESCRIBE bronze.flight", UnknownName, "did you mean 'bronze.flights'?"),
        ("SHOW CREATE TABLE gold.dcs", UnknownName, "did you mean 'gold.docs'?"),
        ("SHOW CREATE VECTOR INDEX doc_index", UnknownName, "did you mean 'docs_index'?"),
        ("DESCRIBE VECTOR INDEX i", UnknownName, "unknown vector index 'i'"),
        (
            "CREATE VECTOR INDEX docs_index ON gold.docs (vec) WITH ('key' = 'id')",
            DeclarationError,
            "all.sql:6 already",
        ),
        ("ALTER VECTOR INDEX docs_index SET ('metric' = 'l2')", DeclarationError, "tables/all.sql:6: change it there"),
        ("DROP VECTOR INDEX docs_index", DeclarationError, "tables/all.sql:6: delete the statement there"),
        ("DROP VECTOR INDEX dcs_index", UnknownName, "did you mean 'docs_index'?"),
        ("DROP MATERIALIZED TABLE silver.towns", UnknownName, "unknown materialized table 'silver.towns'"),
        ("ALTER MATERIALIZED TABLE gold.docs SUSPEND", UnknownName, "unknown materialized table 'gold.docs'"),
        ("ALTER MATERIALIZED TABLE gold.counted SUSPEND", UnknownName, "the first run makes it"),
    ],
)
def test_what_cannot_be_carried_out_is_refused(project: Project, text: str, kind: type[LakeflowError], message: str) -> None:
    run(project, TOWNS)
    with pytest.raises(kind) as raised:
        run(project, text)
    assert message in str(raised.value)
    assert project.lake.names() == ("silver.towns",)
    assert arrow_schema(project.lake.table("silver.towns")).field("id").type == pa.int64()


def asked(project: Project, text: str) -> list[dict[str, Any]]:
    with ExitStack() as held:
        return list(query_project(text, project, Limits(memory_bytes=1 << 28, threads=1), held).read_all().to_pylist())


def test_queries_see_the_columns_by_what_they_are_and_not_by_what_they_were_called(project: Project) -> None:
    run(project, "CREATE TABLE silver.t (id INT, a STRING, b DOUBLE, c STRING)")
    table = project.lake.table("silver.t")
    writer = DataWriter(table)
    writer.write(pa.RecordBatch.from_pylist([{"id": 1, "a": "old a", "b": 2.5, "c": "old c"}], schema=arrow_schema(table)))
    project.commits.commit(Change("silver.t", writer.finish()))
    run(project, "ALTER TABLE silver.t RENAME a TO was_a; ALTER TABLE silver.t ADD a STRING AFTER id")
    run(
        project, "ALTER TABLE silver.t DROP c; ALTER TABLE silver.t ADD c STRING; ALTER TABLE silver.t MODIFY id BIGINT AFTER b"
    )
    expected = {"a": None, "was_a": "old a", "b": 2.5, "id": 1, "c": None}
    assert asked(project, "SELECT * FROM silver.t") == [expected]
    assert list(asked(project, "SELECT * FROM silver.t")[0]) == ["a", "was_a", "b", "id", "c"]
    assert asked(project, "SELECT id FROM silver.t WHERE was_a = 'old a' AND a IS NULL AND c IS NULL") == [{"id": 1}]
    assert project.table("silver.t").collect().to_dicts() == [expected]


def test_a_secret_in_plain_text_is_not_shown(project: Project) -> None:
    options = "'s3.secret-access-key' = 'hunter2', 'jdbc' = 'postgresql://me:hunter2@host/db', 'k' = 'v'"
    run(project, f"CREATE TABLE silver.s (a INT) WITH ({options})")
    shown = str(run(project, "SHOW CREATE TABLE silver.s").sql) + str(run(project, "DESCRIBE EXTENDED silver.s").facts)
    assert "hunter2" not in shown
    assert "'k' = 'v'" in shown
