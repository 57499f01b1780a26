"""Declarations that statements write: files of the project, never over another, and nothing left that would not load."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakeflow.errors import DeclarationError, LakeflowError, UnknownName, UsageError
from lakeflow.runner.project import Project
from lakeflow.runner.sql_once import declared_as_job
from lakeflow.runner.statements import carry_out
from lakeflow.sql.parse import parse_jobs
from lakeflow.sql.script import parse_script
from tests.unit.runner.test_statements import run, status

LANDED = """CREATE TABLE bronze.flights (
  id BIGINT COMMENT 'it''s one',
  seen TIMESTAMP_LTZ(6) METADATA FROM 'timestamp',
  WATERMARK FOR seen AS seen - INTERVAL '5' MINUTE
)
WITH (
  'connector' = 'kafka',
  'topic' = '${TOPIC:-flights}',
  'password' = '{{ secret.KAFKA }}'
);
"""
INDEX = "CREATE VECTOR INDEX docs_index ON gold.docs (vec) WITH ('key' = 'id', 'metric' = 'l2', 'probes' = '8');"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "lakeflow.toml").write_text("")
    return Project.open(tmp_path, environ={})


def text_of(project: Project, path: str) -> str:
    return (project.settings.root / path).read_text(encoding="utf-8")


def files(project: Project) -> list[str]:
    root = project.settings.root
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.sql"))


def declared(project: Project, text: str, **said: str) -> list[str]:
    [statement] = parse_jobs(text)
    keys = {"mode": "execution.runtime-mode", "name": "pipeline.name", "rows": "lakeflow.max-rows"}
    outcome = declared_as_job(statement, {keys[key]: value for key, value in said.items()}, project)  # type: ignore[arg-type]
    return [one.status for one in outcome]


def test_a_landed_table_is_declared_as_it_was_written(project: Project) -> None:
    assert status(project, LANDED) == "declared in tables/bronze.flights.sql; next: lakeflow land bronze.flights"
    assert text_of(project, "tables/bronze.flights.sql") == LANDED
    assert project.declared_tables.tables["bronze.flights"].options["password"] == "{{ secret.KAFKA }}"
    again = status(project, LANDED.replace("TABLE", "TABLE IF NOT EXISTS", 1))
    assert again == "there already, declared at tables/bronze.flights.sql:1"
    with pytest.raises(DeclarationError, match=r"declared at tables/bronze\.flights\.sql:1, and a table has one place"):
        run(project, LANDED)


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TABLE a.b (x INT, PRIMARY KEY (x) NOT ENFORCED)",
        "CREATE TABLE a.b (x TIMESTAMP(6), WATERMARK FOR x AS x)",
        "CREATE TABLE a.b WITH ('connector' = 'kafka', 'topic' = 't')",
        "CREATE TABLE a.b (y INT) LIKE bronze.flights",
    ],
)
def test_what_a_catalog_does_not_keep_is_declared(project: Project, text: str) -> None:
    run(project, LANDED)
    assert status(project, text).startswith("declared in tables/a.b.sql")
    assert project.lake.names() == ()
    assert "a.b" in Project(project.settings).declared_tables.tables


def test_a_table_like_one_of_the_catalog_is_declared_with_its_columns(project: Project) -> None:
    run(project, "CREATE TABLE silver.towns (id BIGINT NOT NULL, city STRING)")
    run(project, "CREATE TABLE gold.towns (PRIMARY KEY (id) NOT ENFORCED) LIKE silver.towns")
    assert "LIKE" not in text_of(project, "tables/gold.towns.sql")
    assert project.declared_tables.tables["gold.towns"].schema.names == ["id", "city"]


def test_no_file_is_written_over(project: Project) -> None:
    place = project.settings.root / "tables" / "a.b.sql"
    place.parent.mkdir()
    place.write_text("-- mine\n")
    with pytest.raises(DeclarationError, match=r"tables/a\.b\.sql is there already"):
        run(project, "CREATE TABLE a.b (x INT, PRIMARY KEY (x) NOT ENFORCED)")
    assert place.read_text() == "-- mine\n"


def test_a_folder_that_cannot_be_written_is_told(project: Project) -> None:
    (project.settings.root / "tables").write_text("no folder")
    with pytest.raises(UsageError, match=r"tables/docs_index\.sql cannot be written"):
        run(project, INDEX)


def test_an_index_is_declared_altered_and_dropped(project: Project) -> None:
    assert status(project, INDEX) == "declared in tables/docs_index.sql; next: lakeflow index build docs_index"
    run(project, "ALTER VECTOR INDEX docs_index SET ('metric' = 'dot', 'columns' = 'a, b', 'probes' = '9', 'refine' = '1')")
    run(project, "ALTER VECTOR INDEX docs_index RESET ('refine')")
    index = Project(project.settings).declared_tables.indexes["docs_index"]
    assert (index.metric, index.columns, index.options) == ("dot", ("a", "b"), {"probes": "9"})
    before = text_of(project, "tables/docs_index.sql")
    with pytest.raises(DeclarationError, match="unknown metric 'cos'"):
        run(project, "ALTER VECTOR INDEX docs_index SET ('metric' = 'cos')")
    with pytest.raises(DeclarationError, match="'key' cannot be reset"):
        run(project, "ALTER VECTOR INDEX docs_index RESET ('key')")
    assert text_of(project, "tables/docs_index.sql") == before
    with pytest.raises(DeclarationError, match="unknown option 'prob'; did you mean 'probes'"):
        run(project, "ALTER VECTOR INDEX docs_index SET ('prob' = '9')")
    [statement] = parse_script("DROP VECTOR INDEX docs_index")
    question = "Drop vector index docs_index, and delete tables/docs_index.sql?"
    kept = carry_out(project, statement, lambda asked: asked != question)  # type: ignore[arg-type]
    assert kept.rows[0]["status"] == "kept"
    assert status(project, "DROP VECTOR INDEX docs_index") == "tables/docs_index.sql is deleted"
    assert files(project) == []
    with pytest.raises(UnknownName):
        run(project, "DROP VECTOR INDEX docs_index")


def test_a_declared_table_is_altered_in_its_file(project: Project) -> None:
    run(project, LANDED)
    run(project, "ALTER TABLE bronze.flights ADD (gate STRING AFTER id, first INT FIRST)")
    run(project, "ALTER TABLE bronze.flights MODIFY id DECIMAL(20, 0)")
    run(project, "ALTER TABLE bronze.flights SET ('on_error' = 'skip'); ALTER TABLE bronze.flights RESET ('password')")
    table = Project(project.settings).declared_tables.tables["bronze.flights"]
    assert [(field.name, str(field.type)) for field in table.schema] == [
        ("first", "int32"),
        ("id", "decimal128(20, 0)"),
        ("gate", "string"),
    ]
    assert table.options == {"connector": "kafka", "topic": "${TOPIC:-flights}", "on_error": "skip"}
    assert table.watermark is not None
    for wrong in ("ADD id INT", "MODIFY ids INT", "ADD x INT AFTER gat", "RESET ('topi')", "RENAME id TO no", "DROP gate"):
        before = text_of(project, "tables/bronze.flights.sql")
        with pytest.raises(DeclarationError):
            run(project, f"ALTER TABLE bronze.flights {wrong}")
        assert text_of(project, "tables/bronze.flights.sql") == before


def test_a_file_that_holds_more_stays_as_it_was_written(project: Project) -> None:
    place = project.settings.root / "tables" / "docs_index.sql"
    place.parent.mkdir()
    place.write_text(f"-- why it is here\n{INDEX}")
    for text in ("ALTER VECTOR INDEX docs_index SET ('probes' = '9')", "DROP VECTOR INDEX docs_index"):
        with pytest.raises(DeclarationError):
            run(project, text)
    assert place.read_text().startswith("-- why")


def test_dropping_a_declared_table_deletes_its_file(project: Project) -> None:
    run(project, LANDED)
    assert status(project, "DROP TABLE bronze.flights") == "tables/bronze.flights.sql is deleted"
    assert status(project, "DROP TABLE IF EXISTS bronze.flights") == "not there"
    assert "bronze.flights" not in project.declared_tables.tables


def test_statements_that_stand_become_jobs(project: Project) -> None:
    run(project, "CREATE TABLE bronze.t (id BIGINT, text STRING)")
    assert declared(project, "INSERT INTO gold.a SELECT id FROM bronze.t", rows="10") == [
        "declared in jobs/gold.a.sql; next: lakeflow run gold.a"
    ]
    assert text_of(project, "jobs/gold.a.sql") == (
        "SET 'lakeflow.max-rows' = '10';\nINSERT INTO gold.a\nSELECT id FROM bronze.t;\n"
    )
    several = (
        "BEGIN STATEMENT SET; INSERT INTO gold.b SELECT id FROM bronze.t; INSERT INTO gold.c SELECT text FROM bronze.t; END"
    )
    assert declared(project, several, name="both") == [
        "declared in jobs/both.sql; next: lakeflow run both.b",
        "declared in jobs/both.sql; next: lakeflow run both.c",
    ]
    assert declared(project, "CREATE MATERIALIZED TABLE gold.d AS SELECT count(*) AS n FROM bronze.t")
    assert sorted(project.declarations.jobs) == ["both.b", "both.c", "gold.a", "gold.d"]
    assert status(project, "DROP MATERIALIZED TABLE gold.d") == "dropped; jobs/gold.d.sql is deleted"


@pytest.mark.parametrize(
    ("text", "said", "message"),
    [
        ("INSERT INTO gold.a SELECT nope FROM bronze.t", {}, "unknown column 'nope'"),
        ("INSERT INTO gold.a SELECT id FROM bronze.t LIMIT 1", {}, "LIMIT needs rows that came before"),
        ("INSERT INTO gold.a SELECT 1", {}, "reads no table"),
        ("INSERT INTO gold.a SELECT id FROM bronze.t", {"name": "../a"}, "cannot be the name of a file"),
        ("INSERT INTO gold.a SELECT id FROM bronze.t", {"rows": "many"}, "valid: a whole number"),
        ("CREATE TABLE bronze.d AS SELECT id FROM bronze.t", {}, "is declared at tables/bronze.d.sql:1 already"),
    ],
)
def test_what_would_not_run_leaves_no_file(project: Project, text: str, said: dict[str, str], message: str) -> None:
    run(project, "CREATE TABLE bronze.t (id BIGINT); CREATE TABLE bronze.d (id BIGINT, PRIMARY KEY (id) NOT ENFORCED)")
    with pytest.raises(LakeflowError, match=message):
        declared(project, text, **said)
    assert files(project) == ["tables/bronze.d.sql"]
    assert project.declarations.jobs == {}
