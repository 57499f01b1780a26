"""Which files a reader gets, in which order, cut where, and their rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.table import Table

from lakeflow.errors import SourceChanged, UnknownName, UsageError
from lakeflow.job import Caps
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.read import Batch, appended, cut, position_at, read, snapshot_at, splits_at
from lakeflow.progress import SnapshotPosition
from tests.lakes import NAME, NO_CAPS, append, ids, made, open_lake, written


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = open_lake(tmp_path)
    made(lake)
    return lake


def append_files(lake: Lake, *files: tuple[int, ...]) -> None:
    """One commit of several files."""
    table = lake.table(NAME)
    Committer(lake).commit(Change(NAME, tuple(f for values in files for f in written(table, ids(*values)))))


def values_of(table: Table, batch: Batch) -> list[int]:
    return [value for rows in read(table, batch.splits) for value in rows.column("id").to_pylist()]


def batches(lake: Lake, start: SnapshotPosition | None, caps: Caps = NO_CAPS) -> list[Batch]:
    table = lake.table(NAME)
    return list(cut(appended(table, start), caps, table))


class TestAppended:
    def test_an_empty_table_has_nothing(self, lake: Lake) -> None:
        assert batches(lake, None) == []
        assert splits_at(lake.table(NAME), None) == ()

    def test_files_come_in_the_order_of_their_commits_then_paths(self, lake: Lake) -> None:
        for turn in range(4):
            append_files(lake, (turn, 10 + turn), (20 + turn,))
        splits = appended(lake.table(NAME), None)
        assert [split.sequence for split in splits] == [1, 1, 2, 2, 3, 3, 4, 4]
        assert [(split.sequence, split.path) for split in splits] == sorted((split.sequence, split.path) for split in splits)
        assert sum(split.rows for split in splits) == 12
        assert all(split.bytes > 0 for split in splits)

    def test_only_what_came_after_the_position(self, lake: Lake) -> None:
        append(lake, ids(1))
        (first,) = batches(lake, None)
        assert batches(lake, first.end) == []
        append(lake, ids(2))
        append(lake, ids(3))
        (second,) = batches(lake, first.end)
        assert values_of(lake.table(NAME), second) == [2, 3]

    def test_the_position_of_an_empty_table_is_before_its_first_rows(self, lake: Lake) -> None:
        start = position_at(lake.table(NAME), None)
        append(lake, ids(1))
        (batch,) = batches(lake, start)
        assert values_of(lake.table(NAME), batch) == [1]

    def test_progress_commits_without_rows_are_read_over(self, lake: Lake) -> None:
        append(lake, ids(1))
        (first,) = batches(lake, None)
        Committer(lake).commit(Change(NAME))
        append(lake, ids(2))
        (second,) = batches(lake, first.end)
        assert values_of(lake.table(NAME), second) == [2]

    def test_an_overwrite_since_is_refused_and_the_snapshot_named(self, lake: Lake) -> None:
        append(lake, ids(1))
        (first,) = batches(lake, None)
        done = Committer(lake).commit(Change(NAME, written(lake.table(NAME), ids(7)), replace_all=True))
        with pytest.raises(
            SourceChanged, match=f"snapshot {done.snapshot_id} of table bronze.flights is no append but 'overwr"
        ):
            batches(lake, first.end)
        assert values_of(lake.table(NAME), batches(lake, None)[0]) == [7]

    def test_a_rollback_is_refused(self, lake: Lake) -> None:
        first = append(lake, ids(1))
        append(lake, ids(2))
        (batch,) = batches(lake, None)
        lake.table(NAME).manage_snapshots().rollback_to_snapshot(first.snapshot_id).commit()
        with pytest.raises(SourceChanged, match="rolled back"):
            batches(lake, batch.end)

    @pytest.mark.parametrize("rows", [(), (1,)])
    def test_a_table_made_anew_is_refused_even_while_it_is_empty(self, lake: Lake, rows: tuple[int, ...]) -> None:
        append(lake, ids(1))
        (batch,) = batches(lake, None)
        lake.drop(NAME)
        made(lake)
        append(lake, ids(*rows)) if rows else None
        with pytest.raises(SourceChanged, match="made anew"):
            batches(lake, batch.end)


class TestCut:
    @pytest.fixture
    def ten(self, lake: Lake) -> Lake:
        """Ten commits of one file of two rows each."""
        for turn in range(10):
            append(lake, ids(2 * turn, 2 * turn + 1))
        return lake

    def sizes(self, lake: Lake, caps: Caps) -> list[int]:
        return [len(batch.splits) for batch in batches(lake, None, caps)]

    def test_without_caps_all_files_are_one_batch(self, ten: Lake) -> None:
        assert self.sizes(ten, NO_CAPS) == [10]

    def test_by_files(self, ten: Lake) -> None:
        assert self.sizes(ten, Caps(files=4)) == [4, 4, 2]

    def test_by_rows(self, ten: Lake) -> None:
        assert self.sizes(ten, Caps(rows=6)) == [3, 3, 3, 1]
        assert self.sizes(ten, Caps(rows=7)) == [3, 3, 3, 1]

    def test_a_batch_holds_one_file_however_large(self, ten: Lake) -> None:
        assert self.sizes(ten, Caps(rows=1)) == [1] * 10
        assert self.sizes(ten, Caps(bytes=1)) == [1] * 10

    def test_by_bytes(self, ten: Lake) -> None:
        split = appended(ten.table(NAME), None)[0]
        assert self.sizes(ten, Caps(bytes=2 * split.bytes + 50)) == [2] * 5

    def test_the_tightest_cap_cuts(self, ten: Lake) -> None:
        assert self.sizes(ten, Caps(files=5, rows=4)) == [2] * 5

    def test_a_batch_that_ends_inside_of_a_commit_goes_on_there(self, lake: Lake) -> None:
        append_files(lake, (1,), (2,), (3,))
        append_files(lake, (4,))
        found: list[int] = []
        position: SnapshotPosition | None = None
        for expected_path in (True, True, False, False):
            batch = batches(lake, position, Caps(files=1))[0]
            position = SnapshotPosition.loads(batch.end.dumps())
            assert position is not None
            assert (position.path is not None) is expected_path
            found += values_of(lake.table(NAME), batch)
        assert sorted(found) == [1, 2, 3, 4]
        assert batches(lake, position) == []

    def test_a_table_that_moves_on_in_the_middle_of_a_commit_loses_nothing(self, lake: Lake) -> None:
        append_files(lake, (1,), (2,), (3,))
        first = batches(lake, None, Caps(files=1))[0]
        for turn in range(4):
            append(lake, ids(10 + turn))
        (rest,) = batches(lake, first.end)
        table = lake.table(NAME)
        assert sorted(values_of(table, first) + values_of(table, rest)) == [1, 2, 3, 10, 11, 12, 13]


class TestSnapshotAt:
    def test_main_now_or_a_snapshot_by_its_id(self, lake: Lake) -> None:
        assert snapshot_at(lake.table(NAME)) is None
        first = append(lake, ids(1))
        append(lake, ids(2))
        table = lake.table(NAME)
        assert snapshot_at(table) == table.current_snapshot()
        old = snapshot_at(table, snapshot_id=first.snapshot_id)
        assert [row for batch in read(table, splits_at(table, old)) for row in batch.column("id").to_pylist()] == [1]

    def test_an_unknown_snapshot_names_the_known_ones(self, lake: Lake) -> None:
        known = append(lake, ids(1)).snapshot_id
        with pytest.raises(UnknownName, match=f"unknown snapshot of bronze.flights '17'; valid: {known}"):
            snapshot_at(lake.table(NAME), snapshot_id=17)

    def test_as_of_a_moment(self, lake: Lake) -> None:
        start = datetime.now(UTC) - timedelta(seconds=1)
        append(lake, ids(1))
        table = lake.table(NAME)
        first = table.current_snapshot()
        assert first is not None
        moment = datetime.fromtimestamp(first.timestamp_ms / 1000, UTC)
        assert snapshot_at(table, as_of=moment) == first
        assert snapshot_at(table, as_of=moment + timedelta(days=1)) == first
        with pytest.raises(UsageError, match=r"has no snapshot as old as .*; its first is of"):
            snapshot_at(table, as_of=start)

    def test_as_of_a_moment_whose_snapshot_has_expired_is_an_error_and_no_empty_table(self, lake: Lake) -> None:
        before = datetime.now(UTC)
        for value in range(4):
            append(lake, ids(value), keep=2)
        with pytest.raises(UsageError, match=r"bronze\.flights has no snapshot as old as .*; the oldest kept one is of"):
            snapshot_at(lake.table(NAME), as_of=before)


class TestRows:
    def test_columns_are_selected_and_ordered(self, tmp_path: Path) -> None:
        lake = open_lake(tmp_path)
        made(lake, pa.schema([("a", pa.int64()), ("b", pa.string()), ("c", pa.float64())]))
        append(lake, pa.table({"a": [1, 2], "b": ["x", None], "c": [0.5, 1.5]}))
        table = lake.table(NAME)
        (batch,) = read(table, splits_at(table, table.current_snapshot()), ["c", "a"])
        assert batch.to_pydict() == {"c": [0.5, 1.5], "a": [1, 2]}

    def test_an_unknown_column_is_named_before_anything_is_read(self, lake: Lake) -> None:
        with pytest.raises(UnknownName, match=r"column of bronze\.flights 'di'"):
            list(read(lake.table(NAME), [], ["di"]))

    def test_rows_come_in_the_order_they_were_written(self, lake: Lake) -> None:
        values = list(range(300_000))
        append(lake, pa.table({"id": values}))
        table = lake.table(NAME)
        batches_read = list(read(table, splits_at(table, table.current_snapshot())))
        assert [value for batch in batches_read for value in batch.column("id").to_pylist()] == values
        assert max(batch.num_rows for batch in batches_read) <= 128 * 1024
