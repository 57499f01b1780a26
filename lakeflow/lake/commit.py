"""The only place where a snapshot is made: data, and the progress that it came from, in one Iceberg commit.

Each commit names its writer, the progress that the writer started from and the progress that it has made. It lands
only if the table still shows the progress that the writer started from (`Progress`: the whole of it; a writer that has
its own part of a shared progress brings an `Advance` that compares and moves that part alone):

    refresh -> is this commit there already? -> is the progress still the one we started from? -> send -> (again)

The check and the send are one step for the catalog. Every attempt requires main's head to be the snapshot that the
check was made against, so that whatever lands in between turns the attempt down. Of several attempts of one commit,
even of one whose answer was lost, only one can therefore land; its id, in the snapshot's summary, tells which.

Both fences below rest on that. `SnapshotFence` uses nothing but the standard requirement, so it holds with every
catalog. `ProgressFence` adds a requirement of our own where the catalog evaluates requirements in this process,
between its read and its swap: it catches even a change that leaves main where it was, such as progress that was reset.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pyiceberg.exceptions import BadRequestError, CommitFailedException, CommitStateUnknownException, ValidationException
from pyiceberg.manifest import DataFile
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import TableRequirement, TableUpdate, ValidatableTableRequirement

from lakeflow.errors import (
    CatalogUnavailable,
    CommitConflict,
    Fenced,
    LakeflowError,
    SourceChanged,
    StorageFull,
    Transient,
    UsageError,
)
from lakeflow.lake.catalog import Lake
from lakeflow.lake.compact_change import Rewrite, touched
from lakeflow.lake.compact_spans import dumps
from lakeflow.lake.failures import lake_errors
from lakeflow.lake.history import (
    COMMIT_ID,
    PROGRESS,
    REWRITTEN,
    SEQUENCE,
    due_with_commit,
    find_commit,
    has_seen,
    progress_in,
    require_ordered,
)
from lakeflow.lake.iceberg import (
    Staged,
    delete_files,
    forget_old_metadata,
    live_files,
    stage,
    validates_in_process,
)
from lakeflow.lake.schema_change import SchemaChange
from lakeflow.retry import Backoff

logger = logging.getLogger("lakeflow.lake")

COMMIT_BACKOFF = Backoff(attempts=12, base=0.02, cap=2.0)


class Advance(Protocol):
    """How a commit moves the progress of its writer."""

    @property
    def writer(self) -> str: ...

    def onto(self, found: str | None, table: str) -> str:
        """The progress after the commit, in a table that shows `found` (None: none yet).

        Raises Fenced where `found` is not what the writer started from.
        """
        ...


@dataclass(frozen=True, slots=True)
class Progress:
    """The Advance of a writer that has its progress for itself. `start` of None is the very beginning."""

    writer: str
    start: str | None
    end: str

    def onto(self, found: str | None, table: str) -> str:
        if found != self.start:
            raise fenced(table, self.writer, self.start, found)
        return self.end


@dataclass(frozen=True, slots=True)
class Change:
    """One commit to be made.

    `add` and `remove` are data files. A change with `remove`, or with `on_base`, was computed against the snapshot `base`
    (None: an empty table) and lands on no other; a `rewrite` lands wherever the files that it removes are still live and no
    row of theirs was deleted since. `replace_all` removes whatever main holds when it lands. `summary` holds
    further facts for the snapshot's.
    `schema` gives the table other columns in the same commit, which lands only on the schema that they were planned on.
    `properties` are set in the same commit. `table_uuid`, where given, is the table that the files were written for: one made
    anew under its name is refused.
    """

    table: str
    add: tuple[DataFile, ...] = ()
    remove: tuple[DataFile, ...] = ()
    replace_all: bool = False
    base: int | None = None
    on_base: bool = False
    rewrite: Rewrite | None = None
    schema: SchemaChange | None = None
    progress: Advance | None = None
    table_uuid: str | None = None
    summary: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    commit_id: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True, slots=True)
class Committed:
    """A commit that landed: its snapshot, and how many attempts it took."""

    snapshot_id: int
    attempts: int


class CommitProtocol(Protocol):
    """What makes a snapshot. `commit` lands the change once, or raises and has landed nothing.

    Raises Fenced where the writer's progress is no longer where the change started, CommitConflict where the
    table moved away under a change that removes files or brings columns, CatalogUnavailable where the catalog never gave
    an answer and the commit could not be found: the same change may then be passed again.
    """

    def commit(self, change: Change) -> Committed: ...

    def progress(self, table: str, writer: str) -> str | None: ...


class Fence(Protocol):
    """What a commit requires of the table beyond that main has not moved."""

    def requirements(self, change: Change) -> tuple[TableRequirement, ...]: ...


class SnapshotFence:
    """The standard requirement on main's head, which every commit carries, and nothing more."""

    def requirements(self, change: Change) -> tuple[TableRequirement, ...]:
        return ()


class ProgressUnmoved(ValidatableTableRequirement):
    """The writer's progress must be what it started from in the very metadata that the catalog is about to swap out.

    Raises Fenced, and not CommitFailedException, so that nothing between here and the catalog tries again.
    """

    type: Literal["lakeflow-progress-unmoved"] = "lakeflow-progress-unmoved"
    table: str
    advance: Any

    def validate(self, base_metadata: TableMetadata | None) -> None:  # type: ignore[override]  # as every requirement does
        found = None if base_metadata is None else progress_in(base_metadata, self.advance.writer)
        self.advance.onto(found, self.table)


class ProgressFence:
    """For catalogs that evaluate requirements in this process."""

    def requirements(self, change: Change) -> tuple[TableRequirement, ...]:
        if change.progress is None:
            return ()
        unmoved = ProgressUnmoved(table=change.table, advance=change.progress)
        return (unmoved,)  # type: ignore[return-value]  # the union of requirements is closed, its validation is open


def fence_for(lake: Lake) -> Fence:
    """The strongest fence that the catalog can hold."""
    return ProgressFence() if validates_in_process(lake.catalog) else SnapshotFence()


def fenced(table: str, writer: str, start: str | None, found: str | None) -> Fenced:
    return Fenced(
        f"another process moved the progress of {writer} in table {table}: this one started from {start or 'the beginning'}, "
        f"the table now shows {found or 'the beginning'}",
        left_behind="nothing of this process's batch is in the table",
        next_step="let one process at a time write with this name; the other one goes on from where the table stands",
    )


class _Moved(CommitConflict):
    """Main or the columns are no longer what a change was computed on: it cannot land as it is, however often it is sent."""


class Committer:
    """The commit protocol over an Iceberg catalog.

    `keep_snapshots` bounds the snapshots that a table drags along. `needed_from` tells of a table from which sequence number
    on readers need its snapshots: those are kept beyond, within bounds.
    """

    def __init__(
        self,
        lake: Lake,
        fence: Fence | None = None,
        *,
        keep_snapshots: int = 100,
        backoff: Backoff = COMMIT_BACKOFF,
        sleep: Callable[[float], None] = time.sleep,
        needed_from: Callable[[str], int | None] = lambda table: None,
    ) -> None:
        if keep_snapshots < 2:
            raise UsageError(f"a table must keep 2 snapshots at the least, not {keep_snapshots}", next_step="lakeflow doctor")
        self._lake = lake
        self._fence = fence or fence_for(lake)
        self._keep_snapshots = keep_snapshots
        self._backoff = backoff
        self._sleep = sleep
        self._needed_from = needed_from

    def progress(self, table: str, writer: str) -> str | None:
        """How far the writer has come, by the table itself; None for a table or a writer that is new."""
        found = self._lake.find(table)
        return None if found is None else progress_in(found.metadata, writer)

    def commit(self, change: Change) -> Committed:
        """See the protocol. The files of a change that cannot have landed are deleted; where that is not sure, they stay."""
        last: Transient | None = None
        table: Table | None = None
        unanswered = False
        for attempt in range(self._backoff.attempts):
            if last is not None:
                self._sleep(self._backoff.wait(attempt - 1))
            try:
                table = self._lake.table(change.table)
                if (landed := find_commit(table.metadata, change.commit_id)) is not None:
                    return Committed(landed, attempt)
                progress = self._check(table, change)
                return Committed(self._send(table, change, progress), attempt + 1)
            except (Fenced, _Moved, StorageFull):
                if table is not None and not unanswered:
                    _delete_unused(table, change)
                raise
            except Transient as error:
                unanswered = unanswered or not isinstance(error, CommitConflict)
                logger.info("commit to %s, attempt %d: %s", change.table, attempt + 1, error.message)
                last = error
        assert last is not None
        if table is not None and not unanswered:
            _delete_unused(table, change)
            raise _outrun(change, self._backoff.attempts, last) from last
        raise _gave_up(change, self._backoff.attempts, last) from last

    def _check(self, table: Table, change: Change) -> Mapping[str, str]:
        """The progress after the change, by its key in a snapshot's summary. Raises where the change may not land."""
        require_ordered(table.metadata, change.table)
        _require_same_layout(table, change)
        progress = {}
        if change.progress is not None:
            writer = change.progress.writer
            progress = {PROGRESS + writer: change.progress.onto(progress_in(table.metadata, writer), change.table)}
        if change.schema is not None and (reason := change.schema.moved(table.metadata)) is not None:
            raise _Moved(f"table {change.table} cannot take the commit: {reason}")
        head = table.metadata.current_snapshot_id
        if change.rewrite is not None:
            with lake_errors(f"table {change.table}"):
                reason = touched(table, change.remove, change.rewrite)
            if reason is not None:
                raise _Moved(reason)
        elif (change.on_base or change.remove) and head != change.base:
            raise _Moved(f"table {change.table} moved from snapshot {change.base} to {head} under a merge")
        return progress

    def _send(self, table: Table, change: Change, progress: Mapping[str, str]) -> int:
        dropped = due_with_commit(table.metadata, self._keep_snapshots, lambda: self._needed_from(change.table))
        with lake_errors(f"a commit to {change.table}"):
            staged = stage(
                table,
                add=change.add,
                remove=self._removals(table, change),
                sequences=None if change.rewrite is None else change.rewrite.sequences,
                layout=None if change.schema is None else change.schema.layout,
                summary={**_summary(change), COMMIT_ID: change.commit_id, **progress},
                properties={**change.properties, **dropped.properties, **_properties(table.metadata, progress)},
                expire=dropped.snapshot_ids,
            )
        try:
            with lake_errors(f"a commit to {change.table}"):
                requirements = (*staged.requirements, *self._fence.requirements(change))
                answer = self._commit_table(table, requirements, staged.updates)
        except (CommitFailedException, ValidationException, ValueError) as error:
            return self._landed_after_all(table, change, staged, error)
        except (Fenced, StorageFull):
            staged.discard()
            raise
        except CommitStateUnknownException as error:
            raise CatalogUnavailable(f"the answer to a commit to {change.table} was lost: {error}") from error
        forget_old_metadata(table, table.metadata, answer.metadata)
        return staged.snapshot_id

    def _commit_table(
        self, table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
    ) -> CommitTableResponse:
        """A REST catalog calls it a bad request where a branch took the sequence number: a refused attempt like another."""
        try:
            return self._lake.catalog.commit_table(table, requirements, updates)
        except BadRequestError as error:
            raise CommitFailedException(str(error)) from error

    def _landed_after_all(self, table: Table, change: Change, staged: Staged, refusal: Exception) -> int:
        """The snapshot of a refused attempt that is there nonetheless; raises CommitConflict where it is not.

        Something between here and the catalog that sends a request twice gets the refusal of the second one. Only
        where the table does not show the snapshot are its manifests deleted. PyIceberg says ValueError where what is
        to be expired has been already, or where a branch took the sequence number.
        """
        if self._lake.table(change.table).metadata.snapshot_by_id(staged.snapshot_id) is not None:
            return staged.snapshot_id
        staged.discard()
        raise CommitConflict(f"another commit to {change.table} came first: {refusal}") from refusal

    def _removals(self, table: Table, change: Change) -> tuple[DataFile, ...]:
        head = table.current_snapshot()
        if not change.replace_all or head is None:
            return change.remove
        return tuple(live.data_file for live in live_files(table, head))


def _require_same_layout(table: Table, change: Change) -> None:
    """Data files hold column ids and partition values of the table that they were written for."""
    if change.table_uuid not in (None, str(table.metadata.table_uuid)):
        raise SourceChanged(
            f"table {change.table} was dropped and made anew while rows for it were written",
            left_behind=f"{len(change.add)} data files that belong to no snapshot",
            next_step="run the same command again; it starts from what the new table holds",
        )
    if stale := [data_file for data_file in change.add if data_file.spec_id != table.metadata.default_spec_id]:
        raise _Moved(
            f"the partitioning of table {change.table} changed while rows for it were written: {len(stale)} data files are "
            f"of spec {stale[0].spec_id}, the table is now of spec {table.metadata.default_spec_id}",
            left_behind="nothing of this change is in the table",
            next_step="run the same command again",
        )


def _summary(change: Change) -> Mapping[str, str]:
    if change.rewrite is None:
        return change.summary
    return {**change.summary, REWRITTEN: dumps(change.rewrite.spans)}


def _delete_unused(table: Table, change: Change) -> None:
    """Delete the files of a change that did not land, unless the table shows that an earlier call landed it after all.

    What fails here is logged and left: the error that led here says more.
    """
    try:
        with lake_errors(f"table {change.table}"):
            if has_seen(table.metadata, change.commit_id):
                return
            mine = {data_file.file_path for data_file in change.add}
            head = table.current_snapshot()
            live = {file.data_file.file_path for file in live_files(table, head)} if head is not None and mine else set()
            delete_files(table.io, sorted(mine - live))
    except LakeflowError as error:
        logger.warning("%d data files of a commit to %s are left behind: %s", len(change.add), change.table, error.message)


def _properties(metadata: TableMetadata, progress: Mapping[str, str]) -> dict[str, str]:
    sequence = str(metadata.next_sequence_number())
    return {**progress, **{SEQUENCE + key.removeprefix(PROGRESS): sequence for key in progress}}


def _outrun(change: Change, attempts: int, last: LakeflowError) -> CommitConflict:
    return CommitConflict(
        f"a commit to {change.table} came second {attempts} times: {last.message}",
        left_behind="nothing of this change is in the table",
        next_step="run the same command again; it goes on from what the table holds",
    )


def _gave_up(change: Change, attempts: int, last: LakeflowError) -> CatalogUnavailable:
    return CatalogUnavailable(
        f"a commit to {change.table} was given up after {attempts} attempts: {last.message}",
        left_behind=f"{len(change.add)} data files that belong to no snapshot unless commit {change.commit_id} is in the table",
        next_step="lakeflow doctor, then run the same command again; it goes on from what the table holds",
    )
