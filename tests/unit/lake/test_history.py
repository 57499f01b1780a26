"""What a table's metadata says about its past: pure, over metadata made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata, new_table_metadata
from pyiceberg.table.refs import SnapshotRef
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.table.update import RemoveSnapshotsUpdate, SetPropertiesUpdate, update_table_metadata
from pyiceberg.types import LongType, NestedField

from lakeflow.errors import SchemaMismatch, SourceChanged
from lakeflow.lake.history import (
    COMMIT_ID,
    PROGRESS,
    REWRITTEN,
    SEQUENCE,
    Expiry,
    ancestors,
    check_readable_from,
    due_with_commit,
    expiry,
    find_commit,
    has_seen,
    progress_in,
    require_ordered,
    writers_in,
)
from lakeflow.progress import SnapshotPosition


@dataclass(frozen=True)
class Commit:
    """A snapshot in short. Its id is ten times its sequence number, its parent the commit before it in the list."""

    sequence: int
    progress: tuple[tuple[str, str], ...] = ()
    operation: Operation = Operation.APPEND


def plain(sequence: int) -> Commit:
    return Commit(sequence)


def by(writer: str, sequence: int) -> Commit:
    """A commit of a writer whose progress is its sequence number."""
    return Commit(sequence, ((writer, f"{writer}{sequence}"),))


def overwrite(sequence: int) -> Commit:
    return Commit(sequence, operation=Operation.OVERWRITE)


EMPTY = new_table_metadata(
    Schema(NestedField(1, "id", LongType())),
    UNPARTITIONED_PARTITION_SPEC,
    UNSORTED_SORT_ORDER,
    "file:///t",
    {"format-version": "2"},
)
UUID = str(EMPTY.table_uuid)


def snapshot_of(commit: Commit, parent: int | None) -> Snapshot:
    told = {(key if key == REWRITTEN else PROGRESS + key): value for key, value in commit.progress}
    facts = {COMMIT_ID: f"c{commit.sequence}"} | told
    return Snapshot.model_validate(
        {
            "snapshot-id": commit.sequence * 10,
            "parent-snapshot-id": parent,
            "sequence-number": commit.sequence,
            "timestamp-ms": commit.sequence * 1000,
            "manifest-list": f"file:///t/{commit.sequence}.avro",
            "summary": Summary(commit.operation, **facts),
        }
    )


def ref(sequence: int, kind: str = "branch") -> SnapshotRef:
    return SnapshotRef.model_validate({"snapshot-id": sequence * 10, "type": kind})


def table(*line: Commit, tags: Sequence[int] = (), properties: dict[str, str] | None = None) -> TableMetadata:
    """Metadata after the commits of `line`, each with the properties it leaves; main at the last one."""
    snapshots: list[Snapshot] = []
    left: dict[str, str] = {}
    for commit in line:
        snapshots.append(snapshot_of(commit, snapshots[-1].snapshot_id if snapshots else None))
        for writer, value in commit.progress if commit.operation is not Operation.REPLACE else ():
            left |= {PROGRESS + writer: value, SEQUENCE + writer: str(commit.sequence)}
    at = line[-1].sequence if line else None
    refs = {f"tag{sequence}": ref(sequence, "tag") for sequence in tags}
    if at is not None:
        refs["main"] = ref(at)
    return EMPTY.model_copy(
        update={
            "snapshots": snapshots,
            "refs": refs,
            "current_snapshot_id": None if at is None else at * 10,
            "properties": left | (properties or {}),
            "last_sequence_number": max([commit.sequence for commit in line], default=0),
        }
    )


def rolled_back(metadata: TableMetadata, to: int) -> TableMetadata:
    refs = metadata.refs | {"main": ref(to)}
    return metadata.model_copy(update={"refs": refs, "current_snapshot_id": to * 10})


def went_on(metadata: TableMetadata, *line: Commit) -> TableMetadata:
    """The commits of `line` on top of main's head."""
    for commit in line:
        snapshot = snapshot_of(commit, metadata.current_snapshot_id)
        left = {k: v for w, p in commit.progress for k, v in ((PROGRESS + w, p), (SEQUENCE + w, str(commit.sequence)))}
        metadata = metadata.model_copy(
            update={"snapshots": [*metadata.snapshots, snapshot], "properties": dict(metadata.properties) | left}
        )
        metadata = rolled_back(metadata, commit.sequence)
    return metadata


def expired(metadata: TableMetadata, gone: Expiry | Sequence[int], *, keeps_parent: bool = False) -> TableMetadata:
    """The metadata after an expiry: ours with its properties, or another engine's, which leaves none.

    PyIceberg clears the parent's id in the oldest snapshot; with `keeps_parent` it stays, as other catalogs leave it.
    """
    ours = gone if isinstance(gone, Expiry) else Expiry(tuple(sequence * 10 for sequence in gone))
    parents = {snapshot.snapshot_id: snapshot.parent_snapshot_id for snapshot in metadata.snapshots}
    after = update_table_metadata(
        metadata,
        (
            RemoveSnapshotsUpdate.model_validate({"snapshot-ids": list(ours.snapshot_ids)}),
            SetPropertiesUpdate(updates=dict(ours.properties)),
        ),
    )
    if not keeps_parent:
        return after
    named = [s.model_copy(update={"parent_snapshot_id": parents[s.snapshot_id]}) for s in after.snapshots]
    return after.model_copy(update={"snapshots": named})


def sequences(metadata: TableMetadata) -> list[int]:
    return [snapshot.sequence_number or 0 for snapshot in ancestors(metadata)]


def at(sequence: int, *, snapshot: int | None = None, path: str | None = None, uuid: str = UUID) -> SnapshotPosition:
    return SnapshotPosition(uuid, (snapshot or sequence) * 10, sequence, path)


class TestProgress:
    def test_a_table_without_snapshots_has_none(self) -> None:
        assert progress_in(table(), "a") is None

    def test_the_nearest_ancestor_that_tells_it_is_believed(self) -> None:
        metadata = table(by("a", 1), by("a", 2), by("b", 3), plain(4))
        assert (progress_in(metadata, "a"), progress_in(metadata, "b"), progress_in(metadata, "c")) == ("a2", "b3", None)

    def test_the_property_is_not_believed_before_the_snapshots(self) -> None:
        assert progress_in(table(by("a", 1), properties={PROGRESS + "a": "other"}), "a") == "a1"
        assert progress_in(table(plain(1), properties={PROGRESS + "a": "other"}), "a") is None

    def test_a_rollback_takes_it_back(self) -> None:
        metadata = table(by("a", 1), by("a", 2))
        assert progress_in(rolled_back(metadata, 1), "a") == "a1"

    def test_a_rollback_behind_the_first_commit_takes_it_to_the_beginning(self) -> None:
        assert progress_in(rolled_back(table(plain(1), by("a", 2)), 1), "a") is None

    @pytest.mark.parametrize("keeps_parent", [False, True])
    def test_expired_progress_is_told_by_the_property(self, keeps_parent: bool) -> None:
        metadata = expired(table(by("a", 1), plain(2), plain(3)), [1], keeps_parent=keeps_parent)
        assert sequences(metadata) == [3, 2]
        assert progress_in(metadata, "a") == "a1"

    @pytest.mark.parametrize("keeps_parent", [False, True])
    def test_a_writer_without_commits_has_none_after_an_expiry(self, keeps_parent: bool) -> None:
        assert progress_in(expired(table(plain(1), plain(2)), [1], keeps_parent=keeps_parent), "a") is None

    @pytest.mark.parametrize("keeps_parent", [False, True])
    def test_a_rollback_to_where_it_has_expired_is_refused(self, keeps_parent: bool) -> None:
        metadata = expired(table(by("a", 1), plain(2), by("a", 3)), [1], keeps_parent=keeps_parent)
        with pytest.raises(SourceChanged, match=r"table gold\.late was rolled back behind a commit of a") as caught:
            progress_in(rolled_back(metadata, 2), "a", "gold.late")
        assert "lakeflow tables drop gold.late --yes" in (caught.value.next_step or "")

    def test_it_stays_refused_when_others_go_on_from_there(self) -> None:
        metadata = expired(table(by("a", 1), plain(2), by("a", 3)), [1])
        metadata = went_on(rolled_back(metadata, 2), plain(4), plain(5), plain(6))
        with pytest.raises(SourceChanged):
            progress_in(metadata, "a")
        metadata = expired(metadata, expiry(metadata, 1))
        assert sequences(metadata) == [6]
        with pytest.raises(SourceChanged):
            progress_in(metadata, "a")

    def test_rolling_forward_again_tells_it(self) -> None:
        metadata = expired(table(by("a", 1), plain(2), by("a", 3)), [1])
        assert progress_in(rolled_back(rolled_back(metadata, 2), 3), "a") == "a3"

    def test_what_a_rollback_took_back_does_not_return_when_the_older_commit_expires(self) -> None:
        metadata = went_on(rolled_back(table(by("a", 1), plain(2), by("a", 3)), 2), plain(4), plain(5))
        assert progress_in(metadata, "a") == "a1"
        metadata = expired(metadata, expiry(metadata, 2))
        assert sequences(metadata) == [5, 4]
        assert progress_in(metadata, "a") == "a1"

    def test_a_writer_rolled_back_to_the_beginning_stays_there_when_the_beginning_expires(self) -> None:
        metadata = went_on(rolled_back(table(plain(1), by("a", 2)), 1), plain(3), plain(4), plain(5))
        for keep in (3, 1):
            metadata = expired(metadata, expiry(metadata, keep))
            assert progress_in(metadata, "a") is None
        metadata = went_on(metadata, by("a", 6), plain(7), plain(8))
        assert progress_in(expired(metadata, expiry(metadata, 1)), "a") == "a6"

    def test_every_writer_is_listed(self) -> None:
        assert writers_in(table(by("b", 1), by("a", 2))) == ("a", "b")


class TestCommits:
    def test_a_commit_is_found_on_main_only(self) -> None:
        metadata = rolled_back(table(plain(1), plain(2)), 1)
        assert (find_commit(metadata, "c1"), find_commit(metadata, "c2"), find_commit(metadata, "c9")) == (10, None, None)
        assert (has_seen(metadata, "c2"), has_seen(metadata, "c9")) == (True, False)


class TestExpiry:
    def test_nothing_goes_while_there_is_room(self) -> None:
        assert expiry(table(plain(1), plain(2)), 2) == Expiry()
        assert expiry(table(), 5) == Expiry()

    def test_the_oldest_go_and_the_newest_stay(self) -> None:
        found = expiry(table(plain(1), plain(2), plain(3)), 1)
        assert found.snapshot_ids == (10, 20)
        assert found.properties == {"lakeflow.appends-only-since": "0", "lakeflow.kept-from": "30"}

    def test_main_keeps_one_whatever_is_asked(self) -> None:
        assert expiry(table(plain(1), plain(2)), 0).snapshot_ids == (10,)

    def test_a_tagged_snapshot_stays_and_all_that_are_newer(self) -> None:
        assert expiry(table(plain(1), plain(2), plain(3), plain(4), tags=[2]), 1).snapshot_ids == (10,)
        assert expiry(table(plain(1), plain(2), plain(3), tags=[1]), 1) == Expiry()

    def test_snapshots_beside_main_stay(self) -> None:
        metadata = rolled_back(table(plain(1), plain(2), plain(3)), 2)
        assert expiry(metadata, 1).snapshot_ids == (10,)

    def test_an_overwrite_that_goes_is_remembered(self) -> None:
        found = expiry(table(plain(1), overwrite(2), plain(3), plain(4)), 1)
        assert found.properties["lakeflow.appends-only-since"] == "2"

    @pytest.mark.parametrize("keeps_parent", [False, True])
    def test_and_is_still_remembered_at_the_next_expiry(self, keeps_parent: bool) -> None:
        metadata = table(plain(1), overwrite(2), plain(3), plain(4), plain(5))
        metadata = expired(metadata, expiry(metadata, 3), keeps_parent=keeps_parent)
        assert expiry(metadata, 1).properties["lakeflow.appends-only-since"] == "2"

    @pytest.mark.parametrize("keeps_parent", [False, True])
    def test_what_another_engine_expired_is_not_vouched_for(self, keeps_parent: bool) -> None:
        metadata = table(plain(1), plain(2), plain(3), plain(4), plain(5))
        metadata = expired(metadata, expiry(metadata, 4), keeps_parent=keeps_parent)
        metadata = expired(metadata, [2], keeps_parent=keeps_parent)
        assert expiry(metadata, 1).properties["lakeflow.appends-only-since"] == "2"

    def test_progress_that_the_property_has_already_is_not_set_again(self) -> None:
        assert set(expiry(table(by("a", 1), plain(2)), 1).properties) == {"lakeflow.appends-only-since", "lakeflow.kept-from"}


def rewrote(sequence: int, spans: str = "[]") -> Commit:
    """A compaction of ours."""
    return Commit(sequence, ((REWRITTEN, spans),), Operation.REPLACE)


class TestExpiryByAge:
    """Snapshots are as old as their sequence number in seconds."""

    def test_older_ones_go_beside_those_beyond_the_count(self) -> None:
        metadata = table(*map(plain, range(1, 6)))
        assert expiry(metadata, 5, older_than_ms=3000).snapshot_ids == (10, 20)
        assert expiry(metadata, 2, older_than_ms=3000).snapshot_ids == (10, 20, 30)

    def test_the_head_stays_however_old(self) -> None:
        assert expiry(table(plain(1), plain(2)), 5, older_than_ms=10**6).snapshot_ids == (10,)

    def test_what_a_reader_needs_stays(self) -> None:
        assert expiry(table(*map(plain, range(1, 6))), 1, needed_from=3).snapshot_ids == (10, 20)


class TestCompactions:
    def test_readers_on_either_side_pass_them(self) -> None:
        metadata = table(plain(1), plain(2), plain(3), plain(4), rewrote(5, "[[2,3]]"))
        for position in (at(1), at(3), at(4)):
            assert check_readable_from(metadata, position, "bronze.t") == ()

    def test_one_within_is_refused_and_told_which_files(self) -> None:
        metadata = table(plain(1), plain(2), plain(3), rewrote(4, "[[1,3]]"))
        with pytest.raises(SourceChanged, match="sequence numbers 1 to 3 were compacted by snapshot 40"):
            check_readable_from(metadata, at(2), "bronze.t")

    def test_one_that_began_after_it_may_be_anywhere(self) -> None:
        metadata = table(plain(1), plain(2), plain(3), rewrote(4, "[[1,3]]"), plain(5))
        assert check_readable_from(metadata, at(2, snapshot=5, path="x"), "bronze.t") == ()

    @pytest.mark.parametrize("keeps_parent", [False, True])
    def test_both_hold_when_the_snapshots_have_expired(self, keeps_parent: bool) -> None:
        metadata = table(plain(1), plain(2), plain(3), rewrote(4, "[[1,3]]"), plain(5), plain(6))
        for keep in (3, 1):
            metadata = expired(metadata, expiry(metadata, keep), keeps_parent=keeps_parent)
        assert sequences(metadata) == [6]
        assert check_readable_from(metadata, at(3), "bronze.t") == ()
        with pytest.raises(SourceChanged, match="sequence numbers 1 to 3 were compacted by a snapshot that has expired"):
            check_readable_from(metadata, at(2), "bronze.t")

    def test_spans_behind_what_is_no_append_are_forgotten(self) -> None:
        metadata = table(plain(1), plain(2), rewrote(3, "[[1,2]]"), overwrite(4), plain(5), rewrote(6, "[[5,5]]"), plain(7))
        assert expiry(metadata, 1).properties[REWRITTEN] == "[[5,5]]"

    def test_those_of_other_engines_are_handed_on_to_be_looked_into(self) -> None:
        metadata = table(plain(1), Commit(2, operation=Operation.REPLACE), plain(3))
        assert [snapshot.snapshot_id for snapshot in check_readable_from(metadata, at(1), "bronze.t")] == [20]
        assert check_readable_from(metadata, at(3), "bronze.t") == ()

    def test_those_of_other_engines_count_as_no_append_once_expired(self) -> None:
        metadata = table(plain(1), Commit(2, operation=Operation.REPLACE), plain(3), plain(4))
        metadata = expired(metadata, expiry(metadata, 1))
        with pytest.raises(SourceChanged, match="may have been no append"):
            check_readable_from(metadata, at(1), "bronze.t")


class TestReadableFrom:
    def check(self, metadata: TableMetadata, position: SnapshotPosition) -> None:
        check_readable_from(metadata, position, "bronze.t")

    def test_appends_since(self) -> None:
        self.check(table(plain(1), plain(2), plain(3)), at(1))
        self.check(table(plain(1)), at(1))

    def test_a_position_of_the_empty_table(self) -> None:
        self.check(table(), SnapshotPosition(UUID, 0, 0))
        self.check(table(plain(1), plain(2)), SnapshotPosition(UUID, 0, 0))
        with pytest.raises(SourceChanged, match=r"snapshot 20 of table bronze\.t is no append but 'overwrite'"):
            self.check(table(plain(1), overwrite(2)), SnapshotPosition(UUID, 0, 0))

    def test_an_overwrite_that_was_read_already(self) -> None:
        self.check(table(plain(1), overwrite(2), plain(3)), at(2))

    @pytest.mark.parametrize("operation", [Operation.OVERWRITE, Operation.DELETE])
    def test_a_snapshot_that_is_no_append_is_named(self, operation: Operation) -> None:
        metadata = table(plain(1), replace(plain(2), operation=operation), plain(3))
        with pytest.raises(SourceChanged, match=f"snapshot 20 of table bronze.t is no append but '{operation.value}'"):
            self.check(metadata, at(1))

    def test_a_table_made_anew(self) -> None:
        with pytest.raises(SourceChanged, match="dropped and made anew"):
            self.check(table(plain(1)), at(1, uuid="another"))

    def test_a_table_emptied(self) -> None:
        with pytest.raises(SourceChanged, match="rolled back"):
            self.check(table(), at(1))

    def test_a_rollback_behind_the_position(self) -> None:
        with pytest.raises(SourceChanged, match=r"table (\S+) was rolled back behind snapshot 20") as caught:
            self.check(rolled_back(table(plain(1), plain(2)), 1), at(2))
        name = str(caught.value).split()[1]
        assert (caught.value.next_step or "").startswith(f"lakeflow jobs graph shows which job reads {name}; ")

    def test_a_rollback_behind_the_position_whose_snapshot_is_gone(self) -> None:
        metadata = went_on(rolled_back(table(plain(1), plain(2)), 1), plain(3))
        with pytest.raises(SourceChanged, match="rolled back behind snapshot 20"):
            self.check(expired(metadata, [2]), at(2))

    def test_a_rollback_to_the_position(self) -> None:
        self.check(rolled_back(table(plain(1), plain(2), overwrite(3)), 2), at(2))

    @pytest.mark.parametrize("keeps_parent", [False, True])
    def test_an_expired_position_with_appends_only_since(self, keeps_parent: bool) -> None:
        metadata = table(overwrite(1), plain(2), plain(3), plain(4))
        metadata = expired(metadata, expiry(metadata, 1), keeps_parent=keeps_parent)
        self.check(metadata, at(1))
        self.check(metadata, at(2))

    @pytest.mark.parametrize("keeps_parent", [False, True])
    def test_an_expired_position_before_an_expired_overwrite(self, keeps_parent: bool) -> None:
        metadata = table(plain(1), overwrite(2), plain(3), plain(4), plain(5), plain(6))
        for keep in (4, 1):
            metadata = expired(metadata, expiry(metadata, keep), keeps_parent=keeps_parent)
            with pytest.raises(SourceChanged, match=r"snapshot 10 of table bronze\.t, .* has expired"):
                self.check(metadata, at(1))
            self.check(metadata, at(2))

    @pytest.mark.parametrize("keeps_parent", [False, True])
    def test_an_expired_position_after_another_engines_expiry(self, keeps_parent: bool) -> None:
        metadata = expired(table(plain(1), plain(2), plain(3)), [1, 2], keeps_parent=keeps_parent)
        self.check(metadata, at(2))
        with pytest.raises(SourceChanged, match="has expired"):
            self.check(metadata, at(1))

    def test_a_position_in_the_middle_of_a_snapshot(self) -> None:
        metadata = table(plain(1), plain(2), plain(3))
        self.check(metadata, at(1, snapshot=3, path="x"))
        with pytest.raises(SourceChanged, match="no append"):
            self.check(went_on(metadata, overwrite(4)), at(1, snapshot=3, path="x"))

    def test_a_position_in_the_middle_whose_snapshot_was_rolled_back(self) -> None:
        metadata = rolled_back(table(plain(1), plain(2), plain(3)), 2)
        with pytest.raises(SourceChanged, match="rolled back"):
            self.check(metadata, at(1, snapshot=3, path="x"))


def test_a_table_of_format_version_1_is_refused() -> None:
    old = new_table_metadata(EMPTY.schema(), EMPTY.spec(), UNSORTED_SORT_ORDER, "file:///t", {"format-version": "1"})
    require_ordered(EMPTY, "bronze.t")
    with pytest.raises(SchemaMismatch, match=r"bronze\.t is of Iceberg's format version 1"):
        require_ordered(old, "bronze.t")


def test_a_commit_keeps_what_readers_need_within_bounds() -> None:
    line = table(*(plain(number) for number in range(1, 13)))
    assert len(due_with_commit(line, 4, lambda: None).snapshot_ids) == 9
    assert len(due_with_commit(line, 4, lambda: 5).snapshot_ids) == 4
    assert len(due_with_commit(line, 4, lambda: 11).snapshot_ids) == 9
    assert len(due_with_commit(line, 2, lambda: 1).snapshot_ids) == 3, "five times as many, with the one that comes"


def test_nobody_is_asked_who_needs_snapshots_before_any_is_due() -> None:
    def asked() -> int:
        raise AssertionError("nothing is due")

    assert due_with_commit(table(*(plain(number) for number in range(1, 4))), 4, asked) == Expiry()
