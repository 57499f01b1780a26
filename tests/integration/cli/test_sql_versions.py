"""Tables joined as of each row's own time, in queries and in jobs: by the history of snapshots, and by columns that say so."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from lakeflow.declare import TableSpec
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.read import snapshot_at
from tests import lakes
from tests.integration.cli.conftest import Shop
from tests.integration.cli.test_sql_jobs import add, ran, rows

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
JOB = """
INSERT INTO gold.priced
SELECT o.id, p.price FROM bronze.sold AS o
LEFT JOIN dim.prices FOR SYSTEM_TIME AS OF o.at AS p ON p.item = o.item;
"""


def sold(*events: tuple[int, datetime | None], kind: pa.DataType = pa.timestamp("us", "UTC")) -> pa.Table:
    naive = kind.tz is None
    times = [at.replace(tzinfo=None) if naive and at else at for _, at in events]
    return pa.table({"id": [number for number, _ in events], "item": ["tea"] * len(events), "at": pa.array(times, kind)})


def price(value: float) -> pa.Table:
    return pa.table({"item": ["tea", "ink"], "price": [value, 0.5]})


def replace(shop: Shop, table: str, rows_: pa.Table) -> datetime:
    """Put the rows in place of all; the time from which the table has them."""
    lake = shop.project.lake
    lake.ensure(TableSpec(table, rows_.schema))
    time.sleep(0.003)  # snapshots are told apart by milliseconds
    change = Change(table, lakes.written(lake.table(table), rows_), replace_all=True)
    Committer(lake, keep_snapshots=100).commit(change)
    head = snapshot_at(lake.table(table))
    assert head is not None
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=head.timestamp_ms)


def priced(shop: Shop) -> dict[int, float | None]:
    return {row["id"]: row["price"] for row in rows(shop, "SELECT id, price FROM gold.priced")}


@pytest.mark.parametrize("zone", ["UTC", None])
def test_a_job_sees_the_price_of_the_moment_by_the_tables_history(shop: Shop, zone: str | None) -> None:
    first = replace(shop, "dim.prices", price(1.0))
    second = replace(shop, "dim.prices", price(2.0))
    moments = [first - timedelta(hours=1), first, second - timedelta(milliseconds=1), second, second + timedelta(days=1)]
    add(shop, "bronze.sold", sold(*enumerate(moments), (9, None), kind=pa.timestamp("us", zone)))
    shop.declare("jobs/priced.sql", JOB)
    assert ran(shop, "priced")["written"] == 6
    expected = {0: None, 1: 1.0, 2: 1.0, 3: 2.0, 4: 2.0, 9: None}
    assert priced(shop) == expected
    third = replace(shop, "dim.prices", price(3.0))
    add(shop, "bronze.sold", sold((5, first), (6, third), kind=pa.timestamp("us", zone)))
    assert ran(shop, "priced")["read"] == 2
    assert priced(shop) == expected | {5: 1.0, 6: 3.0}
    # What had not been known when it was read: the event of the day after sees the price of now once all is read anew.
    assert ran(shop, "priced", "--mode", "snapshot")["written"] == 8
    assert priced(shop) == expected | {4: 3.0, 5: 1.0, 6: 3.0}


@pytest.mark.parametrize("until", [True, False])
def test_columns_may_say_when_a_row_is_valid(shop: Shop, until: bool) -> None:
    ends = "valid_until TIMESTAMP_LTZ(6), " if until else ""
    option = ", 'valid_until' = 'valid_until'" if until else ""
    shop.declare(
        "tables/prices.sql",
        f"CREATE TABLE dim.prices (item STRING NOT NULL, price DOUBLE, valid_from TIMESTAMP_LTZ(6) NOT NULL, {ends}"
        f"PRIMARY KEY (item, valid_from) NOT ENFORCED) WITH ('valid_from' = 'valid_from'{option});".replace(
            "(item, valid_from) NOT", "(item) NOT"
        ),
    )
    starts, stops = [NOON, NOON + timedelta(hours=2)], [NOON + timedelta(hours=2), None]
    columns = {"item": ["tea", "tea"], "price": [1.0, 2.0], "valid_from": pa.array(starts, pa.timestamp("us", "UTC"))}
    if until:
        columns["valid_until"] = pa.array(stops, pa.timestamp("us", "UTC"))
    spec = shop.project.declared_tables.tables["dim.prices"]
    shop.project.lake.ensure(spec)
    lakes.append(shop.project.lake, pa.table(columns, schema=spec.schema), name="dim.prices")
    hours = [-1, 0, 1, 2, 50]
    add(shop, "bronze.sold", sold(*((hour, NOON + timedelta(hours=hour)) for hour in hours)))
    found = rows(
        shop,
        "SELECT o.id, p.* FROM bronze.sold o JOIN dim.prices FOR SYSTEM_TIME AS OF o.at AS p ON p.item = o.item ORDER BY o.id",
    )
    assert [(row["id"], row["price"]) for row in found] == [(0, 1.0), (1, 1.0), (2, 2.0), (50, 2.0)]
    assert set(found[0]) == {"id", *columns}, "what tells the versions apart is not shown"


def test_star_shows_the_columns_of_the_tables_alone(shop: Shop) -> None:
    replace(shop, "dim.prices", price(1.0))
    add(shop, "bronze.sold", sold((1, datetime(2100, 1, 1, tzinfo=UTC))))
    text = (
        "SELECT * FROM bronze.sold AS o JOIN dim.prices FOR SYSTEM_TIME AS OF o.at AS p ON p.item = o.item "
        "JOIN dim.prices FOR SYSTEM_TIME AS OF o.at AS q ON q.item = 'ink'"
    )
    [row] = rows(shop, text)
    assert len(row) == 7
    assert not [name for name in row if "valid" in name]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM bronze.sold o, dim.prices FOR SYSTEM_TIME AS OF o.at AS p", "JOIN or LEFT JOIN"),
        ("FROM bronze.sold o JOIN dim.prices FOR SYSTEM_TIME AS OF o.at AS p USING (item)", "JOIN or LEFT JOIN"),
        ("FROM bronze.sold o NATURAL JOIN dim.prices FOR SYSTEM_TIME AS OF o.at AS p", "JOIN or LEFT JOIN"),
        ("FROM bronze.sold o RIGHT JOIN dim.prices FOR SYSTEM_TIME AS OF o.at AS p ON true", "JOIN or LEFT JOIN"),
        ("FROM bronze.sold o JOIN dim.prices FOR SYSTEM_TIME AS OF o.att AS p ON true", "did you mean 'at'"),
        ("FROM bronze.sold o JOIN dim.prices FOR SYSTEM_TIME AS OF o.item AS p ON true", "item"),
    ],
)
def test_what_is_no_such_join_is_refused(shop: Shop, text: str, message: str) -> None:
    replace(shop, "dim.prices", price(1.0))
    add(shop, "bronze.sold", sold((1, NOON)))
    done = shop("query", f"SELECT o.id {text}")
    assert done.code in (1, 2), done.out
    assert message in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("options", "key", "message"),
    [
        ("'valid_until' = 'price'", "", "needs 'valid_from'"),
        ("'valid_from' = 'price'", "", "PRIMARY KEY"),
        ("'valid_from' = 'form'", ", PRIMARY KEY (item) NOT ENFORCED", "unknown column of dim.prices"),
    ],
)
def test_options_that_do_not_go_together(shop: Shop, options: str, key: str, message: str) -> None:
    shop.declare("tables/prices.sql", f"CREATE TABLE dim.prices (item STRING NOT NULL, price DOUBLE{key}) WITH ({options});")
    shop.project.lake.ensure(shop.project.declared_tables.tables["dim.prices"])
    add(shop, "bronze.sold", sold((1, NOON)))
    done = shop("query", "SELECT 1 FROM bronze.sold o JOIN dim.prices FOR SYSTEM_TIME AS OF o.at AS p ON p.item = o.item")
    assert done.code == 2
    assert message in done.err
