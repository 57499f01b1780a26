"""Files written anew in a lake on the disk: the rows stay, their order stays, and nobody else is in the way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.manifest import DataFile, DataFileContent
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation

from lakeflow.declare import PartitionField, TableSpec
from lakeflow.errors import CommitConflict, SourceChanged
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, CommitProtocol, Committed, Committer, Progress
from lakeflow.lake.compact import Compacted, batches, compact, merge_manifests, plan_compaction
from lakeflow.lake.compact_change import Rewrite
from lakeflow.lake.compact_plan import Piece, Readers, Run, Sizes
from lakeflow.lake.compact_spans import Span
from lakeflow.lake.maintain_expiry import Keep, expire
from lakeflow.lake.manifests import small_manifests
from lakeflow.lake.read import appended, position_at, read
from lakeflow.progress import SnapshotPosition
from tests.contract.test_lake_iceberg import _RowDelta, deletes_of
from tests.lakes import NAME, append, id_rows, ids, live_paths, made, open_lake, query, stored_files, written

SIZES = Sizes(below_bytes=1 << 20, target_bytes=4 << 20, least_files=2)
NOBODY = Readers()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = open_lake(tmp_path)
    made(lake)
    return lake


def filled(lake: Lake, *commits: tuple[int, ...]) -> Table:
    for values in commits:
        append(lake, ids(*values))
    return lake.table(NAME)


def compacted(lake: Lake, readers: Readers = NOBODY, sizes: Sizes = SIZES, commits: CommitProtocol | None = None) -> Compacted:
    plan = plan_compaction(lake.table(NAME), readers, sizes)
    return compact(lake, commits or Committer(lake), NAME, plan, sizes)


def in_order(table: Table, start: SnapshotPosition | None = None) -> list[int]:
    return [row for batch in read(table, appended(table, start), ["id"]) for row in batch.column("id").to_pylist()]


def head_position(lake: Lake) -> SnapshotPosition:
    table = lake.table(NAME)
    return position_at(table, table.current_snapshot())


class Interrupted:
    """Commits, before each of which something else happens."""

    def __init__(self, lake: Lake, first: object) -> None:
        self._inner = Committer(lake)
        self._first = first

    def commit(self, change: Change) -> Committed:
        self._first()  # type: ignore[operator]
        return self._inner.commit(change)

    def progress(self, table: str, writer: str) -> str | None:
        return self._inner.progress(table, writer)


def redone(deletes: DataFile, content: DataFileContent = DataFileContent.POSITION_DELETES, only: str = "") -> DataFile:
    """A delete file of another content, or with statistics that say of which data file it is."""
    bounds = {2147483546: only.encode()} if only else None
    made_by_hand = DataFile.from_args(
        content=content,
        file_path=deletes.file_path,
        file_format=deletes.file_format,
        partition=deletes.partition,
        record_count=deletes.record_count,
        file_size_in_bytes=deletes.file_size_in_bytes,
        lower_bounds=bounds,
        upper_bounds=bounds,
    )
    made_by_hand.spec_id = 0
    return made_by_hand


def delete_rows(table: Table, *deletes: DataFile) -> None:
    """By another engine, which merges on read."""
    with table.transaction() as transaction:
        delta = _RowDelta(Operation.OVERWRITE, transaction, table.io, "main")
        delta.deletes = deletes
        delta.commit()


class TestRows:
    def test_many_files_become_one_with_the_rows_in_their_order(self, lake: Lake) -> None:
        filled(lake, (5, 6), (3,), (9, 1), (2,))
        done = compacted(lake)
        table = lake.table(NAME)
        assert (done.files_before, done.files_after, len(live_paths(table))) == (4, 1, 1)
        assert in_order(table) == [5, 6, 3, 9, 1, 2]
        assert id_rows(table) == [1, 2, 3, 5, 6, 9]

    def test_the_snapshot_is_a_replacement_that_changes_no_total_of_rows(self, lake: Lake) -> None:
        filled(lake, (1, 2), (3,))
        compacted(lake)
        summary = lake.table(NAME).current_snapshot().summary  # type: ignore[union-attr]
        assert summary is not None
        assert summary.operation is Operation.REPLACE
        assert (summary["total-records"], summary["total-data-files"]) == ("3", "1")
        assert summary["lakeflow.rewritten"] == "[[1,2]]"

    def test_new_files_stand_where_the_last_of_the_old_ones_stood(self, lake: Lake) -> None:
        filled(lake, (1,), (2,), (3,))
        compacted(lake)
        append(lake, ids(4))
        assert [split.sequence for split in appended(lake.table(NAME), None)] == [3, 5]

    def test_the_progress_of_writers_stays(self, lake: Lake) -> None:
        append(lake, ids(1), Progress("landing", None, "one"))
        append(lake, ids(2), Progress("landing", "one", "two"))
        compacted(lake)
        assert Committer(lake).progress(NAME, "landing") == "two"
        append(lake, ids(3), Progress("landing", "two", "three"))

    def test_a_second_time_there_is_nothing_to_do(self, lake: Lake) -> None:
        filled(lake, (1,), (2,))
        compacted(lake)
        assert compacted(lake) == Compacted()

    def test_a_table_without_snapshots_has_nothing_to_compact(self, lake: Lake) -> None:
        assert compacted(lake) == Compacted()

    def test_partitions_stay_apart(self, tmp_path: Path) -> None:
        lake = open_lake(tmp_path / "parts")
        schema = pa.schema([("id", pa.int64()), ("part", pa.string())])
        made(lake, schema, [PartitionField("part")])
        for start in range(0, 8, 2):
            append(lake, pa.table({"id": [start, start + 1], "part": ["a", "b"]}, schema=schema))
        done = compacted(lake)
        table = lake.table(NAME)
        assert (done.files_before, done.files_after) == (8, 2)
        assert query(table, "SELECT part, list(id) FROM rows GROUP BY part ORDER BY part") == [
            ("a", [0, 2, 4, 6]),
            ("b", [1, 3, 5, 7]),
        ]
        assert {task.file.partition[0] for task in table.scan("part = 'a'").plan_files()} == {"a"}

    def test_columns_that_came_since_are_null_in_the_rows_from_before(self, lake: Lake) -> None:
        table = filled(lake, (1,), (2,))
        with table.update_schema() as update:
            update.union_by_name(pa.schema([("id", pa.int64()), ("note", pa.string())]))
        append(lake, pa.table({"id": [3], "note": ["new"]}))
        compacted(lake)
        assert query(lake.table(NAME), "SELECT id, note FROM rows ORDER BY id") == [(1, None), (2, None), (3, "new")]


class TestReaders:
    def test_one_that_has_read_all_reads_no_row_again(self, lake: Lake) -> None:
        filled(lake, (1,), (2,))
        position = head_position(lake)
        compacted(lake, Readers((position,)))
        append(lake, ids(3))
        assert in_order(lake.table(NAME), position) == [3]

    def test_files_that_one_has_still_to_read_stay(self, lake: Lake) -> None:
        filled(lake, (1,), (2,))
        position = head_position(lake)
        filled(lake, (3,), (4,))
        assert compacted(lake, Readers((position,))).files_before == 2
        assert in_order(lake.table(NAME), position) == [3, 4]

    def test_a_stranger_within_is_refused_before_and_after_the_snapshot_has_expired(self, lake: Lake) -> None:
        filled(lake, (1,), (2,))
        within = head_position(lake)
        filled(lake, (3,), (4,))
        outside = head_position(lake)
        compacted(lake)
        message = "of the sequence numbers 1 to 4 were compacted by"
        with pytest.raises(SourceChanged, match=message) as refused:
            appended(lake.table(NAME), within)
        assert "--mode snapshot" in (refused.value.next_step or "")
        append(lake, ids(5))
        append(lake, ids(6))
        expire(lake, NAME, Keep(1, datetime.now(UTC) + timedelta(minutes=1)))
        with pytest.raises(SourceChanged, match=message):
            appended(lake.table(NAME), within)
        assert in_order(lake.table(NAME), outside) == [5, 6]

    def test_a_compaction_waits_for_a_reader_that_has_not_begun_and_says_so(self, lake: Lake) -> None:
        filled(lake, (1,), (2,))
        done = compacted(lake, Readers(unread=("job late",)))
        assert (done.files_before, done.left) == (0, ("nothing is compacted before job late has read the table",))


class TestOthers:
    def test_an_append_that_comes_first_only_makes_it_try_again(self, lake: Lake) -> None:
        filled(lake, (1,), (2,))
        done = compacted(lake, commits=Interrupted(lake, lambda: append(lake, ids(3))))
        table = lake.table(NAME)
        assert (done.files_before, done.left) == (2, ())
        assert in_order(table) == [1, 2, 3]
        assert len(live_paths(table)) == 2

    def test_a_compaction_that_comes_first_does_not_fail_an_append(self, lake: Lake) -> None:
        table = filled(lake, (1,), (2,))
        files = written(table, ids(3))
        compacted(lake)
        Committer(lake).commit(Change(NAME, files))
        assert in_order(lake.table(NAME)) == [1, 2, 3]

    def test_files_that_another_commit_removed_are_left_for_next_time_and_none_is_left_behind(self, lake: Lake) -> None:
        table = filled(lake, (1,), (2,))
        (old, _) = [split.task.file for split in appended(table, None)]

        def overwrite() -> None:
            head = lake.table(NAME).metadata.current_snapshot_id
            Committer(lake).commit(Change(NAME, written(lake.table(NAME), ids(10)), (old,), base=head))

        done = compacted(lake, commits=Interrupted(lake, overwrite))
        table = lake.table(NAME)
        assert done.files_before == 0
        assert done.left[0].startswith("2 files are left for next time: 1 files of table bronze.flights are no longer there")
        assert id_rows(table) == [2, 10]
        assert len(stored_files(table)) == 3  # the removed one belongs to an older snapshot

    def test_a_merge_that_comes_second_is_told_to_compute_again(self, lake: Lake) -> None:
        table = filled(lake, (1,), (2,))
        (old, _) = [split.task.file for split in appended(table, None)]
        base = table.metadata.current_snapshot_id
        compacted(lake)
        with pytest.raises(CommitConflict, match="under a merge"):
            Committer(lake).commit(Change(NAME, written(lake.table(NAME), ids(10)), (old,), base=base))
        assert id_rows(lake.table(NAME)) == [1, 2]

    def test_files_with_deleted_rows_stay_as_they_are(self, lake: Lake) -> None:
        table = filled(lake, (1,), (2,), (3, 4))
        marked = appended(table, None)[2].path
        delete_rows(table, redone(deletes_of(table, marked, [0]), only=marked))
        assert compacted(lake).files_before == 2
        assert marked in live_paths(lake.table(NAME))
        assert in_order(lake.table(NAME)) == [1, 2, 4]

    def test_rows_that_are_deleted_by_keys_leave_the_table_alone(self, lake: Lake) -> None:
        table = filled(lake, (1,), (2,))
        delete_rows(table, redone(deletes_of(table, "unused", [0]), DataFileContent.EQUALITY_DELETES))
        assert compacted(lake).left == ("rows are deleted by keys, which cannot be read here",)

    def test_rows_that_are_deleted_meanwhile_are_not_brought_back(self, lake: Lake) -> None:
        table = filled(lake, (1, 10), (2,))
        marked = appended(table, None)[0].path

        def delete() -> None:
            table = lake.table(NAME)
            delete_rows(table, deletes_of(table, marked, [0]))

        done = compacted(lake, commits=Interrupted(lake, delete))
        assert done.left[0].endswith("rows of table bronze.flights were deleted while its files were written anew")
        assert lake.table(NAME).scan().to_arrow().column("id").to_pylist() in ([10, 2], [2, 10])

    def test_a_rewrite_does_not_land_where_its_files_went_since(self, lake: Lake) -> None:
        table = filled(lake, (1,), (2,))
        rewrite = Rewrite({}, (Span(1, 2),), planned_at=2)
        gone = tuple(split.task.file for split in appended(table, None))
        Committer(lake).commit(Change(NAME, replace_all=True))
        with pytest.raises(CommitConflict, match=r"2 files of table bronze\.flights are no longer there to be written anew"):
            Committer(lake).commit(Change(NAME, (), gone, rewrite=rewrite))

    def test_a_failed_reading_leaves_nothing_behind(self, lake: Lake) -> None:
        table = filled(lake, (1,), (2,), (3,), (4,))
        plan = plan_compaction(table, NOBODY, SIZES)
        last = appended(table, None)[3].path
        Path(last.removeprefix("file://")).write_bytes(b"damaged")
        before = stored_files(table)
        with pytest.raises(Exception, match="cannot be read"):
            compact(lake, Committer(lake), NAME, plan, SIZES)
        assert stored_files(table) == before

    def test_a_stop_that_is_asked_for_is_heeded_between_commits(self, lake: Lake) -> None:
        filled(lake, (1,), (2,))
        plan = plan_compaction(lake.table(NAME), NOBODY, SIZES)
        assert compact(lake, Committer(lake), NAME, plan, SIZES, stop=lambda: True) == Compacted()


class TestReplacementsByOtherEngines:
    """A replacement without our facts in its summary is judged by what its manifests say."""

    def replaced(self, lake: Lake, old: list[DataFile], at_sequence: int) -> None:
        table = lake.table(NAME)
        (new,) = written(table, ids(1, 2))
        rewrite = Rewrite({new.file_path: at_sequence}, (), position_at(table, table.current_snapshot()).sequence)
        committer = Committer(lake)
        committer.commit(Change(NAME, (new,), tuple(old), rewrite=rewrite))

    @pytest.fixture(autouse=True)
    def _nameless(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("lakeflow.lake.commit.REWRITTEN", "other.engine")

    def test_they_are_passed_where_all_old_and_new_files_stand_behind(self, lake: Lake) -> None:
        table = filled(lake, (1,), (2,), (3,))
        position = head_position(lake)
        self.replaced(lake, [split.task.file for split in appended(table, None)[:2]], at_sequence=3)
        append(lake, ids(4))
        assert in_order(lake.table(NAME), position) == [4]

    def test_they_are_passed_where_all_stand_before(self, lake: Lake) -> None:
        filled(lake, (0,))
        position = head_position(lake)
        table = filled(lake, (1,), (2,))
        self.replaced(lake, [split.task.file for split in appended(table, position)], at_sequence=4)
        assert in_order(lake.table(NAME), position) == [1, 2]

    def test_they_are_refused_where_read_rows_would_come_again(self, lake: Lake) -> None:
        table = filled(lake, (1,), (2,))
        position = head_position(lake)
        old = [split.task.file for split in appended(table, None)]
        append(lake, ids(3))
        self.replaced(lake, old, at_sequence=3)
        with pytest.raises(SourceChanged, match=r"sequence numbers 1 to 3 were compacted by snapshot \d+"):
            appended(lake.table(NAME), position)


class TestManifests:
    def test_many_small_ones_become_one_and_no_row_changes(self, tmp_path: Path) -> None:
        lake = open_lake(tmp_path / "many")
        made(lake, properties={"commit.manifest-merge.enabled": "false"})
        table = filled(lake, *((n,) for n in range(6)))
        before = live_paths(table)
        assert merge_manifests(lake, Committer(lake), NAME, most=6) == ()
        assert len(merge_manifests(lake, Committer(lake), NAME, most=5)) == 1
        table = lake.table(NAME)
        head = table.current_snapshot()
        assert head is not None
        assert len(head.manifests(table.io)) == 1
        assert live_paths(table) == before
        assert in_order(table) == [0, 1, 2, 3, 4, 5]

    def test_a_reader_anywhere_goes_on(self, lake: Lake) -> None:
        filled(lake, (1,))
        position = head_position(lake)
        table = filled(lake, (2,), (3,))
        head = table.current_snapshot()
        assert head is not None
        assert small_manifests(table, head) == 3
        merge_manifests(lake, Committer(lake), NAME, most=1)
        assert in_order(lake.table(NAME), position) == [2, 3]


def test_a_commit_takes_a_bounded_number_of_files_and_bytes() -> None:
    found = [Run((Piece(n, "a", 40, "p"), Piece(n + 1, "b", 40, "p"))) for n in range(0, 10, 2)]
    assert [len(some) for some in batches(found, most_files=4)] == [2, 2, 1]
    assert [len(some) for some in batches(found, most_bytes=100)] == [1, 1, 1, 1, 1]


def test_files_from_before_a_column_came_are_written_anew_with_their_nulls(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    nested = pa.list_(pa.struct([("x", pa.int32())]))
    narrow = pa.schema([("id", pa.int64()), ("l", nested)])
    made(lake, narrow)
    append(lake, pa.Table.from_pylist([{"id": 1, "l": None}, {"id": 2, "l": []}], schema=narrow))
    wide = narrow.append(pa.field("late", pa.string()))
    lake.ensure(TableSpec(NAME, wide), evolve=True)
    append(lake, pa.Table.from_pylist([{"id": 3, "l": [{"x": 7}], "late": "z"}], schema=wide))
    done = compacted(lake)
    assert (done.files_before, done.files_after, done.left) == (2, 1, ())
    table = lake.table(NAME)
    assert len(live_paths(table)) == 1
    assert query(table, "SELECT id, l, late FROM rows ORDER BY id") == [(1, None, None), (2, [], None), (3, [{"x": 7}], "z")]
