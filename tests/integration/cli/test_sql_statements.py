"""Statements about tables, indexes and materialized tables, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli.conftest import Shop

TABLE = (
    "CREATE TABLE gold.notes (id BIGINT NOT NULL, at TIMESTAMP_LTZ(6), body STRING COMMENT 'as written') "
    "PARTITIONED BY (day(at));"
)


def sql(shop: Shop, text: str, *more: str) -> list[dict[str, Any]]:
    ran = shop("sql", "-e", text, "--output", "json", *more)
    assert ran.code == 0, ran.err
    return [json.loads(line) for line in ran.out.splitlines()]


def test_a_table_lives_from_create_to_drop(stocked: Shop) -> None:
    done = sql(
        stocked,
        TABLE
        + """
        INSERT INTO gold.notes (id, body) VALUES (1, 'one'), (2, NULL);
        ALTER TABLE gold.notes ADD (tags ARRAY<STRING> AFTER id, stars INT);
        ALTER TABLE gold.notes RENAME body TO text;
        ALTER TABLE gold.notes MODIFY stars BIGINT FIRST;
        INSERT INTO gold.notes (id, stars, tags) SELECT 3, 5, ['a', 'b'];
        ALTER TABLE gold.notes RENAME TO gold.remarks;
        """,
    )
    assert [row["status"] for row in done] == [
        "created",
        "done",
        "changed",
        "changed",
        "changed",
        "done",
        "renamed from gold.notes",
    ]
    assert sql(stocked, "SELECT * FROM gold.remarks ORDER BY id") == [
        {"stars": None, "id": 1, "tags": None, "at": None, "text": "one"},
        {"stars": None, "id": 2, "tags": None, "at": None, "text": None},
        {"stars": 5, "id": 3, "tags": ["a", "b"], "at": None, "text": None},
    ]
    types = {row["name"]: row["type"] for row in sql(stocked, "DESCRIBE gold.remarks")}
    assert types == {"stars": "BIGINT", "id": "BIGINT", "tags": "ARRAY<STRING>", "at": "TIMESTAMP_LTZ(6)", "text": "STRING"}
    [dropped] = sql(stocked, "DROP TABLE gold.remarks", "--yes")
    assert dropped["status"].startswith("dropped; its files are left at ")
    assert {"table": "gold.remarks", "state": None} not in sql(stocked, "SHOW TABLES")


def test_a_table_is_not_dropped_without_a_word(stocked: Shop) -> None:
    sql(stocked, TABLE)
    ran = stocked("sql", "-e", "DROP TABLE gold.notes")
    assert ran.code != 0
    assert "--yes" in ran.err
    assert sql(stocked, "SELECT count(*) AS n FROM gold.notes") == [{"n": 0}]


def test_a_table_is_shown_and_made_again_by_what_is_shown(stocked: Shop) -> None:
    [shown] = sql(stocked, TABLE + "SHOW CREATE TABLE gold.notes")[1:]
    assert "body STRING COMMENT 'as written'" in shown["sql"]
    assert "PARTITIONED BY (day(at))" in shown["sql"]
    [again] = sql(stocked, shown["sql"].replace("gold.notes", "gold.copied") + "SHOW CREATE TABLE gold.copied")[1:]
    assert again["sql"] == shown["sql"].replace("gold.notes", "gold.copied")


def test_what_is_a_declaration_becomes_a_file_that_is_used_at_once(stocked: Shop) -> None:
    made = sql(
        stocked,
        "CREATE TABLE gold.by_customer (customer STRING, amount DOUBLE, PRIMARY KEY (customer) NOT ENFORCED);"
        "SET 'execution.runtime-mode' = 'streaming'; SET 'pipeline.name' = 'latest'; SET 'lakeflow.max-files' = '1';"
        "INSERT INTO gold.by_customer SELECT customer, amount FROM bronze.orders; SHOW JOBS LIKE 'latest'",
    )
    assert (
        made[0]["status"] == "declared in tables/gold.by_customer.sql; next: the first run of the job that writes it makes it"
    )
    assert made[-2]["status"] == "declared in jobs/latest.sql; next: lakeflow run latest"
    assert made[-1]["target"] == "gold.by_customer"
    assert (stocked.folder / "jobs" / "latest.sql").read_text(encoding="utf-8") == (
        "SET 'lakeflow.max-files' = '1';\nINSERT INTO gold.by_customer\nSELECT customer, amount FROM bronze.orders;\n"
    )
    [ran] = stocked.json("run", "latest")
    assert (ran["written"], ran["commits"]) == (4, 2)
    assert len(sql(stocked, "SELECT * FROM gold.by_customer")) == 2
    [dropped] = sql(stocked, "DROP TABLE gold.by_customer", "--yes")
    assert dropped["status"].endswith("tables/gold.by_customer.sql is deleted")


def test_what_a_file_with_more_declares_is_changed_there(stocked: Shop) -> None:
    ran = stocked("sql", "-e", "ALTER TABLE bronze.orders ADD x INT")
    assert ran.code == 2
    assert "tables/shop.sql holds more than the statement at tables/shop.sql:2" in ran.err


def test_a_materialized_table_is_declared_run_and_dropped(stocked: Shop) -> None:
    statement = (
        "CREATE MATERIALIZED TABLE IF NOT EXISTS gold.sums FRESHNESS = INTERVAL '3' MINUTE "
        "AS SELECT customer, sum(amount) AS total FROM bronze.orders GROUP BY customer"
    )
    assert sql(stocked, statement)[0]["status"] == "declared in jobs/gold.sums.sql; next: lakeflow run gold.sums"
    assert sql(stocked, statement)[0]["status"] == "there already"
    assert sql(stocked, "ALTER MATERIALIZED TABLE gold.sums REFRESH")[0]["status"] == "done"
    ran = stocked("sql", "-e", "DROP MATERIALIZED TABLE gold.sums")
    assert "Drop table gold.sums from the catalog, and delete jobs/gold.sums.sql?" in ran.err
    assert sql(stocked, "DROP MATERIALIZED TABLE gold.sums", "--yes")[0]["status"] == "dropped; jobs/gold.sums.sql is deleted"
    assert stocked("run", "gold.sums").code == 2


def test_a_mistake_names_the_line_and_column_of_the_file_and_nothing_runs(stocked: Shop, tmp_path: Path) -> None:
    file = tmp_path / "many.sql"
    file.write_text(TABLE + "\nALTER TABLE gold.notes\n  RENAM body TO text;", encoding="utf-8")
    ran = stocked("sql", str(file))
    assert ran.code == 2
    assert "many.sql:3:3: expected what ALTER TABLE changes, found 'RENAM'; did you mean 'RENAME'?" in ran.err
    assert "  3 |   RENAM body TO text;\n    |   ^^^^^" in ran.err
    assert "gold.notes" not in [row["table"] for row in sql(stocked, "SHOW TABLES")]


def test_a_continuous_table_is_made_anew_by_refresh_and_goes_on_from_there(stocked: Shop) -> None:
    stocked.declare("jobs/big.sql", "CREATE MATERIALIZED TABLE gold.big AS SELECT order_id, amount FROM bronze.orders;")
    assert stocked("run", "big").code == 0
    before = sql(stocked, "SELECT * FROM gold.big ORDER BY order_id")
    stocked.orders(("o9", "eve", 900.0))
    [refreshed] = sql(stocked, "ALTER MATERIALIZED TABLE gold.big REFRESH")
    assert (refreshed["status"], refreshed["written"]) == ("done", len(before) + 1)
    stocked.orders(("o91", "eve", 901.0))
    assert stocked("run", "big").code == 0
    after = sql(stocked, "SELECT * FROM gold.big ORDER BY order_id")
    new = [{"order_id": "o9", "amount": 900.0}, {"order_id": "o91", "amount": 901.0}]
    assert sorted(after, key=lambda row: row["order_id"]) == sorted(before + new, key=lambda row: row["order_id"])
    assert [run["mode"] for run in stocked.json("runs", "--name", "big")] == ["incremental", "snapshot", "incremental"]
    [shown] = sql(stocked, "SHOW CREATE MATERIALIZED TABLE gold.big")
    assert shown["sql"] == (
        "CREATE MATERIALIZED TABLE gold.big\nREFRESH_MODE = CONTINUOUS\nAS\nSELECT order_id, amount FROM bronze.orders;"
    )


@pytest.mark.parametrize(
    "text", ["SHOW JOBS", "SHOW VECTOR INDEXES", "SHOW NAMESPACES", "SHOW TABLES", "DESCRIBE VECTOR INDEX docs_index"]
)
def test_what_there_is_is_shown_to_people_too(stocked: Shop, text: str) -> None:
    ran = stocked("sql", "-e", text)
    assert ran.code == 0, ran.err
    assert len(ran.out.splitlines()) > 1


def test_a_table_is_described_at_length(stocked: Shop) -> None:
    facts = sql(stocked, "DESCRIBE EXTENDED bronze.orders")[-1]
    told = {"table": "bronze.orders", "state": None, "partitioned_by": None, "comment": None}
    assert told.items() <= facts.items()
    assert facts["options"]["value.format"] == "json"
    assert facts["rows"] > 0
    ran = stocked("sql", "-e", "DESCRIBE EXTENDED bronze.orders")
    assert ran.code == 0, ran.err
    assert "value.format" in ran.out
