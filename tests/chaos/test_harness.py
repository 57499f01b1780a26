"""The harness itself sees what it must: rows too many or too few, processes that end wrongly, signs in folders."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Hashable
from pathlib import Path

import pytest

from tests.chaos.processes import Child, Misbehaved, judge
from tests.chaos.records import Records, dead_orders, landed_orders, latest_orders
from tests.chaos.verify import check_rows, check_runs
from tests.chaos.watch import CLOSE_WRITE, CREATE, FolderWatch, Phase, Sign, traces
from tests.independent_reader import read_table
from tests.lakes import NAME, append, ids, made, open_lake

FENCED = "error: another process moved the progress of landing in table t: .."
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="watches by inotify")


def ended(folder: Path, code: int, said: str) -> Child:
    log = folder / "0-land.err"
    script = f"import sys; sys.stderr.write({said!r}); sys.exit({code})"
    with log.open("wb") as err:
        process = subprocess.Popen([sys.executable, "-S", "-c", script], stderr=err)
    process.wait()
    return Child(("land",), process, log)


@pytest.mark.parametrize("wanted", [{(1,): 1, (2,): 1, (3,): 1}, {(1,): 1}, {(1,): 2, (2,): 1}], ids=["few", "many", "once"])
def test_rows_too_few_and_too_many_are_seen(tmp_path: Path, wanted: dict[Hashable, int]) -> None:
    lake = open_lake(tmp_path)
    made(lake)
    append(lake, ids(1, 2))
    table = read_table(tmp_path / "catalog.db", NAME)
    check_rows(table, Counter({(1,): 1, (2,): 1}))
    with pytest.raises(AssertionError, match="were expected"):
        check_rows(table, Counter(wanted))


def test_runs_that_do_not_add_up_are_seen() -> None:
    counts = {"written": 3, "dead_lettered": 1, "skipped": 0, "filtered": 0}
    run = {"kind": "land", "table": "bronze.orders", "status": "done", "read": 4, "snapshot_ids": [1], "error": None} | counts
    records = Records(1)
    records.order_wave(10)
    check_runs([run], records)
    for wrong in (
        [run | {"read": 5}],
        [run, run],
        [run | {"status": "failed", "error": "disk"}],
        [run | {"read": 11, "written": 10}],
    ):
        with pytest.raises(AssertionError):
            check_runs(wrong, records)


@pytest.mark.parametrize(
    ("code", "said", "holds"),
    [(1, FENCED, True), (1, "error: no room", False), (1, "", False), (0, "", False), (1, f"{FENCED}\nTraceback ..", False)],
)
def test_only_being_fenced_excuses_an_end(tmp_path: Path, code: int, said: str, holds: bool) -> None:
    child = ended(tmp_path, code, said)
    if holds:
        judge(child, (-9, 1))
        assert child.fenced() == 1
        return
    with pytest.raises(Misbehaved, match="land"):
        judge(child, (-9, 1))


@linux_only
def test_signs_are_seen_in_their_order(tmp_path: Path) -> None:
    def write() -> None:
        time.sleep(0.05)
        (tmp_path / "a.txt").write_text("x")
        (tmp_path / "b.txt").write_text("x")

    with FolderWatch([tmp_path]) as watch:
        writer = threading.Thread(target=write)
        writer.start()
        assert watch.wait((Sign(CREATE, "a.*"), Sign(CLOSE_WRITE, "b.*")), seconds=10)
        writer.join()
        watch.forget()
        assert not watch.wait((Sign(CREATE, "a.*"),), seconds=0.05)


def test_how_far_a_commit_had_come_is_told_by_its_files(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    made(lake)
    append(lake, ids(1))
    table = read_table(tmp_path / "catalog.db", NAME)
    [data] = table.files()
    folders = (data.path.parent, table.path.parent)
    assert traces(table.path, folders, set()).phase is None
    time.sleep(0.02)
    for name, phase in (("x.parquet", Phase.DATA), ("x-m0.avro", Phase.MANIFESTS), ("00002-x.metadata.json", Phase.METADATA)):
        (table.path.parent / name).write_bytes(b"")
        assert traces(table.path, folders, set()).phase is phase
    assert traces(table.path, folders, set(table.path.parent.iterdir()) - {table.path}).phase is None


def test_what_is_expected_counts_every_record_once() -> None:
    records = Records(7)
    records.order_wave(2000)
    orders = records.orders
    assert landed_orders(orders).total() + dead_orders(orders).total() == 2000 == sum(orders.ends.values())
    assert 0 < dead_orders(orders).total() < 400
    last = {row["customer"]: row["id"] for _, row in orders.good}
    assert {(row[0], row[1]) for row in latest_orders(orders)} == set(last.items())  # type: ignore[index]
