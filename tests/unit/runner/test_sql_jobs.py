"""The statements of a file in jobs/ as jobs."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow.declare import PartitionField, TableSpec
from lakeflow.errors import DeclarationError
from lakeflow.job import Caps, Job, Lookup, Mode, Output, Read, SqlQuery
from lakeflow.runner.sql_jobs import jobs_of
from lakeflow.runner.uses import models_named
from lakeflow.sql.parse import parse_jobs
from lakeflow.window import Emit, Late, Tumble, microseconds

PATH = Path("jobs/daily.sql")
KEYED = TableSpec("gold.keyed", pa.schema([("id", pa.int64())]), primary_key=("id",), comment="By id.")
INSERT = "INSERT INTO gold.a SELECT id FROM bronze.o;"
TOTALS = "SELECT c, count(*) AS n FROM bronze.o GROUP BY c"


def jobs(text: str, *tables: TableSpec) -> dict[str, Job]:
    return {job.name: job for job in jobs_of(parse_jobs(text, PATH), PATH, {table.name: table for table in tables})}


def job(text: str, *tables: TableSpec) -> Job:
    [one] = jobs(text, *tables).values()
    return one


def body(text: str) -> SqlQuery:
    found = job(text).body
    assert isinstance(found, SqlQuery)
    return found


def test_an_insert_is_an_incremental_job_named_after_its_file() -> None:
    one = job("-- by id\n" + INSERT)
    assert (one.name, one.target, one.inputs) == ("daily", "gold.a", {"bronze.o": Read("bronze.o")})
    assert (one.mode, one.output, one.key) == (Mode.INCREMENTAL, Output.APPEND, ())
    assert str(one.origin) == "jobs/daily.sql:2"
    assert one.is_row_wise


def test_a_primary_key_of_the_target_makes_it_update() -> None:
    one = job("INSERT INTO gold.keyed SELECT id FROM bronze.o;", KEYED)
    assert (one.output, one.key, one.description) == (Output.UPDATE, ("id",), "By id.")
    assert not one.is_row_wise


@pytest.mark.parametrize(
    "text", ["INSERT OVERWRITE gold.keyed {}", "SET 'execution.runtime-mode' = 'batch'; INSERT INTO gold.keyed {}"]
)
def test_an_overwrite_and_batch_are_snapshots_that_replace_the_table(text: str) -> None:
    one = job(text.format("SELECT id FROM bronze.o;"), KEYED)
    assert (one.mode, one.output, one.key) == (Mode.SNAPSHOT, Output.COMPLETE, ("id",))


def test_what_is_looked_up_and_searched_is_a_lookup() -> None:
    one = job(
        "INSERT INTO gold.a SELECT o.id, h.t FROM bronze.o AS o JOIN dim.c FOR SYSTEM_TIME AS OF PROCTIME() AS c ON c.k = o.k, "
        "LATERAL TABLE(VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(v), o.v, 3)) AS h;"
    )
    assert one.inputs == {"bronze.o": Read("bronze.o"), "dim.c": Lookup("dim.c"), "gold.docs": Lookup("gold.docs")}


def test_a_table_may_be_read_and_looked_up() -> None:
    one = job(
        "INSERT INTO gold.a SELECT o.id FROM bronze.o AS o JOIN bronze.o FOR SYSTEM_TIME AS OF PROCTIME() AS p ON p.id = o.id;"
    )
    assert sorted(one.inputs) == ["bronze.o", "bronze.o, looked up"]
    assert one.inputs["bronze.o, looked up"] == Lookup("bronze.o")


def test_a_query_over_moments_alone_is_a_snapshot_job_that_cannot_be_another() -> None:
    one = job("INSERT OVERWRITE gold.a SELECT id FROM bronze.o FOR VERSION AS OF 'tag';")
    assert one.inputs == {"bronze.o": Read("bronze.o")}
    assert isinstance(one.body, SqlQuery)
    assert one.body.obstacle == "all tables are read at moments: bronze.o brings no new rows"


def test_several_statements_bear_the_names_of_their_tables() -> None:
    set_of_two = f"BEGIN STATEMENT SET; {INSERT} INSERT INTO gold.b SELECT id FROM bronze.o; END;"
    assert list(jobs(set_of_two)) == ["daily.a", "daily.b"]
    assert list(jobs(f"SET 'pipeline.name' = 'night'; {set_of_two}")) == ["night.a", "night.b"]
    named = f"SET 'pipeline.name' = 'x'; {INSERT} SET 'pipeline.name' = 'y'; INSERT INTO gold.b SELECT id FROM bronze.o;"
    assert list(jobs(named)) == ["x", "y"]
    assert list(jobs(f"SET 'pipeline.name' = 'x'; {INSERT} RESET; INSERT INTO gold.b SELECT id FROM gold.a;")) == ["x", "daily"]


def test_caps_are_set_for_the_statements_that_follow() -> None:
    found = jobs(
        f"SET 'lakeflow.max-rows' = '1000'; SET 'lakeflow.max-files' = '3'; {INSERT} "
        "RESET 'lakeflow.max-files'; INSERT INTO gold.b SELECT id FROM bronze.o;"
    )
    assert found["daily.a"].caps == Caps(3, 1000)
    assert found["daily.b"].caps == Caps(rows=1000)
    assert job(INSERT).caps is None


def test_create_table_as_makes_its_table() -> None:
    one = job("CREATE TABLE gold.a COMMENT 'Ids.' PARTITIONED BY (id) AS SELECT id FROM bronze.o;")
    assert (one.mode, one.output, one.description) == (Mode.INCREMENTAL, Output.APPEND, "Ids.")
    assert one.creates is not None
    assert one.creates.partitioning == (PartitionField("id"),)


@pytest.mark.parametrize(
    ("said", "query", "mode"),
    [
        ("", "SELECT id FROM bronze.o", Mode.INCREMENTAL),
        ("", TOTALS, Mode.INCREMENTAL),
        ("", "SELECT median(x) AS m FROM bronze.o", Mode.SNAPSHOT),
        ("REFRESH_MODE = FULL", "SELECT id FROM bronze.o", Mode.SNAPSHOT),
        ("REFRESH_MODE = CONTINUOUS", TOTALS, Mode.INCREMENTAL),
    ],
)
def test_a_materialized_table_is_continuous_where_it_can_be(said: str, query: str, mode: Mode) -> None:
    one = job(f"CREATE MATERIALIZED TABLE gold.a FRESHNESS = INTERVAL '3' MINUTE {said} AS {query};")
    assert one.mode is mode
    assert one.materialized is not None
    assert one.materialized.freshness == timedelta(minutes=3)


def test_why_a_query_cannot_run_incrementally_is_known_from_its_file_alone() -> None:
    found = body(f"INSERT INTO gold.a\n{TOTALS} LIMIT 3;")
    assert found.obstacle is not None
    assert found.obstacle.startswith("line 2:50: LIMIT needs rows that came before")
    assert not job(f"INSERT INTO gold.a {TOTALS} LIMIT 3;").is_row_wise


def test_groups_go_on_from_what_is_kept_of_them() -> None:
    one = job(f"INSERT INTO gold.a {TOTALS};")
    assert isinstance(one.body, SqlQuery)
    assert (one.mode, one.output, one.key, one.is_row_wise) == (Mode.INCREMENTAL, Output.UPDATE, (), False)
    assert (one.body.is_keyed, one.body.obstacle) == (True, None)


def test_merging_by_key_needs_the_order_of_rows() -> None:
    one = job("INSERT INTO gold.keyed SELECT id FROM bronze.o UNION ALL SELECT other FROM bronze.o;", KEYED)
    assert isinstance(one.body, SqlQuery)
    assert one.body.obstacle is not None
    assert "PRIMARY KEY" in one.body.obstacle


def test_models_are_known_by_the_texts_of_the_calls() -> None:
    one = job("INSERT INTO gold.a SELECT AI_COMPLETE('m', 'late'), p FROM ML_PREDICT(TABLE s.o, MODEL late$2, DESCRIPTOR(x));")
    assert models_named(one, ["m", "late", "other"]) == ("late", "late$2", "m")
    assert models_named(job(INSERT), iter(["never read"])) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SET 'pipeline.nmae' = 'x';" + INSERT, r"jobs/daily.sql: unknown key of SET 'pipeline.nmae'.*pipeline.name"),
        ("SET;" + INSERT, "SET alone"),
        ("SET 'execution.runtime-mode' = 'bacth';" + INSERT, r"jobs/daily.sql:1: .*'bacth'.*batch"),
        ("SET 'lakeflow.max-rows' = '0';" + INSERT, "a whole number from 1 on"),
        ("INSERT INTO gold.a VALUES (1);", "'daily' reads no table"),
        ("INSERT INTO gold.a SELECT FROM WHERE;", "jobs/daily.sql: job 'daily': line 1:"),
        ("CREATE TABLE gold.keyed AS SELECT id FROM bronze.o;", "is declared at"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        jobs(text, KEYED)


HOURLY = """INSERT INTO gold.hourly SELECT window_start, window_end, count(*) AS n
FROM TUMBLE(TABLE bronze.clicks, DESCRIPTOR(at), INTERVAL '1' HOUR) GROUP BY window_start, window_end;"""
SESSIONS = """INSERT INTO gold.sessions SELECT window_start, window_end, count(*) AS n
FROM SESSION(TABLE bronze.clicks, DESCRIPTOR(at), INTERVAL '1' HOUR) GROUP BY window_start, window_end;"""


def test_what_set_says_of_windows() -> None:
    said = {"late": "dead_letter", "lateness": "10m", "emit": "append", "delay": "5m", "idle": "1h"}
    made = job("".join(f"SET 'lakeflow.{key}' = '{value}';" for key, value in said.items()) + HOURLY)
    assert made.windowed is not None
    assert made.windowed.window == Tumble("at", "1h", lateness="10m")
    assert (made.windowed.late, made.windowed.emit) == (Late.DEAD_LETTER, Emit.APPEND)
    assert (made.windowed.delay, made.windowed.idle) == (microseconds("5m", ""), microseconds("1h", ""))
    assert made.output is Output.APPEND


@pytest.mark.parametrize(
    ("key", "value", "query", "words"),
    [
        ("late", "droped", HOURLY, "did you mean 'drop'"),
        ("lateness", "ten minutes", HOURLY, "valid: a number and one of"),
        ("lateness", "-1m", HOURLY, "nothing or longer"),
        ("lateness", "1m", SESSIONS, "SESSION takes no lateness"),
        ("late", "drop", SESSIONS, "valid with Session"),
        ("emit", "append", SESSIONS, "valid with Session"),
        ("idle", "0s", HOURLY, "longer than nothing"),
        ("late", "drop", "INSERT INTO gold.t SELECT * FROM bronze.clicks;", "this one does not"),
        ("lateness", "1m", f"SET 'execution.runtime-mode' = 'batch'; {HOURLY}", "this one does not"),
    ],
)
def test_what_set_cannot_say_of_windows(key: str, value: str, query: str, words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        jobs(f"SET 'lakeflow.{key}' = '{value}'; {query}")
