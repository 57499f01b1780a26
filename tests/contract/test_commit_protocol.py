"""The commit protocol: one suite for the committer, with each fence and each kind of catalog, and for its fake."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import ValidationError
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import BadRequestError, CommitFailedException
from pyiceberg.manifest import DataFile
from pyiceberg.table import CommitTableResponse
from pyiceberg.types import StringType

from lakeflow.errors import CatalogUnavailable, CommitConflict, Fenced, LakeflowError, SourceChanged, UsageError
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, Committer, Progress, ProgressFence, SnapshotFence, fence_for, fenced
from lakeflow.lake.history import ancestors
from lakeflow.testing.lake import MemoryCommits, Outage
from tests.commit_systems import (
    REAL,
    FakeSystem,
    Fault,
    RealSystem,
    System,
    locked,
    real_system,
    sent_twice,
    state_unknown_landed,
    state_unknown_not_landed,
)
from tests.lakes import NAME, ids, live_paths, made, open_lake, path_of, rest_like, stored_files


@pytest.fixture(params=[*REAL, "fake"])
def system(request: pytest.FixtureRequest, tmp_path: Path) -> System:
    return FakeSystem(MemoryCommits()) if request.param == "fake" else real_system(request.param, tmp_path)


@pytest.fixture(params=REAL)
def real(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RealSystem]:
    """Whatever a test does to it, at the end every file that the table refers to is there."""
    system = real_system(request.param, tmp_path)
    yield system
    assert {path_of(path) for path in live_paths(system.table())} <= stored_files(system.table())


def step(system: System, start: str | None, end: str, *values: int, writer: str = "landing") -> Change:
    return Change(NAME, add=(system.file(*values),), progress=Progress(writer, start, end))


@dataclass(frozen=True)
class Letter:
    """An Advance that owns one letter of a progress like `a1b2`, and counts it up."""

    letter: str
    start: int | None
    writer: str = "landing"

    def onto(self, found: str | None, table: str) -> str:
        parts = dict(zip((found or "")[::2], (found or "")[1::2], strict=True))
        if (shown := parts.get(self.letter)) != (None if self.start is None else str(self.start)):
            raise fenced(table, self.writer, str(self.start), shown)
        return "".join(letter + count for letter, count in sorted({**parts, self.letter: str((self.start or 0) + 1)}.items()))


class TestEveryImplementation:
    def test_writers_that_share_a_progress_move_their_own_part_of_it(self, system: System) -> None:
        commits = system.commits()
        commits.commit(Change(NAME, (system.file(1),), progress=Letter("a", None)))
        commits.commit(Change(NAME, (system.file(2),), progress=Letter("b", None)))
        commits.commit(Change(NAME, (system.file(3),), progress=Letter("a", 1)))
        assert (system.rows(), commits.progress(NAME, "landing")) == ([1, 2, 3], "a2b1")

    def test_a_writer_whose_part_was_moved_is_fenced(self, system: System) -> None:
        commits = system.commits()
        commits.commit(Change(NAME, (system.file(1),), progress=Letter("a", None)))
        with pytest.raises(Fenced, match="the table now shows 1"):
            commits.commit(Change(NAME, (system.file(2),), progress=Letter("a", None)))
        assert (system.rows(), commits.progress(NAME, "landing")) == ([1], "a1")

    def test_a_table_without_commits_shows_no_progress(self, system: System) -> None:
        assert system.commits().progress(NAME, "landing") is None
        assert system.commits().progress("bronze.absent", "landing") is None

    def test_data_and_progress_land_in_one_snapshot(self, system: System) -> None:
        done = system.commits().commit(step(system, None, "a", 1, 2))
        assert (system.rows(), system.snapshots(), system.head()) == ([1, 2], 1, done.snapshot_id)
        assert system.commits().progress(NAME, "landing") == "a"
        assert done.attempts == 1

    def test_progress_without_rows_lands(self, system: System) -> None:
        system.commits().commit(Change(NAME, progress=Progress("landing", None, "a")))
        assert (system.rows(), system.commits().progress(NAME, "landing")) == ([], "a")

    def test_a_stale_start_is_fenced_and_its_files_deleted(self, system: System) -> None:
        system.commits().commit(step(system, None, "a", 1))
        stale = step(system, None, "b", 2)
        with pytest.raises(Fenced, match=r"landing.*bronze\.flights.*from the beginning.*shows a"):
            system.commits().commit(stale)
        assert (system.rows(), system.snapshots(), system.commits().progress(NAME, "landing")) == ([1], 1, "a")
        assert system.is_deleted(stale.add[0])

    def test_the_same_change_passed_twice_lands_once(self, system: System) -> None:
        change = step(system, None, "a", 1)
        first = system.commits().commit(change)
        system.commits().commit(step(system, "a", "b", 2))
        assert system.commits().commit(change).snapshot_id == first.snapshot_id
        assert (system.rows(), system.snapshots()) == ([1, 2], 2)

    def test_writers_do_not_fence_each_other(self, system: System) -> None:
        system.commits().commit(step(system, None, "a", 1))
        system.commits().commit(step(system, None, "x", 2, writer="job.other"))
        system.commits().commit(step(system, "a", "b", 3))
        assert system.rows() == [1, 2, 3]
        assert [system.commits().progress(NAME, writer) for writer in ("landing", "job.other")] == ["b", "x"]

    def test_of_two_rivals_from_one_start_one_lands(self, system: System) -> None:
        start: str | None = None
        for turn in range(4):
            changes = [step(system, start, f"{turn}-{who}", turn) for who in "ab"]
            outcomes = at_once([partial(system.commits(12).commit, change) for change in changes])
            lost = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
            assert [type(outcome) for outcome in lost] == [Fenced]
            start = system.commits().progress(NAME, "landing")
        assert (system.rows(), system.snapshots()) == ([0, 1, 2, 3], 4)

    def test_unrelated_writers_at_once_all_land_with_the_files_they_wrote(self, system: System) -> None:
        changes = [step(system, None, "a", who, writer=f"job.{who}") for who in range(3)]
        outcomes = at_once([partial(system.commits(40).commit, change) for change in changes])
        assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        assert (system.rows(), system.snapshots()) == ([0, 1, 2], 3)

    def test_a_lost_answer_is_recognised_and_not_applied_again(self, system: System) -> None:
        system.fail(Outage.LOST_ANSWER)
        done = system.commits().commit(step(system, None, "a", 1))
        assert (system.rows(), system.snapshots(), system.head(), done.attempts) == ([1], 1, done.snapshot_id, 1)

    def test_an_attempt_that_did_not_land_is_sent_again_with_the_same_files(self, system: System) -> None:
        system.fail(Outage.NO_ANSWER, Outage.NO_ANSWER)
        change = step(system, None, "a", 1)
        done = system.commits().commit(change)
        assert (system.rows(), system.snapshots(), done.attempts) == ([1], 1, 3)
        assert not system.is_deleted(change.add[0])

    def test_a_catalog_that_stays_away_is_given_up_and_the_change_can_be_passed_again(self, system: System) -> None:
        system.fail(*[Outage.NO_ANSWER] * 4)
        change = step(system, None, "a", 1)
        with pytest.raises(CatalogUnavailable, match="given up after 4 attempts") as caught:
            system.commits().commit(change)
        assert caught.value.left_behind is not None
        assert change.commit_id in caught.value.left_behind
        assert (system.rows(), system.is_deleted(change.add[0])) == ([], False)
        system.commits().commit(change)
        assert system.rows() == [1]

    def test_a_change_given_up_after_it_landed_is_found_when_it_is_passed_again(self, system: System) -> None:
        system.fail(Outage.LOST_ANSWER)
        change = step(system, None, "a", 1)
        with pytest.raises(CatalogUnavailable):
            system.commits(1).commit(change)
        system.commits().commit(change)
        assert (system.rows(), system.snapshots()) == ([1], 1)

    def test_a_rollback_takes_progress_back(self, system: System) -> None:
        first = system.commits().commit(step(system, None, "a", 1))
        system.commits().commit(step(system, "a", "b", 2))
        system.rollback(first.snapshot_id)
        assert (system.rows(), system.commits().progress(NAME, "landing")) == ([1], "a")
        with pytest.raises(Fenced):
            system.commits().commit(step(system, "b", "c", 3))
        system.commits().commit(step(system, "a", "b", 2))
        assert system.rows() == [1, 2]

    def test_complete_replaces_all_rows_at_once(self, system: System) -> None:
        system.commits().commit(step(system, None, "a", 1))
        system.commits().commit(step(system, "a", "b", 2))
        system.commits().commit(Change(NAME, (system.file(7),), replace_all=True, progress=Progress("landing", "b", "c")))
        assert (system.rows(), system.snapshots(), system.commits().progress(NAME, "landing")) == ([7], 3, "c")

    def test_complete_without_rows_empties_the_table(self, system: System) -> None:
        system.commits().commit(step(system, None, "a", 1))
        system.commits().commit(Change(NAME, replace_all=True, progress=Progress("landing", "a", "b")))
        assert (system.rows(), system.snapshots(), system.commits().progress(NAME, "landing")) == ([], 2, "b")

    def test_complete_on_an_empty_table(self, system: System) -> None:
        system.commits().commit(Change(NAME, (system.file(1),), replace_all=True))
        assert system.rows() == [1]

    def test_a_merge_replaces_the_files_it_names(self, system: System) -> None:
        old = system.file(1, 2)
        base = system.commits().commit(Change(NAME, (old,))).snapshot_id
        system.commits().commit(merge_of(system, old, base))
        assert system.rows() == [1, 9]

    def test_a_merge_against_a_table_that_moved_is_a_conflict_and_lands_nothing(self, system: System) -> None:
        old = system.file(1, 2)
        base = system.commits().commit(Change(NAME, (old,))).snapshot_id
        system.commits().commit(Change(NAME, (system.file(5),)))
        change = merge_of(system, old, base)
        with pytest.raises(CommitConflict, match=str(base)):
            system.commits().commit(change)
        assert system.rows() == [1, 2, 5]
        assert system.is_deleted(change.add[0])
        assert not system.is_deleted(old)

    def test_columns_land_in_the_commit_of_the_rows_that_need_them(self, system: System) -> None:
        system.commits().commit(step(system, None, "a", 1))
        schema, data_file = system.with_column("new", 2)
        assert system.schema_id() == schema.start
        system.commits().commit(Change(NAME, (data_file,), schema=schema, progress=Progress("landing", "a", "b")))
        assert (system.rows(), system.snapshots(), system.schema_id()) == ([1, 2], 2, schema.end)
        assert system.commits().progress(NAME, "landing") == "b"

    def test_columns_planned_on_a_schema_that_moved_are_a_conflict_and_land_nothing(self, system: System) -> None:
        (mine, my_file), (other, other_file) = system.with_column("mine", 1), system.with_column("theirs", 2)
        system.commits().commit(Change(NAME, (other_file,), schema=other))
        with pytest.raises(CommitConflict, match="columns"):
            system.commits().commit(Change(NAME, (my_file,), schema=mine, progress=Progress("landing", None, "a")))
        assert (system.rows(), system.snapshots(), system.schema_id()) == ([2], 1, other.end)
        assert system.is_deleted(my_file)
        assert system.commits().progress(NAME, "landing") is None
        again, again_file = system.with_column("mine", 1)
        system.commits().commit(Change(NAME, (again_file,), schema=again))
        assert (system.rows(), system.schema_id()) == ([1, 2], again.end)

    def test_columns_and_rows_land_once_whatever_answers_are_lost(self, system: System) -> None:
        schema, data_file = system.with_column("new", 1)
        system.fail(Outage.NO_ANSWER, Outage.LOST_ANSWER)
        done = system.commits().commit(Change(NAME, (data_file,), schema=schema))
        assert (system.rows(), system.snapshots(), system.schema_id(), done.attempts) == ([1], 1, schema.end, 2)

    def test_a_merge_may_bring_columns(self, system: System) -> None:
        old = system.file(1, 2)
        base = system.commits().commit(Change(NAME, (old,))).snapshot_id
        schema, data_file = system.with_column("new", 1, 9)
        merge = merge_of(system, old, base)
        system.commits().commit(replace(merge, add=(data_file,), schema=schema, on_base=True))
        assert (system.rows(), system.schema_id()) == ([1, 9], schema.end)


def merge_of(system: System, old: DataFile, base: int) -> Change:
    if isinstance(system, RealSystem):
        (task,) = [task for task in system.table().scan().plan_files() if task.file.file_path == old.file_path]
        old = task.file
    return Change(NAME, (system.file(1, 9),), (old,), base=base)


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """The result or the LakeflowError of each call, all started at one moment in threads of their own."""
    barrier = threading.Barrier(len(calls))
    outcomes: list[Any] = [None] * len(calls)

    def run(place: int) -> None:
        barrier.wait()
        try:
            outcomes[place] = calls[place]()
        except LakeflowError as error:
            outcomes[place] = error

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


class TestRealCatalogs:
    @pytest.mark.parametrize(
        ("fault", "attempts"), [(state_unknown_landed, 1), (state_unknown_not_landed, 2), (locked, 2), (sent_twice, 1)]
    )
    def test_whatever_the_catalog_says_the_change_lands_once(self, real: RealSystem, fault: Fault, attempts: int) -> None:
        real.commits().commit(step(real, None, "a", 1))
        real.catalog.faults.append(fault)
        done = real.commits().commit(step(real, "a", "b", 2))
        assert (real.rows(), real.snapshots(), real.head(), done.attempts) == ([1, 2], 2, done.snapshot_id, attempts)
        assert real.commits().progress(NAME, "landing") == "b"

    def test_a_lost_answer_is_found_behind_the_commits_of_others(self, real: RealSystem) -> None:
        def land_then_others(send: Callable[[], CommitTableResponse]) -> CommitTableResponse:
            send()
            for value in (8, 9):
                real.commits().commit(Change(NAME, (real.file(value),)))
            raise ConnectionError("the answer was lost")

        real.catalog.faults.append(land_then_others)
        real.commits().commit(step(real, None, "a", 1))
        assert (real.rows(), real.snapshots()) == ([1, 8, 9], 3)

    def test_an_attempt_under_way_cannot_land_beside_its_own_retry(self, real: RealSystem) -> None:
        held: list[Callable[[], CommitTableResponse]] = []

        def hold(send: Callable[[], CommitTableResponse]) -> CommitTableResponse:
            held.append(send)
            raise ConnectionError("no answer yet")

        real.catalog.faults.append(hold)
        real.commits().commit(step(real, None, "a", 1))
        with pytest.raises(CommitFailedException):
            held[0]()
        assert (real.rows(), real.snapshots()) == ([1], 1)

    def test_a_retry_finds_its_own_late_attempt(self, real: RealSystem) -> None:
        def hold_then_race(send: Callable[[], CommitTableResponse]) -> CommitTableResponse:
            real.catalog.faults.append(lambda retry: late_first(send, retry))
            raise ConnectionError("no answer yet")

        real.catalog.faults.append(hold_then_race)
        real.commits().commit(step(real, None, "a", 1))
        assert (real.rows(), real.snapshots()) == ([1], 1)

    def test_a_table_that_moves_under_the_send_is_tried_again_with_the_same_files(self, real: RealSystem) -> None:
        real.catalog.faults.append(lambda send: after(lambda: real.commits().commit(Change(NAME, (real.file(5),))), send))
        change = step(real, None, "a", 1)
        done = real.commits().commit(change)
        assert (real.rows(), real.snapshots(), done.attempts) == ([1, 5], 2, 2)
        assert change.add[0].file_path in {task.file.file_path for task in real.table().scan().plan_files()}

    def test_a_rival_that_lands_under_the_send_fences(self, real: RealSystem) -> None:
        real.catalog.faults.append(lambda send: after(lambda: real.commits().commit(step(real, None, "rival", 5)), send))
        change = step(real, None, "a", 1)
        with pytest.raises(Fenced, match="shows rival"):
            real.commits().commit(change)
        assert (real.rows(), real.is_deleted(change.add[0])) == ([5], True)

    def test_a_refused_attempt_leaves_no_manifest_behind(self, real: RealSystem) -> None:
        real.catalog.faults.append(lambda send: after(lambda: real.commits().commit(Change(NAME, (real.file(5),))), send))
        real.commits().commit(step(real, None, "a", 1))
        snapshots = real.table().snapshots()
        needed = {path_of(snapshot.manifest_list).name for snapshot in snapshots} | {
            path_of(manifest.manifest_path).name for snapshot in snapshots for manifest in snapshot.manifests(real.table().io)
        }
        assert {path.name for path in stored_files(real.table(), ".avro")} == needed

    def test_files_of_a_commit_that_was_rolled_back_outlive_a_fenced_retry(self, real: RealSystem) -> None:
        first = real.commits().commit(step(real, None, "a", 1))
        change = step(real, "a", "b", 2)
        landed = real.commits().commit(change)
        real.rollback(first.snapshot_id)
        real.commits().commit(step(real, "a", "other", 3))
        with pytest.raises(Fenced):
            real.commits().commit(change)
        assert not real.is_deleted(change.add[0])
        real.table().manage_snapshots().set_current_snapshot(landed.snapshot_id).commit()
        assert real.rows() == [1, 2]

    def test_files_that_live_in_the_table_outlive_a_fenced_retry_whose_commit_has_expired(self, real: RealSystem) -> None:
        change = step(real, None, "a", 1)
        real.commits().commit(change)
        few = Committer(real.lake, real.fence, keep_snapshots=2)
        for turn in range(3):
            few.commit(step(real, few.progress(NAME, "landing"), f"b{turn}", 2 + turn))
        with pytest.raises(Fenced):
            real.commits().commit(change)
        assert (real.rows(), real.is_deleted(change.add[0])) == ([1, 2, 3, 4], False)

    def test_snapshots_expired_by_another_engine_under_the_send(self, real: RealSystem) -> None:
        for value in range(3):
            real.commits().commit(Change(NAME, (real.file(value),)))
        oldest = list(ancestors(real.table().metadata))[-1].snapshot_id

        def expire_first(send: Callable[[], CommitTableResponse]) -> CommitTableResponse:
            return after(lambda: real.table().maintenance.expire_snapshots().by_id(oldest).commit(), send)

        real.catalog.faults.append(expire_first)
        Committer(Lake(cast(Catalog, real.catalog)), real.fence, keep_snapshots=3, sleep=lambda _: None).commit(
            step(real, None, "a", 9)
        )
        assert real.rows() == [0, 1, 2, 9]

    def test_a_branch_that_takes_the_sequence_number_is_a_conflict_and_tried_again(self, real: RealSystem) -> None:
        base = real.commits().commit(Change(NAME, (real.file(1),))).snapshot_id
        real.table().manage_snapshots().create_branch(base, "side").commit()

        def branch_first(send: Callable[[], CommitTableResponse]) -> CommitTableResponse:
            return after(lambda: real.table().append(ids(5), branch="side"), send)

        real.catalog.faults.append(branch_first)
        real.commits().commit(step(real, None, "a", 2))
        assert real.rows() == [1, 2]

    def test_a_request_that_the_catalog_calls_bad_is_a_refused_attempt(self, real: RealSystem) -> None:
        def bad(send: Callable[[], CommitTableResponse]) -> CommitTableResponse:
            raise BadRequestError("Cannot add snapshot with sequence number 2 older than last sequence number 2")

        real.catalog.faults.append(bad)
        assert real.commits().commit(step(real, None, "a", 2)).attempts == 2
        assert real.rows() == [2]

    def test_files_for_a_table_that_was_made_anew_are_refused(self, real: RealSystem) -> None:
        change = Change(NAME, (real.file(1),), table_uuid=str(real.table().metadata.table_uuid))
        real.lake.drop(NAME)
        made(real.lake)
        with pytest.raises(SourceChanged, match="made anew"):
            real.commits().commit(change)
        assert real.rows() == []

    def test_files_of_an_earlier_partitioning_are_refused(self, real: RealSystem) -> None:
        change = Change(NAME, (real.file(1),))
        with real.table().update_spec() as update:
            update.add_identity("id")
        with pytest.raises(CommitConflict, match=r"partitioning of table bronze\.flights changed"):
            real.commits().commit(change)

    def test_fewer_than_two_snapshots_cannot_be_kept(self, real: RealSystem) -> None:
        with pytest.raises(UsageError, match="2 snapshots at the least, not 1"):
            Committer(real.lake, real.fence, keep_snapshots=1)

    def test_expired_progress_survives_in_the_property(self, real: RealSystem) -> None:
        real.commits().commit(step(real, None, "a", 0))
        few = Committer(Lake(cast(Catalog, real.catalog)), real.fence, keep_snapshots=3)
        for value in range(1, 7):
            few.commit(Change(NAME, (real.file(value),)))
        metadata = real.table().metadata
        assert len(metadata.snapshots) == 3
        assert not any("lakeflow.progress.landing" in str(snapshot.summary) for snapshot in metadata.snapshots)
        assert few.progress(NAME, "landing") == "a"
        with pytest.raises(Fenced):
            few.commit(step(real, None, "b", 9))
        few.commit(step(real, "a", "b", 7))
        assert (real.rows(), few.progress(NAME, "landing")) == (list(range(8)), "b")

    def test_progress_rolled_back_and_then_expired_is_not_believed(self, real: RealSystem) -> None:
        few = Committer(Lake(cast(Catalog, real.catalog)), real.fence, keep_snapshots=3)
        few.commit(step(real, None, "a", 0))
        before = few.commit(step(real, None, "x", 1, writer="job.other")).snapshot_id
        few.commit(step(real, "a", "b", 2))
        real.rollback(before)
        for value in range(5):
            few.commit(step(real, few.progress(NAME, "job.other"), f"x{value}", 10 + value, writer="job.other"))
            assert few.progress(NAME, "landing") == "a"


def after(first: Callable[[], Any], send: Callable[[], CommitTableResponse]) -> CommitTableResponse:
    first()
    return send()


def late_first(late: Callable[[], CommitTableResponse], retry: Callable[[], CommitTableResponse]) -> CommitTableResponse:
    late()
    return retry()


class TestColumns:
    """What the catalogs store of a commit that brings columns."""

    def test_the_snapshot_is_of_the_new_schema_and_the_files_hold_its_field_ids(self, real: RealSystem) -> None:
        real.commits().commit(step(real, None, "a", 1))
        schema, data_file = real.with_column("new", 2)
        real.commits().commit(Change(NAME, (data_file,), schema=schema))
        table = real.table()
        head = table.current_snapshot()
        assert head is not None
        assert [snapshot.schema_id for snapshot in ancestors(table.metadata)] == [schema.end, schema.start]
        assert [(field.field_id, field.name) for field in table.schema().fields] == [(1, "id"), (2, "new")]
        assert table.metadata.last_column_id == 2
        assert sorted(table.scan().to_arrow().to_pylist(), key=lambda row: int(row["id"])) == [
            {"id": 1, "new": None},
            {"id": 2, "new": "x"},
        ]
        sent = real.catalog.sent[-1]
        assert sent[:3] == ["add-schema", "set-current-schema", "add-snapshot"]

    def test_a_schema_that_moves_under_the_send_is_a_conflict_and_the_files_are_deleted(self, real: RealSystem) -> None:
        schema, data_file = real.with_column("mine", 1)
        rival, rival_file = real.with_column("theirs", 2)
        land_rival = partial(real.commits().commit, Change(NAME, (rival_file,), schema=rival))
        real.catalog.faults.append(lambda send: after(land_rival, send))
        with pytest.raises(CommitConflict):
            real.commits().commit(Change(NAME, (data_file,), schema=schema))
        assert (real.rows(), real.is_deleted(data_file), real.table().schema().column_names) == ([2], True, ["id", "theirs"])

    def test_columns_that_come_without_a_snapshot_under_the_send_are_a_conflict_too(self, real: RealSystem) -> None:
        schema, data_file = real.with_column("mine", 1)

        def add_theirs() -> None:
            with real.table().update_schema() as update:
                update.add_column("theirs", StringType())

        real.catalog.faults.append(lambda send: after(add_theirs, send))
        with pytest.raises(CommitConflict):
            real.commits().commit(Change(NAME, (data_file,), schema=schema))
        assert (real.rows(), real.is_deleted(data_file), real.table().schema().column_names) == ([], True, ["id", "theirs"])

    def test_a_commit_of_the_columns_before_lands_behind_new_ones(self, real: RealSystem) -> None:
        behind = real.file(1)
        schema, data_file = real.with_column("new", 2)
        real.commits().commit(Change(NAME, (data_file,), schema=schema))
        real.commits().commit(Change(NAME, (behind,)))
        assert sorted(real.table().scan().to_arrow()["id"].to_pylist()) == [1, 2]


class TestFences:
    def test_the_fence_follows_what_the_catalog_can_hold(self, tmp_path: Path) -> None:
        lake = open_lake(tmp_path)
        assert isinstance(fence_for(lake), ProgressFence)
        assert isinstance(fence_for(rest_like(lake)), SnapshotFence)

    def test_a_rest_catalog_would_refuse_a_requirement_of_our_own(self, tmp_path: Path) -> None:
        real = real_system("rest catalog", tmp_path)
        real.fence = ProgressFence()
        with pytest.raises((CommitConflict, CatalogUnavailable)) as caught:
            real.commits(1).commit(step(real, None, "a", 1))
        assert isinstance(caught.value.__cause__.__cause__ if caught.value.__cause__ else None, ValidationError)
        assert real.rows() == []

    def test_the_progress_fence_is_evaluated_by_the_catalog_itself(self, tmp_path: Path) -> None:
        real = real_system("progress fence", tmp_path)
        real.commits().commit(step(real, None, "a", 1))
        change = step(real, None, "b", 2)
        committer = real.commits()
        with pytest.raises(Fenced):
            committer._send(real.table(), change, {})  # past the check that comes before
        assert real.rows() == [1]
