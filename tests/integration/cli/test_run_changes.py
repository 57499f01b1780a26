"""`lakeflow run` over a landing by key: its commits change and remove rows, which jobs with on_change follow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.lakes import query

if TYPE_CHECKING:
    from tests.integration.cli.landings import Site

TABLES = """
CREATE TABLE bronze.items (id BIGINT NOT NULL, name STRING, price DOUBLE, PRIMARY KEY (id) NOT ENFORCED)
WITH ('connector' = 'kafka', 'topic' = 'items', 'value.format' = 'json', 'key.format' = 'json', 'changelog.mode' = 'upsert');

CREATE TABLE gold.priced (item BIGINT NOT NULL, cents DOUBLE, PRIMARY KEY (item) NOT ENFORCED);
"""
IN_PYTHON = """
import polars as pl
import lakeflow as lf

@lf.job(target="gold.dear", key="id"{more})
def dear(items=lf.Read("bronze.items")):
    return items.filter(pl.col("price") > 1)
"""
IN_SQL = """
SET 'lakeflow.on-change' = 'recompute';
INSERT INTO gold.priced SELECT id, price * 100 FROM bronze.items WHERE price > 1;
"""
FOLLOWING = ', on_change="recompute"'


def item(number: int, name: str | None = None, price: float = 0.0) -> tuple[bytes, bytes | None]:
    """A record of an item; without a name its tombstone."""
    key = json.dumps({"id": number}).encode()
    return key, None if name is None else json.dumps({"id": number, "name": name, "price": price}).encode()


def rows(site: Site, table: str) -> list[tuple[Any, ...]]:
    return query(site.shop.project.lake.table(table), "SELECT * FROM rows ORDER BY ALL")


def begun(site: Site, more: str = FOLLOWING) -> None:
    """Items have landed, jobs have run, then items changed and went."""
    site.declare(TABLES)
    site.shop.declare("jobs/dear.py", IN_PYTHON.format(more=more))
    site.shop.declare("jobs/priced.sql", IN_SQL)
    site.send("items", item(1, "a", 2.0), item(2, "b", 3.0), item(3, "c", 0.5))
    site.land()
    assert site.shop("run").code == 0
    site.send("items", item(1, "a", 9.0), item(3, "c", 4.0), item(2), item(4, "d", 5.0))
    site.land()


def test_jobs_follow_what_was_changed_and_deleted(site: Site) -> None:
    begun(site)
    dear, priced = sorted(site.shop.json("plan", "dear", "priced")["jobs"], key=lambda row: str(row["name"]))
    assert (dear["files"], dear["files_removed"], priced["files_removed"]) == (1, 1, 1)
    assert "1 files changed, 1 removed" in site.shop("plan", "dear").out
    behind = {one["name"]: one["state"] for one in site.shop.json("status")}
    assert behind["dear"] == behind["priced"] == "behind"
    assert site.shop("run").code == 0
    assert rows(site, "gold.dear") == [(1, "a", 9.0), (3, "c", 4.0), (4, "d", 5.0)]
    assert rows(site, "gold.priced") == [(1, 900.0), (3, 400.0), (4, 500.0)]
    assert site.shop("run", "dear", "--mode", "snapshot", "--into", "check.dear").code == 0
    assert rows(site, "check.dear") == rows(site, "gold.dear")
    states = {one["name"]: one["state"] for one in site.shop.json("status")}
    assert states["dear"] == states["priced"] == "up to date"


def test_maintenance_keeps_what_jobs_have_not_followed_yet(site: Site) -> None:
    begun(site)
    site.configure("[maintain]\nkeep_snapshots = 1\n")
    assert site.shop("maintain", "bronze.items").code == 0
    assert site.shop("run").code == 0
    assert rows(site, "gold.dear") == [(1, "a", 9.0), (3, "c", 4.0), (4, "d", 5.0)]


def test_landings_keep_the_snapshot_from_which_jobs_go_on(site: Site) -> None:
    begun(site)
    site.configure("max_snapshots = 2\n")
    for price in (10.0, 11.0, 12.0):
        site.send("items", item(1, "a", price))
        site.land()
    assert len(site.shop.project.lake.table("bronze.items").metadata.snapshots) == 5
    assert site.shop("run").code == 0
    assert rows(site, "gold.priced") == [(1, 1200.0), (3, 400.0), (4, 500.0)]
    site.send("items", item(1, "a", 13.0))
    site.land()
    assert len(site.shop.project.lake.table("bronze.items").metadata.snapshots) == 2


def test_without_on_change_the_run_is_refused_and_says_what_to_do(site: Site) -> None:
    begun(site, more="")
    ran = site.shop("run", "dear")
    assert ran.code == 1
    said = " ".join(ran.err.split())
    assert "of table bronze.items is no append but 'overwrite'" in said
    assert "on_change = 'recompute' or 'ignore_deletes'" in said
    assert rows(site, "gold.dear") == [(1, "a", 2.0), (2, "b", 3.0)]
