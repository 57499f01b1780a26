"""Old snapshots go, and with them the files that only they named, on the disk."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyiceberg.exceptions import CommitFailedException
from pyiceberg.table import Table

from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, Committer, Progress
from lakeflow.lake.history import ancestors
from lakeflow.lake.maintain_expiry import Expired, Keep, due, expire
from lakeflow.lake.read import appended
from tests.commit_systems import FaultyCatalog
from tests.lakes import NAME, append, id_rows, ids, made, open_lake, path_of, stored_files, written
from tests.unit.lake.test_orphans import name_statistics

SOON = timedelta(minutes=1)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = open_lake(tmp_path)
    made(lake)
    return lake


def all_but(most: int, needed_from: int | None = None) -> Keep:
    return Keep(most, datetime.now(UTC) - SOON, needed_from)


def older_than_now(needed_from: int | None = None) -> Keep:
    return Keep(100, datetime.now(UTC) + SOON, needed_from)


def replaced(lake: Lake, *values: int) -> None:
    """All rows, by others: the files of before belong to older snapshots alone."""
    Committer(lake).commit(Change(NAME, written(lake.table(NAME), ids(*values)), replace_all=True))


def manifests(table: Table) -> set[str]:
    return {path.name for path in stored_files(table, ".avro")}


def sequences(lake: Lake) -> list[int]:
    return [snapshot.sequence_number or 0 for snapshot in ancestors(lake.table(NAME).metadata)]


class TestWhichGo:
    @pytest.fixture(autouse=True)
    def _five(self, lake: Lake) -> None:
        for value in range(5):
            append(lake, ids(value))

    def test_those_beyond_the_most(self, lake: Lake) -> None:
        assert expire(lake, NAME, all_but(2)).snapshots == 3
        assert sequences(lake) == [5, 4]

    def test_those_that_are_too_old_but_never_the_head(self, lake: Lake) -> None:
        assert expire(lake, NAME, older_than_now()).snapshots == 4
        assert sequences(lake) == [5]

    def test_none_that_a_reader_has_not_passed(self, lake: Lake) -> None:
        expire(lake, NAME, older_than_now(needed_from=3))
        assert sequences(lake) == [5, 4, 3]

    def test_none_that_a_tag_or_a_branch_holds_nor_what_is_newer(self, lake: Lake) -> None:
        table = lake.table(NAME)
        table.manage_snapshots().create_tag(table.snapshots()[2].snapshot_id, "kept").commit()
        expire(lake, NAME, older_than_now())
        assert sequences(lake) == [5, 4, 3]
        assert id_rows(lake.table(NAME)) == [0, 1, 2, 3, 4]

    def test_young_ones_stay(self, lake: Lake) -> None:
        assert expire(lake, NAME, all_but(5)) == Expired()
        assert due(lake.table(NAME), all_but(5)).snapshot_ids == ()


class TestFiles:
    def test_those_that_only_expired_snapshots_named_go(self, lake: Lake) -> None:
        append(lake, ids(1))
        append(lake, ids(2))
        replaced(lake, 7)
        before = manifests(lake.table(NAME))
        done = expire(lake, NAME, all_but(1))
        table = lake.table(NAME)
        assert done.snapshots == 2
        assert [path_of(split.path) for split in appended(table, None)] == list(stored_files(table))
        assert id_rows(table) == [7]
        assert done.files == 2 + len(before - manifests(table))
        assert append(lake, ids(8)).attempts == 1

    def test_appended_ones_stay_live(self, lake: Lake) -> None:
        for value in range(4):
            append(lake, ids(value))
        expire(lake, NAME, all_but(1))
        assert id_rows(lake.table(NAME)) == [0, 1, 2, 3]
        assert len(stored_files(lake.table(NAME))) == 4

    def test_live_ones_stay_where_merged_manifests_name_them_now(self, tmp_path: Path) -> None:
        lake = open_lake(tmp_path / "merged")
        made(lake, properties={"commit.manifest.min-count-to-merge": "2"})
        for value in range(4):
            append(lake, ids(value))
        done = expire(lake, NAME, all_but(1))
        assert done.files > 0
        assert id_rows(lake.table(NAME)) == [0, 1, 2, 3]
        assert len(stored_files(lake.table(NAME))) == 4

    def test_those_of_a_tagged_snapshot_stay(self, lake: Lake) -> None:
        append(lake, ids(1))
        table = lake.table(NAME)
        table.manage_snapshots().create_tag(table.snapshots()[0].snapshot_id, "kept").commit()
        replaced(lake, 7)
        replaced(lake, 8)
        expire(lake, NAME, all_but(1))
        assert lake.table(NAME).scan(snapshot_id=table.snapshots()[0].snapshot_id).to_arrow().column("id").to_pylist() == [1]

    def test_those_that_lie_elsewhere_stay_and_are_told(self, lake: Lake, tmp_path: Path) -> None:
        append(lake, ids(1))
        (stored,) = stored_files(lake.table(NAME))
        foreign = tmp_path / "foreign.parquet"
        foreign.write_bytes(stored.read_bytes())
        lake.table(NAME).add_files([f"file://{foreign}"])
        replaced(lake, 7)
        done = expire(lake, NAME, all_but(1))
        assert done.left == ("1 files that lie outside of the table's location",)
        assert foreign.exists()
        assert not stored.exists()

    def test_statistics_of_an_expired_snapshot_go(self, lake: Lake) -> None:
        append(lake, ids(1))
        statistics = path_of(lake.table(NAME).location()) / "metadata" / "stats.puffin"
        statistics.write_text("x")
        name_statistics(lake.table(NAME), f"file://{statistics}")
        append(lake, ids(2))
        expire(lake, NAME, all_but(1))
        assert not statistics.exists()

    def test_a_stop_leaves_the_rest_to_the_removal_of_orphans(self, lake: Lake) -> None:
        append(lake, ids(1))
        replaced(lake, 7)
        done = expire(lake, NAME, all_but(1), stop=lambda: True)
        assert (done.snapshots, done.files, len(done.left)) == (1, 0, 1)
        assert len(stored_files(lake.table(NAME))) == 2


def test_progress_that_only_expired_snapshots_told_stays(lake: Lake) -> None:
    append(lake, ids(1), Progress("landing", None, "one"))
    append(lake, ids(2))
    expire(lake, NAME, all_but(1))
    assert Committer(lake).progress(NAME, "landing") == "one"


class TestOtherCommits:
    def test_one_that_comes_first_only_makes_it_try_again(self, lake: Lake) -> None:
        for value in range(3):
            append(lake, ids(value))
        catalog = FaultyCatalog(lake.catalog)
        slow = Lake(catalog)  # type: ignore[arg-type]

        def first(send: object) -> object:
            append(lake, ids(9))
            return send()  # type: ignore[operator]

        catalog.faults.append(first)  # type: ignore[arg-type]
        assert expire(slow, NAME, all_but(1)).snapshots == 3
        assert sequences(lake) == [4]
        assert id_rows(lake.table(NAME)) == [0, 1, 2, 9]

    def test_in_the_end_it_is_left_for_next_time(self, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        append(lake, ids(1))
        append(lake, ids(2))
        monkeypatch.setattr("lakeflow.retry.time.sleep", lambda seconds: None)

        def refused(send: object) -> object:
            raise CommitFailedException("main moved")

        catalog = FaultyCatalog(lake.catalog)
        catalog.faults.extend([refused] * 8)  # type: ignore[list-item]
        done = expire(Lake(catalog), NAME, all_but(1))  # type: ignore[arg-type]
        assert done.snapshots == 0
        assert done.left == (f"snapshots are left for next time: another commit to {NAME} came first: main moved",)
        assert sequences(lake) == [2, 1]
