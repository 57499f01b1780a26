"""INSERT, CREATE TABLE AS, statement sets and EXPLAIN as `lakeflow sql` runs them: once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.cli.conftest import Shop


def rows(site: Shop, table: str) -> list[tuple[Any, ...]]:
    found = site.project.table(table).collect()
    return sorted(found.rows(), key=str)


def test_a_table_is_made_filled_appended_to_and_replaced(stocked: Shop) -> None:
    ran = site_json(
        stocked,
        "CREATE TABLE gold.named (id INT, name STRING);"
        "INSERT INTO gold.named VALUES (1, 'ann'), (2, 'bob');"
        "INSERT INTO gold.named (name, id) SELECT 'eve', 3;"
        "INSERT INTO gold.named SELECT 9, customer FROM bronze.orders WHERE order_id = 'o1';"
        "INSERT INTO gold.named SELECT 9, customer FROM bronze.orders WHERE order_id = 'o1'",
    )
    assert [(one["status"], one.get("written")) for one in ran] == [
        ("created", None),
        ("done", 2),
        ("done", 1),
        ("done", 1),
        ("done", 1),
    ]
    [customer] = {name for id, name in rows(stocked, "gold.named") if id == 9}
    assert rows(stocked, "gold.named") == [(1, "ann"), (2, "bob"), (3, "eve"), (9, customer), (9, customer)]
    [replaced] = site_json(stocked, "INSERT OVERWRITE gold.named VALUES (7, 'zoe')")
    assert (replaced["statement"], replaced["written"]) == ("INSERT OVERWRITE", 1)
    assert rows(stocked, "gold.named") == [(7, "zoe")]
    [replaced] = site_json(stocked, "INSERT OVERWRITE gold.named SELECT 0, max(customer) FROM bronze.orders")
    assert (replaced["read"], replaced["written"]) == (4, 1)
    assert len(rows(stocked, "gold.named")) == 1


def test_a_table_is_made_of_a_query_once(stocked: Shop) -> None:
    query = "AS SELECT order_id, amount * 2 AS twice FROM bronze.orders WHERE amount > 100"
    [made] = site_json(stocked, f"CREATE TABLE gold.twice {query}")
    assert (made["statement"], made["written"]) == ("CREATE TABLE AS", len(rows(stocked, "gold.twice")))
    [again] = site_json(stocked, f"CREATE TABLE IF NOT EXISTS gold.twice {query}")
    assert again["status"] == "there already"
    refused = stocked("sql", "-e", f"CREATE TABLE gold.twice {query}")
    assert refused.code == 2
    assert "table gold.twice is there already\nnext: CREATE OR REPLACE TABLE gold.twice AS .." in refused.err
    [replaced] = site_json(stocked, f"CREATE OR REPLACE TABLE gold.twice {query} AND customer = 'ann'")
    assert replaced["written"] == len(rows(stocked, "gold.twice")) < made["written"]
    assert "amount" in stocked("sql", "-e", "CREATE OR REPLACE TABLE gold.twice AS SELECT * FROM bronze.orders").err
    [values] = site_json(stocked, "CREATE TABLE gold.three AS VALUES (1), (2), (3)")
    assert values["written"] == 3


def test_a_statement_set_writes_each_of_its_tables(stocked: Shop) -> None:
    ran = site_json(
        stocked,
        "CREATE TABLE gold.a (n BIGINT); CREATE TABLE gold.b (n BIGINT); BEGIN STATEMENT SET; "
        "INSERT INTO gold.a SELECT count(*) FROM bronze.orders; INSERT INTO gold.b VALUES (5); END;",
    )
    assert [one["table"] for one in ran[2:]] == ["gold.a", "gold.b"]
    assert (rows(stocked, "gold.a"), rows(stocked, "gold.b")) == ([(4,)], [(5,)])


def test_a_run_is_recorded(stocked: Shop) -> None:
    site_json(stocked, "CREATE TABLE gold.copied AS SELECT * FROM bronze.orders")
    [run] = [one for one in stocked.json("runs") if one["name"] == "lakeflow sql"]
    assert (run["status"], run["read"], run["written"]) == ("done", 4, 4)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("INSERT INTO bronze.orders VALUES ('x', 'y', 1.0)", "table bronze.orders has its writer, landing"),
        ("INSERT OVERWRITE bronze.orders SELECT * FROM gold.made", "table bronze.orders has its writer, landing"),
        ("INSERT INTO gold.made SELECT * FROM gold.made", "the statement reads gold.made, which it writes"),
        ("INSERT INTO gold.made VALUES (1, 2)", "the query gives 2 columns"),
        ("INSERT INTO gold.made VALUES ('text')", "column 'n'"),
        ("INSERT INTO gold.made SELECT nope FROM bronze.orders", "error: line 1:30: unknown column 'nope'"),
        ("CREATE MATERIALIZED TABLE gold.kept AS SELECT 1 AS one", "job 'gold.kept' reads no table"),
        ("SET 'pipeline.name' = 'x'", "is for what is run again and again"),
        ("SET 'execution.runtime-mode' = 'stream'", "did you mean 'streaming'?"),
        ("SET 'pipeline.nam' = 'x'", "unknown key of SET 'pipeline.nam'; did you mean 'pipeline.name'?"),
        ("RESET 'nope'", "unknown key of SET 'nope'"),
        ("EXPLAIN SELECT * FROM nowhere.x", "unknown table 'nowhere.x'"),
    ],
)
def test_what_cannot_be_meant_writes_nothing(stocked: Shop, statement: str, said: str) -> None:
    site_json(stocked, "CREATE TABLE gold.made (n BIGINT); INSERT INTO gold.made VALUES (1)")
    before = rows(stocked, "bronze.orders")
    ran = stocked("sql", "-e", statement)
    assert ran.code in (1, 2)
    assert said in ran.err
    assert rows(stocked, "gold.made") == [(1,)]
    assert rows(stocked, "bronze.orders") == before


def test_values_are_merged_by_the_key_of_their_table(stocked: Shop) -> None:
    ran = site_json(
        stocked,
        "CREATE TABLE gold.keyed (id INT, name STRING, PRIMARY KEY (id) NOT ENFORCED);"
        "INSERT INTO gold.keyed VALUES (1, 'ann'), (2, 'bob'), (1, 'eve');"
        "INSERT INTO gold.keyed (name, id) VALUES ('kim', 2), ('zoe', 3)",
    )
    assert [one.get("written") for one in ran] == [None, 3, 2]
    assert rows(stocked, "gold.keyed") == [(1, "eve"), (2, "kim"), (3, "zoe")]
    refused = stocked("sql", "-e", "INSERT INTO gold.keyed VALUES (4, 'leo'), (NULL, 'max')")
    assert refused.code == 1
    assert "column 'id' of table gold.keyed is required" in refused.err
    assert len(rows(stocked, "gold.keyed")) == 3
    site_json(stocked, "INSERT OVERWRITE gold.keyed VALUES (7, 'ada'), (7, 'ida')")
    assert rows(stocked, "gold.keyed") == [(7, "ida")]


def test_values_make_no_history(stocked: Shop) -> None:
    stocked.declare(
        "tables/dim.sql",
        "CREATE TABLE dim.people (id INT, name STRING, valid_from TIMESTAMP(6), valid_to TIMESTAMP(6), "
        "PRIMARY KEY (id) NOT ENFORCED) WITH ('history' = 'scd2');",
    )
    refused = stocked("sql", "-e", "INSERT INTO dim.people VALUES (1, 'ann', TIMESTAMP '2026-01-01', NULL)")
    assert refused.code == 2
    assert "table dim.people keeps every version of a row, which rows of a table make" in refused.err
    assert not stocked.project.lake.exists("dim.people")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT CAST(customer AS INT) AS n FROM bronze.orders",
        "SELECT CAST(word AS INT) AS n FROM (VALUES ('1'), ('one')) AS t(word)",
    ],
)
@pytest.mark.parametrize("statement", ["CREATE TABLE gold.broken AS {}", "INSERT INTO gold.broken {}"])
def test_a_statement_that_fails_leaves_no_table_behind(stocked: Shop, statement: str, query: str) -> None:
    refused = stocked("sql", "-e", statement.format(query))
    assert refused.code in (1, 2)
    assert "error: " in refused.err
    assert not stocked.project.lake.exists("gold.broken")
    site_json(stocked, "CREATE TABLE gold.broken AS SELECT 1 AS n")
    stocked("sql", "-e", f"CREATE OR REPLACE TABLE gold.broken AS {query}")
    assert rows(stocked, "gold.broken") == [(1,)]


def test_explain_shows_the_steps_and_what_models_are_asked(stocked: Shop) -> None:
    asking = "SELECT order_id, ML_EMBED(MODEL docs_embedding, customer) AS v FROM bronze.orders WHERE amount > 100"
    shown = stocked("sql", "-e", f"EXPLAIN INSERT INTO gold.v {asking}").out
    assert shown.startswith("insert into gold.v\n└─ ")
    assert "asks model docs_embedding" in shown
    assert "scan [bronze.orders" in shown
    [plan] = site_json(stocked, f"EXPLAIN {asking}")
    assert plan["plan"]["asks"] == ["ai_0"]
    csv = stocked("sql", "-e", f"EXPLAIN {asking}", "--output", "csv").out
    assert csv.startswith("plan\n")
    assert not stocked.project.lake.exists("gold.v")


def test_models_answer_in_two_queries_of_one_script(stocked: Shop) -> None:
    asking = "SELECT len(ML_EMBED(MODEL docs_embedding, customer)) AS width FROM bronze.orders LIMIT 1"
    first, second = site_json(stocked, f"{asking}; {asking}")
    assert first == second


def test_rows_are_written_as_csv(stocked: Shop) -> None:
    ran = stocked("sql", "-e", "SELECT 1 AS a, 'b,c' AS b; SHOW TABLES LIKE 'bronze.o%'", "--output", "csv")
    assert ran.out == 'a,b\n1,"b,c"\ntable,state\nbronze.orders,\n'


def site_json(site: Shop, script: str) -> list[dict[str, Any]]:
    """The rows that a script gives; it must succeed."""
    ran = site("sql", "-e", script, "--output", "json")
    assert ran.code == 0, ran.err
    return [json.loads(line) for line in ran.out.splitlines()]
