"""`lakeflow maintain` on a project whose job and index read on as before."""

from __future__ import annotations

import os
import signal
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Shop
from tests.lakes import live_paths, path_of, query, stored_files

ORDERS = "bronze.orders"


def small_orders(shop: Shop, first: int, count: int) -> None:
    for number in range(first, first + count):
        shop.orders((f"o{number}", "ann", 100.0 + number))


def files(shop: Shop, table: str = ORDERS) -> int:
    return len(live_paths(shop.project.lake.table(table)))


def orders(shop: Shop) -> list[str]:
    return [row[0] for row in query(shop.project.lake.table(ORDERS), "SELECT order_id FROM rows ORDER BY order_id")]


def of(results: list[dict[str, object]], table: str) -> dict[str, object]:
    return next(result for result in results if result["table"] == table)


def test_small_files_become_one_and_the_job_reads_on(shop: Shop) -> None:
    small_orders(shop, 0, 6)
    assert shop("run", "large").code == 0
    before = orders(shop)
    result = of(shop.json("maintain"), ORDERS)
    assert (result["files_before"], result["files_after"], result["left"]) == (6, 1, [])
    assert (files(shop), orders(shop)) == (1, before)
    small_orders(shop, 6, 1)
    assert shop("run", "large").code == 0
    large = query(shop.project.lake.table("gold.large"), "SELECT order_id FROM rows ORDER BY order_id")
    assert large == [(f"o{number}",) for number in range(1, 7)]


def test_nothing_is_compacted_that_a_job_has_still_to_read(shop: Shop) -> None:
    small_orders(shop, 0, 6)
    result = of(shop.json("maintain", ORDERS), ORDERS)
    assert result["files_before"] == 0
    assert result["left"] == ["nothing is compacted before job large has read the table"]


def test_a_dry_run_shows_and_changes_nothing(shop: Shop) -> None:
    small_orders(shop, 0, 6)
    shop("run", "large")
    stray = old_stray(shop)
    snapshots = len(shop.project.lake.table(ORDERS).metadata.snapshots)
    result = of(shop.json("maintain", ORDERS, "--dry-run", "--older-than", "2d"), ORDERS)
    assert (result["dry_run"], result["files_before"], result["files_after"]) == (True, 6, 1)
    assert [path_of(path) for path in result["orphans"]] == [stray]  # type: ignore[attr-defined]
    assert (files(shop), len(shop.project.lake.table(ORDERS).metadata.snapshots)) == (6, snapshots)
    assert stray.exists()


def old_stray(shop: Shop) -> Path:
    stray = path_of(shop.project.lake.table(ORDERS).location()) / "data" / "stray.parquet"
    stray.write_bytes(b"x")
    moment = (datetime.now(UTC) - timedelta(days=3)).timestamp()
    os.utime(stray, (moment, moment))
    return stray


def test_snapshots_files_and_orphans_go(shop: Shop) -> None:
    shop.configure("[maintain]\nsnapshot_hours = 0\n")
    small_orders(shop, 0, 6)
    shop("run", "large")
    stray = old_stray(shop)
    result = of(shop.json("maintain", ORDERS, "--older-than", "1d"), ORDERS)
    table = shop.project.lake.table(ORDERS)
    assert result["snapshots_expired"] == 5  # what the job has read last stays
    assert not stray.exists()
    shop("run", "large")
    assert shop.json("maintain", ORDERS)[0]["snapshots_expired"] == 0
    assert {path_of(path) for path in live_paths(table)} <= stored_files(table)


def test_it_is_recorded_apart_from_the_landing_of_the_table(shop: Shop) -> None:
    small_orders(shop, 0, 6)
    shop("run", "large")
    shop("maintain", ORDERS)
    (run,) = [run for run in shop.json("runs") if run["kind"] == "maintain"]
    assert (run["name"], run["table"], run["status"], len(run["snapshot_ids"])) == ("maintain.bronze.orders", ORDERS, "done", 1)
    shop("maintain", ORDERS)
    assert len([run for run in shop.json("runs") if run["kind"] == "maintain"]) == 1


def test_the_system_tables_are_maintained_too(shop: Shop) -> None:
    small_orders(shop, 0, 1)
    for _ in range(4):
        shop.orders(("o", "ann", 1.0))
        shop("run", "large")
    result = of(shop.json("maintain"), "lakeflow.runs")
    assert result["files_before"] == 5  # that of bronze.orders, just before it, is one of them
    assert len(shop.json("runs", "--name", "large")) == 4


def test_text_for_people_has_a_line_a_table(shop: Shop) -> None:
    small_orders(shop, 0, 4)
    ran = shop("maintain")
    assert ran.out.splitlines()[0].split() == [
        *("table", "compacted", "into", "manifests", "expired", "freed", "orphans", "orphan_bytes", "left"),
    ]
    assert "bronze.orders" in ran.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--older-than", "3"], "--older-than is '3'; valid: a number and s, m, h or d"),
        (["--older-than", "59m"], "may belong to a commit under way; valid: 1h or more"),
        (["no.table"], "unknown table 'no.table'"),
        (["--follow", "--dry-run"], "--follow goes with"),
    ],
)
def test_what_cannot_be_meant_is_refused(shop: Shop, words: list[str], message: str) -> None:
    small_orders(shop, 0, 1)
    ran = shop("maintain", *words)
    assert ran.code == 2
    assert message in ran.err


def test_a_young_age_is_taken_by_force(shop: Shop) -> None:
    small_orders(shop, 0, 1)
    stray = path_of(shop.project.lake.table(ORDERS).location()) / "data" / "stray.parquet"
    stray.write_bytes(b"x")
    time.sleep(0.01)
    assert shop("maintain", ORDERS, "--older-than", "0s", "--force").code == 0
    assert not stray.exists()
    assert orders(shop) == ["o0"]


def test_follow_maintains_until_a_signal_comes(shop: Shop) -> None:
    shop.configure("[maintain]\ninterval_seconds = 1\n")
    small_orders(shop, 0, 6)
    shop("run", "large")

    def end_when_done() -> None:
        while files(shop) > 1:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    watcher = threading.Thread(target=end_when_done)
    watcher.start()
    ran = shop("maintain", "--follow")
    watcher.join()
    assert ran.code == 143
    assert orders(shop) == [f"o{number}" for number in range(6)]
