"""Joins within a bound through the command line: plan, run, tests of jobs, maintenance, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests import lakes
from tests.integration.cli.conftest import Shop

TABLES = """
CREATE TABLE bronze.orders (id BIGINT, at TIMESTAMP_LTZ(6)) PARTITIONED BY (day(at));
CREATE TABLE bronze.shipments (order_id BIGINT, at TIMESTAMP_LTZ(6)) PARTITIONED BY (day(at));
"""
JOIN = """
FROM bronze.orders AS o
{} JOIN bronze.shipments AS s ON s.order_id = o.id AND s.at BETWEEN o.at AND o.at + INTERVAL '4' HOUR
"""
SHIPPED = f"INSERT INTO gold.shipped SELECT o.id, o.at, s.at AS shipped_at {JOIN.format('LEFT')};"
COUNTED = f"CREATE MATERIALIZED TABLE gold.counted AS SELECT o.id, count(*) AS shipments {JOIN.format('')} GROUP BY o.id;"
PAIRS = '''
import lakeflow as lf

SOON = lf.Within(left_on="id", right_on="order_id", times="at", after="4h")

@lf.job(target="gold.pairs", within=SOON)
def pairs(orders=lf.Read("bronze.orders"), shipments=lf.Read("bronze.shipments")):
    """Orders and the shipments of the four hours behind them."""
    return SOON.join(orders, shipments).select("id", "at", "at_right")
'''
TESTS = """
tests:
  - name: a shipment in time and one too late
    given:
      - {table: bronze.orders, rows: [{id: 1, at: 2026-01-01T10:00:00Z}, {id: 2, at: 2026-01-01T10:00:00Z}]}
      - {table: bronze.shipments, rows: [{order_id: 1, at: 2026-01-01T14:00:00Z}, {order_id: 2, at: 2026-01-01T14:00:01Z}]}
    expect:
      rows: [{id: 1, shipped_at: 2026-01-01T14:00:00Z}, {id: 2, shipped_at: null}]
"""
ZERO = datetime(2026, 3, 1, tzinfo=UTC)
KEYS = {"bronze.orders": "id", "bronze.shipments": "order_id"}


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shop:
    shop = Shop(tmp_path, capsys)
    for folder in ("tables", "jobs"):
        (tmp_path / folder).mkdir()
    for name, text in (
        ("lakeflow.toml", '[project]\nname = "site"\n'),
        ("tables/site.sql", TABLES),
        ("jobs/shipped.sql", SHIPPED),
        ("jobs/counted.sql", COUNTED),
        ("jobs/pairs.py", PAIRS),
    ):
        shop.declare(name, text)
    return shop


def append(site: Shop, table: str, *rows: tuple[int, int]) -> None:
    """One commit: keys, and hours behind ZERO."""
    project = site.project
    project.lake.ensure(project.declarations.tables[table])
    schema = pa.schema([(KEYS[table], pa.int64()), ("at", pa.timestamp("us", "UTC"))])
    given = [{KEYS[table]: key, "at": ZERO + timedelta(hours=hours)} for key, hours in rows]
    lakes.append(project.lake, pa.Table.from_pylist(given, schema=schema), name=table)


def rows(site: Shop, table: str, columns: str = "*") -> list[tuple[Any, ...]]:
    return lakes.query(site.project.lake.table(table), f"SELECT {columns} FROM rows ORDER BY ALL")


def unmatched(site: Shop) -> list[int]:
    return [key for key, alone in rows(site, "gold.shipped", "id, shipped_at IS NULL") if alone]


def by_name(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in found}


def test_joins_go_on_from_where_they_were_and_the_plan_tells_what_is_read(site: Shop) -> None:
    append(site, "bronze.orders", (1, 0), (2, 30))
    append(site, "bronze.shipments", (1, 3), (1, 5))
    assert {one["status"] for one in site.json("run")} == {"done"}
    assert unmatched(site) == [2]
    assert rows(site, "gold.counted") == [(1, 1)]
    append(site, "bronze.orders", (3, 31))
    append(site, "bronze.shipments", (2, 31), (3, 32))
    planned = by_name(site.json("plan")["jobs"])
    assert {name: one["output"] for name, one in planned.items()} == {
        "shipped": "update",
        "counted": "update",
        "pairs": "append",
    }
    bound = "by id = order_id, at from +0:00:00 to +4:00:00 of at"
    assert planned["pairs"]["join"]["bound"] == planned["shipped"]["join"]["bound"] == bound
    assert planned["pairs"]["join"]["files"] == 1, "orders of the second day, and no shipments of the first"
    assert planned["shipped"]["rows"] == 3
    text = site("plan", "pairs").out
    assert f"joins {bound}: at most 1 known files read for new rows" in " ".join(text.split())
    ran = by_name(site.json("run"))
    assert {name: one["read"] for name, one in ran.items()} == {"shipped": 3, "counted": 3, "pairs": 3}
    assert len(rows(site, "gold.pairs", "id")) == 3
    assert rows(site, "gold.counted") == [(1, 1), (2, 1), (3, 1)]
    assert unmatched(site) == []
    assert site.json("jobs", "show", "shipped")["within"] == bound


def test_maintenance_changes_nothing_for_joins(site: Shop) -> None:
    for hours in range(6):
        append(site, "bronze.orders", (hours, hours))
        append(site, "bronze.shipments", (hours, hours + 1))
    site.json("run")
    found = by_name([{"name": one["table"], **one} for one in site.json("maintain")])
    assert set(KEYS) <= set(found)
    assert all(len(lakes.live_paths(site.project.lake.table(table))) < 6 for table in KEYS)
    append(site, "bronze.shipments", (2, 3), (5, 9))
    site.json("run")
    assert rows(site, "gold.counted") == [(0, 1), (1, 1), (2, 2), (3, 1), (4, 1), (5, 2)]
    assert len(rows(site, "gold.shipped", "id")) == len(rows(site, "gold.pairs", "id")) == 8


def test_a_test_of_a_job_runs_it_at_once_and_row_by_row(site: Shop) -> None:
    site.declare("jobs/shipped.test.yaml", TESTS)
    assert [(one["run"], one["status"]) for one in site.json("test")] == [("at once", "passed"), ("row by row", "passed")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            SHIPPED.replace("AND s.at BETWEEN o.at AND o.at + INTERVAL '4' HOUR", ""),
            "bronze.shipments is a second table beside",
        ),
        (SHIPPED.replace("+ INTERVAL '4' HOUR", "- INTERVAL '4' HOUR"), "ends before it begins"),
        (SHIPPED.replace("o.id, o.at,", "o.id,"), "are found again by at, which SELECT does not give"),
        (SHIPPED.replace("s.order_id = o.id AND", ""), "is joined to bronze.orders by no equality of columns"),
    ],
)
def test_what_is_no_join_within_a_bound_is_pointed_at(site: Shop, text: str, message: str) -> None:
    append(site, "bronze.orders", (1, 0))
    append(site, "bronze.shipments", (1, 3))
    site.declare("jobs/shipped.sql", text)
    ran = site("run", "shipped")
    assert ran.code != 0
    assert message in " ".join(ran.err.split())
    assert "jobs/shipped.sql: job 'shipped': line" in ran.err
    assert "lakeflow run shipped --mode snapshot" in " ".join(ran.err.split())
