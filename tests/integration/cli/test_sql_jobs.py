"""Jobs in SQL, from the file in jobs/ to the rows of the target, through the command line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakeflow.declare import TableSpec
from tests import lakes
from tests.integration.cli.conftest import Shop
from tests.integration.cli.test_run import STOPS, posix

LARGE = """
-- orders above 100
INSERT INTO gold.big
SELECT order_id, customer, amount FROM bronze.orders WHERE amount > 100;
"""
MODEL = """
import pathlib

import pyarrow as pa
import pyarrow.compute as pc


class Double:
    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        with (pathlib.Path(__file__).with_name("asked")).open("a") as asked:
            asked.write(f"{rows.num_rows}\\n")
        if 13.0 in rows.column(0).to_pylist():
            raise ValueError("thirteen")
        return pa.record_batch([pc.multiply(rows.column(0), 2.0)], names=["twice"])
"""
DOUBLE = """
CREATE MODEL double INPUT (amount DOUBLE) OUTPUT (twice DOUBLE)
WITH ('provider' = 'python', 'task' = 'regression', 'class' = 'doubling:Double'{more});
"""
ANSWERING = """
import pyarrow as pa
import pyarrow.compute as pc


class Upper:
    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        return pa.record_batch([pc.utf8_upper(rows.column(0))], names=["answer"])
"""
ANSWERS_DECLARED = """
CREATE MODEL upper INPUT (prompt STRING) OUTPUT (answer STRING)
WITH ('provider' = 'python', 'task' = 'text_generation', 'class' = 'answering:Upper');
"""
ANSWERS = """
INSERT INTO gold.answers
SELECT q.id, AI_COMPLETE('upper', 'say ' || found.context) AS answer
FROM bronze.asked AS q,
  LATERAL (SELECT string_agg(h.body, ' and ' ORDER BY h.score DESC) AS context
           FROM LATERAL TABLE(VECTOR_SEARCH(TABLE bronze.known, DESCRIPTOR(embedding), q.at, 2)) AS h) AS found;
"""
CUSTOMERS = pa.table({"customer": ["ann", "bob"], "city": ["Oslo", "Bonn"]})


def with_model(shop: Shop, more: str = "") -> None:
    shop.declare("doubling.py", MODEL)
    shop.declare("tables/double.sql", DOUBLE.replace("{more}", more))


def asked(shop: Shop) -> int:
    """How many rows the model has been asked about since the last time."""
    path = shop.folder / "asked"
    found = sum(map(int, path.read_text().split())) if path.exists() else 0
    path.write_text("")
    return found


def add(shop: Shop, table: str, rows: pa.Table) -> None:
    lake = shop.project.lake
    lake.ensure(TableSpec(table, rows.schema))
    lakes.append(lake, rows, name=table)


def ran(shop: Shop, *arguments: str) -> dict[str, Any]:
    """The row of one job that ran."""
    [row] = shop.json("run", *arguments)
    assert isinstance(row, dict)
    return row


def rows(shop: Shop, query: str) -> list[dict[str, Any]]:
    done = shop("query", query, "--output", "json")
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def test_an_insert_runs_over_what_came_since_and_as_a_snapshot(stocked: Shop) -> None:
    stocked.declare("jobs/big.sql", LARGE)
    first = ran(stocked, "big")
    assert (first["mode"], first["read"], first["written"], first["filtered"]) == ("incremental", 4, 3, 1)
    stocked.orders(("o9", "eve", 900.0))
    second = ran(stocked, "big")
    assert (second["read"], second["written"]) == (1, 1)
    assert ran(stocked, "big")["status"] == "empty"
    before = rows(stocked, "SELECT * FROM gold.big ORDER BY order_id")
    assert [row["order_id"] for row in before] == ["o2", "o3", "o4", "o9"]
    assert ran(stocked, "big", "--mode", "snapshot")["mode"] == "snapshot"
    assert rows(stocked, "SELECT * FROM gold.big ORDER BY order_id") == before
    assert ran(stocked, "big")["status"] == "empty"


def test_an_aggregate_overwrites_or_goes_on_by_key_and_the_median_is_refused_incrementally(stocked: Shop) -> None:
    query = "SELECT customer, count(*) AS n, sum(amount) AS amount FROM bronze.orders GROUP BY customer;"
    stocked.declare("jobs/sums.sql", f"INSERT OVERWRITE gold.sums {query}")
    assert ran(stocked, "sums")["written"] == 2
    stocked.orders(("o9", "eve", 900.0))
    assert ran(stocked, "sums")["written"] == 3
    assert rows(stocked, "SELECT customer, n FROM gold.sums ORDER BY customer") == [
        {"customer": "ann", "n": 2},
        {"customer": "bob", "n": 2},
        {"customer": "eve", "n": 1},
    ]
    stocked.declare("jobs/sums.sql", f"INSERT INTO gold.sums\n{query}")
    astray = stocked("run", "sums")
    assert astray.code == 1
    assert "holds nothing" in astray.err
    assert "lakeflow run sums --mode snapshot" in astray.err
    assert ran(stocked, "sums", "--mode", "snapshot")["written"] == 3
    stocked.orders(("o10", "eve", 100.0))
    assert stocked("plan", "sums", "--output", "json").json["jobs"][0]["state"] == "lakeflow.state_sums"
    assert (ran(stocked, "sums")["read"], len(rows(stocked, "SELECT * FROM gold.sums"))) == (1, 3)
    assert rows(stocked, "SELECT n FROM gold.sums WHERE customer = 'eve'") == [{"n": 2}]
    stocked.declare("jobs/sums.sql", "INSERT INTO gold.sums\nSELECT median(amount) AS m FROM bronze.orders;")
    refused = stocked("run", "sums")
    assert refused.code == 2
    assert "jobs/sums.sql: job 'sums': line 2:" in refused.err
    assert "MEDIAN cannot be put together from parts" in refused.err
    assert "INSERT OVERWRITE gold.sums" in refused.err
    planned = stocked("plan", "sums", "--output", "json")
    assert planned.code == 1
    assert "MEDIAN" in planned.json["jobs"][0]["problem"]


def test_a_lookup_is_whole_and_the_read_is_new(stocked: Shop) -> None:
    add(stocked, "dim.customers", CUSTOMERS)
    stocked.declare(
        "jobs/cities.sql",
        "INSERT INTO gold.cities SELECT o.order_id, c.city FROM bronze.orders AS o "
        "LEFT JOIN dim.customers FOR SYSTEM_TIME AS OF PROCTIME() AS c ON c.customer = o.customer;",
    )
    assert ran(stocked, "cities")["read"] == 4
    add(stocked, "dim.customers", pa.table({"customer": ["eve"], "city": ["Rome"]}))
    assert ran(stocked, "cities")["status"] == "empty"
    stocked.orders(("o9", "eve", 900.0), ("o10", "bob", 1.0))
    assert ran(stocked, "cities")["read"] == 2
    found = rows(stocked, "SELECT * FROM gold.cities WHERE order_id IN ('o9', 'o10') ORDER BY city")
    assert found == [{"order_id": "o10", "city": "Bonn"}, {"order_id": "o9", "city": "Rome"}]
    [shown] = [job for job in stocked.json("jobs", "list") if job["name"] == "cities"]
    assert (shown["reads"], shown["lookups"]) == (["bronze.orders"], ["dim.customers"])


def test_a_model_is_asked_for_the_rows_that_are_left_and_once(stocked: Shop) -> None:
    with_model(stocked)
    stocked.declare(
        "jobs/doubled.sql",
        "INSERT INTO gold.doubled SELECT order_id, twice "
        "FROM ML_PREDICT(TABLE bronze.orders, MODEL double, DESCRIPTOR(amount)) WHERE amount > 100;",
    )
    assert stocked.json("jobs", "show", "doubled")["models"] == ["double"]
    assert stocked.json("plan", "doubled")["jobs"][0]["models"] == ["double"]
    assert asked(stocked) == 0
    ended = ran(stocked, "doubled")
    assert (ended["read"], ended["written"], ended["filtered"]) == (4, 3, 1)
    assert asked(stocked) == 3
    assert ended["model_versions"] == ["double$1"]
    stocked.orders(("o9", "eve", 900.0))
    ran(stocked, "doubled")
    assert asked(stocked) == 1
    assert rows(stocked, "SELECT twice FROM gold.doubled WHERE order_id = 'o9'") == [{"twice": 1800.0}]


@pytest.mark.parametrize(("on_error", "counted"), [("skip", "skipped"), ("dead_letter", "dead_lettered")])
def test_rows_without_an_answer_are_left_out_and_counted(stocked: Shop, on_error: str, counted: str) -> None:
    with_model(stocked, f", 'on_error' = '{on_error}'")
    stocked.orders(("o13", "eve", 13.0))
    stocked.declare(
        "jobs/doubled.sql",
        "INSERT INTO gold.doubled SELECT order_id, twice "
        "FROM ML_PREDICT(TABLE bronze.orders, MODEL double, DESCRIPTOR(amount));",
    )
    ended = ran(stocked, "doubled")
    assert (ended["read"], ended["written"], ended[counted], ended["filtered"]) == (5, 4, 1, 0)
    assert rows(stocked, "SELECT order_id FROM gold.doubled WHERE order_id = 'o13'") == []


def test_answers_from_what_was_found_are_the_same_in_both_modes(stocked: Shop) -> None:
    """Search, put the hits together, ask a model: new questions alone are asked, and a snapshot run says the same."""
    stocked.declare("answering.py", ANSWERING)
    stocked.declare("tables/answering.sql", ANSWERS_DECLARED)
    stocked.declare("jobs/answers.sql", ANSWERS)
    vectors = pa.list_(pa.float32())
    docs = {"body": ["north", "east", "south"], "embedding": pa.array([[0.0, 1.0], [1.0, 0.0], [0.0, -1.0]], vectors)}
    add(stocked, "bronze.known", pa.table(docs))
    add(stocked, "bronze.asked", pa.table({"id": [1, 2], "at": pa.array([[0.1, 1.0], [1.0, 0.1]], vectors)}))
    assert ran(stocked, "answers")["written"] == 2
    add(stocked, "bronze.asked", pa.table({"id": [3], "at": pa.array([[0.9, -1.0]], vectors)}))
    assert ran(stocked, "answers")["written"] == 1
    found = rows(stocked, "SELECT * FROM gold.answers ORDER BY id")
    assert found == [
        {"id": 1, "answer": "SAY NORTH AND EAST"},
        {"id": 2, "answer": "SAY EAST AND NORTH"},
        {"id": 3, "answer": "SAY SOUTH AND EAST"},
    ]
    ran(stocked, "answers", "--mode", "snapshot")
    assert rows(stocked, "SELECT * FROM gold.answers ORDER BY id") == found


def test_a_model_that_leaves_rows_out_is_no_value(stocked: Shop) -> None:
    with_model(stocked, ", 'on_error' = 'skip'")
    stocked.declare(
        "jobs/doubled.sql", "INSERT INTO gold.d SELECT order_id, ML_PREDICT(MODEL double, amount) AS x FROM bronze.orders;"
    )
    refused = stocked("run", "doubled")
    assert refused.code == 2
    assert "asks model 'double' within an expression" in refused.err
    with_model(stocked)
    assert ran(stocked, "doubled")["written"] == 4


def test_a_primary_key_of_the_target_keeps_the_last_row(stocked: Shop) -> None:
    stocked.declare(
        "tables/latest.sql", "CREATE TABLE gold.latest (customer STRING, amount DOUBLE, PRIMARY KEY (customer) NOT ENFORCED);"
    )
    stocked.declare("jobs/latest.sql", "INSERT INTO gold.latest SELECT customer, amount FROM bronze.orders;")
    ran(stocked, "latest")
    stocked.orders(("o9", "ann", 9.0))
    ran(stocked, "latest")
    expected = [{"customer": "ann", "amount": 9.0}, {"customer": "bob", "amount": 250.0}]
    assert rows(stocked, "SELECT * FROM gold.latest ORDER BY customer") == expected
    ran(stocked, "latest", "--mode", "snapshot")
    assert rows(stocked, "SELECT * FROM gold.latest ORDER BY customer") == expected


def test_a_statement_set_is_a_job_a_target(stocked: Shop) -> None:
    stocked.declare(
        "jobs/split.sql",
        "SET 'lakeflow.max-files' = '1'; BEGIN STATEMENT SET;"
        "INSERT INTO gold.small_ones SELECT order_id FROM bronze.orders WHERE amount < 100;"
        "INSERT INTO gold.others SELECT order_id FROM bronze.orders WHERE amount >= 100; END;",
    )
    found = {row["name"]: row for row in stocked.json("run", "split.small_ones", "split.others")}
    assert {name: (row["written"], row["commits"]) for name, row in found.items()} == {
        "split.small_ones": (1, 2),
        "split.others": (3, 2),
    }


def test_columns_go_by_place_into_what_is_declared(stocked: Shop) -> None:
    stocked.declare(
        "tables/ids.sql", "CREATE TABLE gold.ids (id STRING NOT NULL, total BIGINT, more STRING) PARTITIONED BY (id);"
    )
    stocked.declare(
        "jobs/ids.sql", "INSERT OVERWRITE gold.ids (total, id) SELECT count(*), customer FROM bronze.orders GROUP BY 2;"
    )
    ran(stocked, "ids")
    assert rows(stocked, "SELECT * FROM gold.ids ORDER BY id") == [
        {"id": "ann", "total": 2, "more": None},
        {"id": "bob", "total": 2, "more": None},
    ]


def test_create_table_as_makes_its_table_as_it_says(stocked: Shop) -> None:
    stocked.declare(
        "jobs/made.sql", "CREATE TABLE gold.made PARTITIONED BY (customer) AS SELECT order_id, customer FROM bronze.orders;"
    )
    assert ran(stocked, "made")["written"] == 4
    assert [field.name for field in stocked.project.lake.table("gold.made").spec().fields] == ["customer"]
    stocked.orders(("o9", "eve", 900.0))
    assert ran(stocked, "made")["written"] == 1


def test_what_is_wrong_in_a_query_is_told_by_the_plan_with_its_place(stocked: Shop) -> None:
    stocked.declare("jobs/wrong.sql", "INSERT INTO gold.wrong\nSELECT amuont FROM bronze.orders;")
    planned = stocked("plan", "wrong", "--output", "json")
    assert planned.code == 1
    [problem] = [job["problem"] for job in planned.json["jobs"]]
    assert problem.startswith("jobs/wrong.sql: job 'wrong': line 2:8:")
    assert "amount" in problem
    stocked.declare(
        "jobs/wrong.sql",
        "INSERT INTO gold.wrong SELECT amount FROM ML_PREDICT(TABLE bronze.orders, MODEL no, DESCRIPTOR(amount));",
    )
    assert "unknown model 'no'" in stocked("plan", "wrong", "--output", "json").json["jobs"][0]["problem"]


def test_a_query_does_not_read_what_it_writes(stocked: Shop) -> None:
    stocked.declare("jobs/again.sql", "INSERT INTO gold.again SELECT order_id FROM bronze.orders;")
    ran(stocked, "again")
    refused = stocked("run", "again", "--into", "bronze.orders", "--mode", "snapshot")
    assert refused.code == 2
    assert "job 'again' reads bronze.orders, so it cannot write to it" in refused.err


def test_what_a_query_meets_in_the_rows_fails_the_job_and_leaves_nothing(stocked: Shop) -> None:
    stocked.declare("jobs/casts.sql", "INSERT INTO gold.casts SELECT CAST(order_id AS INT) AS id FROM bronze.orders;")
    failed = stocked("run", "casts")
    assert failed.code == 1
    assert "job 'casts' (jobs/casts.sql:1) failed" in failed.err
    assert rows(stocked, "SELECT * FROM gold.casts") == []
    stocked.declare(
        "jobs/casts.sql", "INSERT INTO gold.casts SELECT CAST(substr(order_id, 2) AS INT) AS id FROM bronze.orders;"
    )
    assert ran(stocked, "casts")["written"] == 4


def test_a_materialized_table_is_suspended_resumed_and_refreshed(stocked: Shop) -> None:
    stocked.declare(
        "jobs/totals_by.sql",
        "CREATE MATERIALIZED TABLE gold.by_customer FRESHNESS = INTERVAL '1' SECOND "
        "AS SELECT customer, sum(amount) AS amount FROM bronze.orders GROUP BY customer;",
    )
    assert ran(stocked, "totals_by")["mode"] == "incremental"
    stocked.orders(("o9", "eve", 900.0))
    assert stocked("sql", "-e", "ALTER MATERIALIZED TABLE gold.by_customer SUSPEND").code == 0
    assert ran(stocked, "totals_by")["status"] == "suspended"
    assert len(rows(stocked, "SELECT * FROM gold.by_customer")) == 2
    states = {row["name"]: row["state"] for row in stocked.json("status")}
    assert states["totals_by"].startswith("suspended")
    assert stocked("sql", "-e", "ALTER MATERIALIZED TABLE gold.by_customer REFRESH").code == 0
    assert len(rows(stocked, "SELECT * FROM gold.by_customer")) == 3
    assert stocked("sql", "-e", "ALTER MATERIALIZED TABLE gold.by_customer RESUME").code == 0
    assert ran(stocked, "totals_by")["status"] == "empty"


@posix
def test_follow_refreshes_a_materialized_table_by_its_freshness(stocked: Shop) -> None:
    stocked.declare("jobs/stops.py", STOPS)
    stocked.declare(
        "jobs/hourly.sql",
        "CREATE MATERIALIZED TABLE gold.hourly FRESHNESS = INTERVAL '1' HOUR AS SELECT count(*) AS n FROM bronze.orders;",
    )
    followed = stocked("run", "hourly", "every_round", "--follow", "--every", "0.1")
    assert followed.code == 143, followed.err
    assert len(stocked.json("runs", "--name", "every_round")) > 1
    assert len(stocked.json("runs", "--name", "hourly")) == 1


@pytest.mark.parametrize("moment", ["FOR SYSTEM_TIME AS OF PROCTIME()", "FOR SYSTEM_TIME AS OF CURRENT_TIMESTAMP"])
def test_a_table_at_a_moment_alone_can_be_overwritten_from(stocked: Shop, moment: str) -> None:
    stocked.declare("jobs/copy.sql", f"INSERT OVERWRITE gold.copy SELECT order_id FROM bronze.orders {moment} AS o;")
    assert ran(stocked, "copy")["written"] == 4
    assert ran(stocked, "copy")["written"] == 4
    refused = stocked("run", "copy", "--mode", "incremental")
    assert refused.code == 2
    assert "all tables are read at moments" in refused.err


def test_a_tag_is_read_as_it_was(stocked: Shop) -> None:
    table = stocked.project.lake.table("bronze.orders")
    snapshot = table.current_snapshot()
    assert snapshot is not None
    table.manage_snapshots().create_tag(snapshot.snapshot_id, "then").commit()
    stocked.orders(("o9", "eve", 900.0))
    stocked.declare(
        "jobs/seen.sql",
        "INSERT INTO gold.seen SELECT o.order_id, o.order_id IN (SELECT order_id FROM bronze.orders FOR VERSION AS OF 'then') "
        "AS seen FROM bronze.orders AS o;",
    )
    ran(stocked, "seen")
    stocked.orders(("o10", "eve", 1.0))
    ran(stocked, "seen")
    found = rows(stocked, "SELECT order_id FROM gold.seen WHERE NOT seen ORDER BY order_id")
    assert [row["order_id"] for row in found] == ["o10", "o9"]


def test_a_job_in_sql_is_shown_with_its_query(stocked: Shop) -> None:
    stocked.declare("jobs/big.sql", LARGE)
    shown = stocked.json("jobs", "show", "big")
    assert shown["query"].startswith("SELECT order_id")
    assert (shown["incremental"], shown["freshness"], shown["target"]) == ("yes", None, "gold.big")


def test_a_lookup_that_is_new_is_made_first(stocked: Shop) -> None:
    """The graph goes by lookups too."""
    stocked.declare(
        "jobs/a_first.sql",
        "INSERT INTO gold.first SELECT o.order_id FROM bronze.orders AS o "
        "JOIN gold.big FOR SYSTEM_TIME AS OF PROCTIME() AS b ON b.order_id = o.order_id;",
    )
    stocked.declare("jobs/big.sql", LARGE)
    found = {row["name"]: row["written"] for row in stocked.json("run", "a_first", "big")}
    assert found == {"big": 3, "a_first": 3}


def test_the_graph_knows_what_queries_read(stocked: Shop) -> None:
    stocked.declare("jobs/a_last.sql", "INSERT INTO gold.last SELECT * FROM gold.big;")
    stocked.declare("jobs/big.sql", LARGE)
    names = [row["name"] for row in stocked.json("run", "a_last", "big")]
    assert names == ["big", "a_last"]
    assert len(rows(stocked, "SELECT * FROM gold.last")) == 3


def test_a_file_that_is_no_job_is_refused_with_its_place(stocked: Shop) -> None:
    stocked.declare("jobs/none.sql", "SELECT 1;")
    refused = stocked("jobs", "list")
    assert refused.code == 2
    assert "jobs/none.sql:1:1" in refused.err


def spilled(folder: Path) -> list[str]:
    return [name for _, _, names in os.walk(folder / ".lakeflow" / "tmp") for name in names]


def test_nothing_is_left_in_the_folder_for_what_waits_on_disk(stocked: Shop) -> None:
    stocked.declare("jobs/big.sql", LARGE)
    ran(stocked, "big")
    assert spilled(stocked.folder) == []


SPLIT = (
    "BEGIN STATEMENT SET;"
    "INSERT INTO gold.small_ones SELECT order_id FROM bronze.orders WHERE amount < 100;"
    "INSERT INTO gold.twice SELECT order_id, ML_PREDICT(MODEL double, amount) AS twice FROM bronze.orders;"
    "INSERT INTO gold.others SELECT order_id FROM bronze.orders WHERE amount >= 100; END;"
)


def test_jobs_of_a_statement_set_run_side_by_side_and_are_recorded_apart(stocked: Shop) -> None:
    with_model(stocked)
    stocked.declare("jobs/split.sql", SPLIT)
    stocked.orders(("o9", "eve", 900.0))
    found = {row["name"]: row for row in stocked.json("run", "split.small_ones", "split.others", "split.twice")}
    assert {name: (row["status"], row["read"], row["written"]) for name, row in found.items()} == {
        "split.others": ("done", 5, 4),
        "split.small_ones": ("done", 5, 1),
        "split.twice": ("done", 5, 5),
    }
    recorded = rows(stocked, "SELECT name, status, models FROM lakeflow.runs ORDER BY name")
    assert recorded == [
        {"name": "split.others", "status": "done", "models": []},
        {"name": "split.small_ones", "status": "done", "models": []},
        {"name": "split.twice", "status": "done", "models": ["double$1"]},
    ]
    again = stocked.json("run", "split.small_ones", "split.others", "split.twice")
    assert [row["status"] for row in again] == ["empty"] * 3


def test_a_job_of_a_statement_set_that_fails_leaves_the_others_done(stocked: Shop) -> None:
    with_model(stocked)
    stocked.declare("jobs/split.sql", SPLIT)
    stocked.orders(("o13", "eve", 13.0))
    done = stocked("run", "split.small_ones", "split.others", "split.twice", "--output", "json")
    assert done.code == 1
    assert "thirteen" in done.err
    assert {row["name"]: (row["status"], row["commits"]) for row in done.json} == {
        "split.others": ("done", 1),
        "split.small_ones": ("done", 1),
        "split.twice": ("failed", 0),
    }
    assert rows(stocked, "SELECT count(*) AS n FROM gold.small_ones") == [{"n": 2}]
