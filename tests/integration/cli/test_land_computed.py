"""Computed columns of landings: from the declaration to the rows, to dead letters and their replay, and back to SQL text."""

from __future__ import annotations

import datetime as dt

import pytest

from tests.integration.cli.landings import TABLE, TOPIC, Site, in_json

ORDERS = """
CREATE TABLE bronze.items (
  id BIGINT, price DECIMAL(10, 2), amount INT, ms BIGINT, code STRING,
  sent TIMESTAMP_LTZ(3) METADATA FROM 'timestamp',
  cost AS price * amount COMMENT 'what is paid',
  ordered AS make_timestamp(ms * 1000),
  number AS CAST(code AS INT),
  WATERMARK FOR ordered AS ordered - INTERVAL '5' MINUTE
)
PARTITIONED BY (day(ordered))
WITH ('connector' = 'kafka', 'topic' = 'items', 'value.format' = 'json', 'on_error' = 'dead_letter'{more});
"""
DAY = 86_400_000


def order(number: int, code: str | None = "7", price: str = "2.50") -> tuple[None, bytes]:
    return None, in_json({"id": number, "price": price, "amount": 3, "ms": number * DAY, "code": code})


def test_columns_are_computed_as_rows_land_and_partition_them(site: Site) -> None:
    site.declare(ORDERS.replace("{more}", ""))
    site.send(TOPIC, order(1), order(2, None), order(3, "x"), order(4))
    landed = site.landed()
    assert (landed["written"], landed["dead_lettered"]) == (3, 1)
    found = site.rows(TABLE, "SELECT id, cost::DOUBLE, ordered, number FROM rows ORDER BY id")
    assert found == [
        (1, 7.5, dt.datetime(1970, 1, 2), 7),
        (2, 7.5, dt.datetime(1970, 1, 3), None),
        (4, 7.5, dt.datetime(1970, 1, 5), 7),
    ]
    shown = site.shop("sql", "-e", "DESCRIBE bronze.items")
    assert "AS price * amount" in shown.out
    assert "what is paid" in shown.out
    letters = site.shop("deadletters", "list", TABLE)
    assert "a computed column" in letters.out + site.shop("deadletters", "show", TABLE).out
    written = site.shop("sql", "-e", "SHOW CREATE TABLE bronze.items")
    assert '"cost" AS price * amount COMMENT' in written.out.replace("`", '"') or "cost AS price * amount" in written.out


def test_a_record_that_could_not_be_computed_is_replayed_once_it_can(site: Site) -> None:
    site.declare(ORDERS.replace("{more}", ""))
    site.send(TOPIC, order(1), order(2, "x"))
    assert site.landed()["dead_lettered"] == 1
    site.declare(ORDERS.replace("{more}", "").replace("CAST(code AS INT)", "TRY_CAST(code AS INT)"))
    replayed = site.shop("deadletters", "replay", TABLE)
    assert replayed.code == 0, replayed.err
    assert site.rows(TABLE, "SELECT id, number FROM rows ORDER BY id") == [(1, 7), (2, None)]


def test_without_dead_letters_it_suspends_the_landing(site: Site) -> None:
    site.declare(ORDERS.replace("{more}", "").replace(", 'on_error' = 'dead_letter'", ""))
    site.send(TOPIC, order(1), order(2, "x"))
    refused = site.refused()
    assert "a computed column (cost, ordered, number)" in refused.err
    assert "Could not convert string 'x' to INT32" in refused.err


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("x AS prize * 2", "computed column 'x': unknown column 'prize'; did you mean 'price'"),
        ("x AS random()", "calls random(), which gives another value each time"),
        ("x AS CURRENT_TIMESTAMP", "calls CURRENT_TIMESTAMP, which gives another value each time"),
        ("x AS sum(price)", "the aggregate SUM in a computed column"),
        ("x AS row_number() OVER (ORDER BY id)", "a window function in a computed column"),
        ("x AS (SELECT 1)", "a query in a computed column"),
        ("x AS ML_PREDICT(MODEL m, id)", "a model or a search in a computed column"),
        ("x AS read_text('/etc/passwd')", "read_text"),
        ("x AS price +", "syntax error in a computed column"),
        ("x AS", "has no expression"),
        ("id AS price", "declared twice"),
        ("x AS 1; DROP TABLE y", "a computed column is an expression"),
    ],
)
def test_what_cannot_be_computed_is_refused_where_it_stands(site: Site, column: str, message: str) -> None:
    text = "CREATE TABLE bronze.items (id BIGINT, price DOUBLE, {column}) WITH ('connector' = 'kafka', 'topic' = 'items');"
    site.declare(text.replace("{column}", column))
    refused = site.refused(code=2)
    assert message in refused.err, refused.err
    assert "tables/shop.sql:1:" in refused.err


def test_like_takes_computed_columns_over_or_leaves_them(site: Site) -> None:
    site.declare(
        "CREATE TABLE bronze.first (id BIGINT, twice AS id * 2) WITH ('connector' = 'kafka', 'topic' = 'items');\n"
        "CREATE TABLE bronze.second WITH ('topic' = 'items') LIKE bronze.first;\n"
        "CREATE TABLE bronze.third WITH ('topic' = 'items') LIKE bronze.first (EXCLUDING GENERATED);\n"
    )
    site.send(TOPIC, (None, in_json({"id": 4})))
    assert len(site.land()) == 3
    assert site.rows("bronze.second") == [(4, 8)]
    assert site.rows("bronze.third") == [(4,)]
