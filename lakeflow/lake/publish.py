"""Commits that are looked at before anybody sees them: write, audit, publish.

A change becomes a snapshot on a branch of the table, with the progress that it came from in its summary; main does not move.
What looks at it may raise, which leaves the branch as it is. Otherwise main is set to that very snapshot and the branch goes,
in one commit, which requires that main's head is still the one that the branch started from, that the branch is still this
change's, and what every commit requires of the writer's progress. Where another commit comes to main first, the same files go
onto the branch anew, behind that, and are looked at again; a change that was computed against main's head is a conflict then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from pyiceberg.exceptions import BadRequestError, CommitFailedException, CommitStateUnknownException, ValidationException
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import (
    AssertRefSnapshotId,
    AssertTableUUID,
    RemoveSnapshotRefUpdate,
    RemoveSnapshotsUpdate,
    SetPropertiesUpdate,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
)

from lakeflow.errors import CatalogUnavailable, CommitConflict, Fenced, LakeflowError
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.failures import lake_errors
from lakeflow.lake.history import COMMIT_ID, PROGRESS, SEQUENCE, ancestors, expiry, find_commit
from lakeflow.lake.iceberg import MAIN, Staged, forget_old_metadata, stage

logger = logging.getLogger("lakeflow.lake")

Audit = Callable[[Table, Snapshot, Change], None]
"""Looks at a table as a snapshot on its branch has it. What it raises keeps the change off main."""


class BranchCommitter(Committer):
    """Commits as `beside` does, but for a branch."""

    def __init__(self, beside: Committer, branch: str) -> None:
        super().__init__(
            beside._lake,
            beside._fence,
            keep_snapshots=beside._keep_snapshots,
            backoff=beside._backoff,
            sleep=beside._sleep,
            needed_from=beside._needed_from,
        )
        self._branch = branch


class AuditedCommitter(BranchCommitter):
    """The commit protocol by way of a branch. Of two writers with one branch, the later takes it from the earlier."""

    def __init__(self, beside: Committer, branch: str, audit: Audit) -> None:
        super().__init__(beside, branch)
        self._audit = audit

    def _send(self, table: Table, change: Change, progress: Mapping[str, str]) -> int:
        assert change.schema is None, "a job brings no columns"
        assert change.rewrite is None, "a job does not bring the same rows anew"
        with lake_errors(f"a commit to {change.table}"):
            staged = stage(
                table,
                add=change.add,
                remove=self._removals(table, change),
                summary={**change.summary, COMMIT_ID: change.commit_id, **progress},
                properties={},
                expire=(),
            )
        self._set_aside(table, change, staged)
        branched = self._lake.table(change.table)
        snapshot = branched.metadata.snapshot_by_id(staged.snapshot_id)
        if snapshot is None:
            raise CommitConflict(f"another writer took branch {self._branch!r} of {change.table}")
        self._audit(branched, snapshot, change)
        try:
            return self._publish(branched, change, snapshot, progress)
        except (Fenced, CommitConflict):
            self._take_away(change.table, staged.snapshot_id)
            raise

    def _set_aside(self, table: Table, change: Change, staged: Staged) -> None:
        """Put the staged snapshot onto the branch, in place of what an earlier try left there."""
        metadata = table.metadata
        old = metadata.refs.get(self._branch)
        updates = (*_without(metadata, self._branch), *(_onto(self._branch, update) for update in staged.updates))
        requirements = (*staged.requirements, *_at(self._branch, old.snapshot_id if old else None, metadata))
        try:
            with lake_errors(f"a commit to {change.table}"):
                answer = self._commit_table(table, requirements, updates)
        except (CommitFailedException, ValidationException, ValueError) as error:
            self._landed_after_all(table, change, staged, error)
        except CommitStateUnknownException as error:
            raise _unanswered(change.table, error) from error
        else:
            forget_old_metadata(table, metadata, answer.metadata)

    def _publish(self, table: Table, change: Change, snapshot: Snapshot, progress: Mapping[str, str]) -> int:
        """Set main to the branch's snapshot. The progress becomes the table's in the same commit."""
        metadata = table.metadata
        dropped = expiry(metadata, self._keep_snapshots - 1)
        since = {SEQUENCE + key.removeprefix(PROGRESS): str(snapshot.sequence_number) for key in progress}
        properties = {**change.properties, **dropped.properties, **progress, **since}
        updates: list[TableUpdate] = [_ref(MAIN, snapshot.snapshot_id), _drop(self._branch)]
        if properties:
            updates.append(SetPropertiesUpdate(updates=properties))
        if dropped.snapshot_ids:
            updates.append(RemoveSnapshotsUpdate.model_validate({"snapshot-ids": list(dropped.snapshot_ids)}))
        requirements = (
            AssertTableUUID(uuid=metadata.table_uuid),
            *_at(MAIN, snapshot.parent_snapshot_id, metadata),
            *_at(self._branch, snapshot.snapshot_id, metadata),
            *self._fence.requirements(change),
        )
        try:
            with lake_errors(f"a commit to {change.table}"):
                answer = self._commit_table(table, requirements, tuple(updates))
        except (CommitFailedException, ValidationException, ValueError) as error:
            if find_commit(self._lake.table(change.table).metadata, change.commit_id) == snapshot.snapshot_id:
                return snapshot.snapshot_id
            raise CommitConflict(f"another commit to {change.table} came first: {error}") from error
        except CommitStateUnknownException as error:
            raise _unanswered(change.table, error) from error
        forget_old_metadata(table, metadata, answer.metadata)
        return snapshot.snapshot_id

    def _take_away(self, name: str, snapshot_id: int) -> None:
        """Drop the branch, if it is still this snapshot's. What fails here is logged and left: the next run takes it over."""
        try:
            table = self._lake.table(name)
            found = table.metadata.refs.get(self._branch)
            if found is None or found.snapshot_id != snapshot_id:
                return
            requirements = (
                AssertTableUUID(uuid=table.metadata.table_uuid),
                *_at(self._branch, snapshot_id, table.metadata),
            )
            with lake_errors(f"branch {self._branch} of {name}"):
                self._commit_table(table, requirements, _without(table.metadata, self._branch))
        except (LakeflowError, CommitFailedException, ValidationException, ValueError, BadRequestError) as error:
            logger.warning("branch %s of %s is left behind: %s", self._branch, name, error)


def _without(metadata: TableMetadata, branch: str) -> tuple[TableUpdate, ...]:
    """What drops a branch, and its snapshot where nothing else leads to it."""
    found = metadata.refs.get(branch)
    if found is None:
        return ()
    others = {ref.snapshot_id for name, ref in metadata.refs.items() if name != branch}
    others |= {snapshot.snapshot_id for snapshot in ancestors(metadata)}
    drop = _drop(branch)
    if found.snapshot_id in others:
        return (drop,)
    return (drop, RemoveSnapshotsUpdate.model_validate({"snapshot-ids": [found.snapshot_id]}))


def _onto(branch: str, update: TableUpdate) -> TableUpdate:
    """An update of main as one of the branch."""
    if isinstance(update, SetSnapshotRefUpdate):
        return _ref(branch, update.snapshot_id)
    return update


def _ref(name: str, snapshot_id: int) -> SetSnapshotRefUpdate:
    fields = {"ref-name": name, "type": SnapshotRefType.BRANCH, "snapshot-id": snapshot_id}
    return SetSnapshotRefUpdate.model_validate(fields)


def _drop(branch: str) -> RemoveSnapshotRefUpdate:
    return RemoveSnapshotRefUpdate.model_validate({"ref-name": branch})


def _at(ref: str, snapshot_id: int | None, metadata: TableMetadata) -> Sequence[TableRequirement]:
    """That a branch is where it was seen. PyIceberg lets nothing be required of the branches of a table without snapshots."""
    if ref != MAIN and not metadata.snapshots:
        return ()
    return (AssertRefSnapshotId.model_validate({"ref": ref, "snapshot-id": snapshot_id}),)


def _unanswered(table: str, error: Exception) -> CatalogUnavailable:
    return CatalogUnavailable(f"the answer to a commit to {table} was lost: {error}")
