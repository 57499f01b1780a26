"""What happened to a table after a position, and how a reader follows: on tables as PyIceberg and lakeflow write them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyiceberg.manifest import DataFile

from lakeflow.errors import SourceChanged
from lakeflow.job import Caps, OnChange
from lakeflow.lake.catalog import Lake, Table
from lakeflow.lake.changes import batches_after, changes_since, read_removed
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.compact import compact, plan_compaction
from lakeflow.lake.compact_plan import Readers, Sizes
from lakeflow.lake.follow import ChangeKind
from lakeflow.lake.maintain_expiry import Keep, expire
from lakeflow.lake.read import Batch, Split, position_at, read, splits_at
from lakeflow.progress import SnapshotPosition
from tests.lakes import NAME, append, ids, made, open_lake, written

ALL = Caps()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = open_lake(tmp_path)
    made(lake)
    for number in (1, 2, 3):
        append(lake, ids(number, number * 10))
    return lake


def at_head(lake: Lake) -> SnapshotPosition:
    table = lake.table(NAME)
    return position_at(table, table.current_snapshot())


def overwrite(lake: Lake, remove: Callable[[Split], bool], *rows: int) -> None:
    """One commit that takes files away and adds one with these rows, if any."""
    table = lake.table(NAME)
    head = table.current_snapshot()
    gone: tuple[DataFile, ...] = tuple(split.task.file for split in splits_at(table, head) if remove(split))
    come = written(table, ids(*rows)) if rows else ()
    Committer(lake).commit(Change(NAME, come, gone, base=head.snapshot_id if head else None))


def first(split: Split) -> bool:
    return split.sequence == 1


def rows_of(table: Table, splits: tuple[Split, ...]) -> list[int]:
    return [row for batch in read(table, splits) for row in batch.column("id").to_pylist()]


def read_on(lake: Lake, start: SnapshotPosition | None, on_change: OnChange, caps: Caps = ALL) -> list[Batch]:
    return list(batches_after(lake.table(NAME), start, on_change, caps))


def rows_in(lake: Lake, batches: list[Batch]) -> list[tuple[list[int], list[int]]]:
    table = lake.table(NAME)
    return [(rows_of(table, batch.splits), rows_of(table, batch.removed)) for batch in batches]


def test_each_commit_tells_what_it_did_to_files_in_order(lake: Lake) -> None:
    start = at_head(lake)
    append(lake, ids(4))
    overwrite(lake, first, 1, 100)
    lake.table(NAME).delete("id = 4")
    found = changes_since(lake.table(NAME), start)
    assert [(one.kind, len(one.added), len(one.removed)) for one in found] == [
        (ChangeKind.APPEND, 1, 0),
        (ChangeKind.OVERWRITE, 1, 1),
        (ChangeKind.DELETE, 0, 1),
    ]
    assert [one.sequence for one in found] == [4, 5, 6]
    assert [file.sequence for file in found[1].removed] == [1]
    assert not any(one.delete_files for one in found)


def test_a_delete_within_a_file_by_another_writer_is_an_overwrite(lake: Lake) -> None:
    start = at_head(lake)
    lake.table(NAME).delete("id = 20")
    [found] = changes_since(lake.table(NAME), start)
    assert (found.kind, len(found.added), len(found.removed)) == (ChangeKind.OVERWRITE, 1, 1)


def test_recompute_reads_what_came_and_what_went(lake: Lake) -> None:
    start = at_head(lake)
    overwrite(lake, first, 1, 11)
    append(lake, ids(4))
    [batch] = read_on(lake, start, OnChange.RECOMPUTE)
    assert rows_in(lake, [batch]) == [([1, 11, 4], [1, 10])]
    assert batch.end == at_head(lake)
    assert read_on(lake, batch.end, OnChange.RECOMPUTE) == []


def test_recompute_reads_whole_what_was_begun_and_then_follows(lake: Lake) -> None:
    [begun, *_] = read_on(lake, None, OnChange.RECOMPUTE, Caps(files=1))
    overwrite(lake, first, 5)
    overwrite(lake, lambda split: split.sequence == 2)
    batches = read_on(lake, begun.end, OnChange.RECOMPUTE, Caps(files=1))
    assert rows_in(lake, batches) == [([2, 20], []), ([3, 30], []), ([5], [1, 10]), ([], [2, 20])]
    for place, batch in enumerate(batches):
        assert rows_in(lake, read_on(lake, batch.end, OnChange.RECOMPUTE, Caps(files=1))) == rows_in(lake, batches[place + 1 :])


def test_a_batch_that_is_to_come_again_is_cut_as_it_was(lake: Lake) -> None:
    start = at_head(lake)
    overwrite(lake, first, 5)
    append(lake, ids(6))
    [was] = read_on(lake, start, OnChange.RECOMPUTE)
    overwrite(lake, lambda split: split.sequence == 2, 7)
    again = list(batches_after(lake.table(NAME), start, OnChange.RECOMPUTE, Caps(files=1), was.end))
    assert (again[0].splits, again[0].removed, again[0].end) == (was.splits, was.removed, was.end)
    assert rows_in(lake, again[1:]) == [([7], [2, 20])]
    [begun, *_] = read_on(lake, None, OnChange.RECOMPUTE, Caps(files=2))
    assert next(batches_after(lake.table(NAME), None, OnChange.RECOMPUTE, ALL, begun.end)).splits == begun.splits


def test_a_compaction_between_repeats_no_row(lake: Lake) -> None:
    start = at_head(lake)
    sizes = Sizes(1 << 20, 1 << 20, least_files=2)
    committer = Committer(lake)
    assert compact(lake, committer, NAME, plan_compaction(lake.table(NAME), Readers((start,)), sizes), sizes).snapshots
    assert read_on(lake, start, OnChange.RECOMPUTE) == []
    overwrite(lake, lambda split: True, 9)
    assert rows_in(lake, read_on(lake, start, OnChange.RECOMPUTE)) == [([9], [1, 10, 2, 20, 3, 30])]


def test_a_file_that_came_and_went_between_is_not_read(lake: Lake) -> None:
    start = at_head(lake)
    overwrite(lake, first, 4)
    overwrite(lake, lambda split: split.sequence == 4, 5)
    [batch] = read_on(lake, start, OnChange.RECOMPUTE)
    assert rows_in(lake, [batch]) == [([5], [1, 10])]
    removed = read_removed(lake.table(NAME), batch.removed, ["id"])
    assert [row for rows in removed for row in rows.column("id").to_pylist()] == [1, 10]


def test_ignore_deletes_passes_over_rows_that_went(lake: Lake) -> None:
    start = at_head(lake)
    lake.table(NAME).delete("id = 1 or id = 10")
    append(lake, ids(4))
    assert rows_in(lake, read_on(lake, start, OnChange.IGNORE_DELETES)) == [([4], [])]


def test_ignore_deletes_refuses_rows_in_place_of_others(lake: Lake) -> None:
    start = at_head(lake)
    overwrite(lake, first, 5)
    snapshot = lake.table(NAME).metadata.current_snapshot_id
    with pytest.raises(SourceChanged, match=f"snapshot {snapshot} of table {NAME} put 1 files in place of 1 others") as refused:
        read_on(lake, start, OnChange.IGNORE_DELETES)
    assert "on_change = 'recompute'" in str(refused.value.next_step)


def test_by_default_rows_that_went_are_refused_and_the_choices_named(lake: Lake) -> None:
    start = at_head(lake)
    overwrite(lake, first)
    with pytest.raises(SourceChanged, match="is no append but") as refused:
        read_on(lake, start, OnChange.FAIL)
    assert "'recompute' or 'ignore_deletes'" in str(refused.value.next_step)
    assert rows_in(lake, read_on(lake, start, OnChange.IGNORE_DELETES)) == []
    assert rows_in(lake, read_on(lake, start, OnChange.RECOMPUTE)) == [([], [1, 10])]


CHOICES = pytest.mark.parametrize("on_change", [OnChange.IGNORE_DELETES, OnChange.RECOMPUTE])


@CHOICES
def test_a_position_that_expired_before_rows_went_is_refused(lake: Lake, on_change: OnChange) -> None:
    start = at_head(lake)
    overwrite(lake, first)
    append(lake, ids(4))
    expire(lake, NAME, Keep(1, datetime.now(UTC) + timedelta(minutes=1)))
    with pytest.raises(SourceChanged, match=f"snapshot {start.snapshot_id} of table {NAME}, .* has expired") as refused:
        read_on(lake, start, on_change)
    assert "--mode snapshot" in str(refused.value.next_step)


@CHOICES
def test_a_position_that_expired_among_appends_reads_on(lake: Lake, on_change: OnChange) -> None:
    start = at_head(lake)
    append(lake, ids(4))
    append(lake, ids(5))
    expire(lake, NAME, Keep(1, datetime.now(UTC) + timedelta(minutes=1)))
    assert rows_in(lake, read_on(lake, start, on_change)) == [([4, 5], [])]


@CHOICES
def test_a_table_rolled_back_is_refused(lake: Lake, on_change: OnChange) -> None:
    before = at_head(lake)
    overwrite(lake, first)
    start = at_head(lake)
    lake.table(NAME).manage_snapshots().rollback_to_snapshot(before.snapshot_id).commit()
    overwrite(lake, lambda split: split.sequence == 2)
    with pytest.raises(SourceChanged, match=f"table {NAME} was rolled back behind snapshot {start.snapshot_id}") as refused:
        read_on(lake, start, on_change)
    assert "--mode snapshot" in str(refused.value.next_step)


@CHOICES
def test_a_table_made_anew_is_refused(lake: Lake, on_change: OnChange) -> None:
    start = at_head(lake)
    lake.drop(NAME)
    made(lake)
    append(lake, ids(1))
    overwrite(lake, first)
    with pytest.raises(SourceChanged, match=f"table {NAME} was dropped and made anew"):
        read_on(lake, start, on_change)


def test_a_renamed_table_is_read_on(lake: Lake) -> None:
    start = at_head(lake)
    overwrite(lake, first, 5)
    lake.catalog.rename_table(NAME, "bronze.renamed")
    table = lake.table("bronze.renamed")
    [batch] = batches_after(table, start, OnChange.RECOMPUTE, ALL)
    assert (rows_of(table, batch.splits), rows_of(table, batch.removed)) == ([5], [1, 10])


def test_clocks_that_run_backwards_do_not_matter(lake: Lake) -> None:
    start = at_head(lake)
    overwrite(lake, first, 5)
    append(lake, ids(6))
    table = lake.table(NAME)
    turned = [
        snapshot.model_copy(update={"timestamp_ms": 10**12 - (snapshot.sequence_number or 0)})
        for snapshot in table.metadata.snapshots
    ]
    table.metadata = table.metadata.model_copy(update={"snapshots": turned})
    [batch] = batches_after(table, start, OnChange.RECOMPUTE, ALL)
    assert (rows_of(table, batch.splits), rows_of(table, batch.removed)) == ([5, 6], [1, 10])


def test_from_a_table_without_rows_on_everything_is_followed(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    start = position_at(made(lake), None)
    append(lake, ids(1))
    overwrite(lake, first, 2)
    assert rows_in(lake, read_on(lake, start, OnChange.RECOMPUTE)) == [([1], []), ([2], [1])]


def test_rows_deleted_beside_the_data_cannot_be_followed(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyIceberg writes no delete files: the commits are told as if it had."""
    from lakeflow.lake import changes

    start = at_head(lake)
    overwrite(lake, first)
    told = [replace(one, delete_files=2) for one in changes_since(lake.table(NAME), start)]
    monkeypatch.setattr(changes, "changes_since", lambda table, start: tuple(told))
    with pytest.raises(SourceChanged, match=r"deletes rows by 2 delete files beside the data \(merge-on-read\)") as refused:
        read_on(lake, start, OnChange.RECOMPUTE)
    assert "copy-on-write" in str(refused.value.next_step)
    assert rows_in(lake, read_on(lake, start, OnChange.IGNORE_DELETES)) == []


def test_a_file_that_went_is_read_where_it_lies_while_a_reader_needs_it(lake: Lake) -> None:
    start = at_head(lake)
    overwrite(lake, first, 5)
    append(lake, ids(6))
    expire(lake, NAME, Keep(1, datetime.now(UTC) + timedelta(minutes=1), needed_from=start.sequence))
    assert rows_in(lake, read_on(lake, start, OnChange.RECOMPUTE)) == [([5, 6], [1, 10])]
