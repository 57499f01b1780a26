"""A lake in which some tables are what a branch of theirs is: main does not show what is written there until it is swapped in.

`BranchCatalog` stands between the rooms and a catalog. The tables that it is about get metadata whose main is the branch, and
commits to that main go to the branch. So whatever reads, merges and commits works on the branch as it does on main. A branch
begins with nothing, and is no descendant of main. A `SwappingCommitter` puts its files in place of main's, as one commit on
main: readers who go by main's line see an overwrite, and see either all of it or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, cast

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import BadRequestError, CommitFailedException, ValidationException
from pyiceberg.manifest import DataFile
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import SnapshotRef, SnapshotRefType
from pyiceberg.table.snapshots import Operation, Snapshot
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

from lakeflow.errors import CommitConflict, Fenced
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, Committer, _require_same_layout
from lakeflow.lake.failures import lake_errors
from lakeflow.lake.history import PROGRESS, ancestors
from lakeflow.lake.iceberg import MAIN, live_files
from lakeflow.lake.publish import BranchCommitter
from lakeflow.retry import Backoff, retrying

BACKOFF = Backoff(attempts=8, base=0.02, cap=1.0)
BASE = "base"
_CHANGES = ("added-data-files", "deleted-data-files", "added-delete-files", "removed-delete-files")
KEPT = 4
"""Snapshots that a branch drags along: nobody reads those before its head."""


class BranchCatalog:
    """A catalog in which the `tables` are what the branch of this name is; everything else goes to `inner` as it is.

    Other branches that are made of them meanwhile get names of their own behind the branch's.
    """

    def __init__(self, inner: Catalog, branch: str, tables: Collection[str]) -> None:
        self._inner = inner
        self._branch = branch
        self._tables = frozenset(tables)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def load_table(self, identifier: Any) -> Table:
        """The table, with the branch for main where it is one of the tables."""
        table = self._inner.load_table(identifier)
        if ".".join(table.name()) not in self._tables:
            return table
        metadata = self._as_main(table.metadata)
        return Table(table.name(), metadata, table.metadata_location, table.io, cast(Catalog, self), table.config)

    def commit_table(
        self, table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
    ) -> CommitTableResponse:
        """Commit to the branch what is meant for main. Properties stay main's. Raises as the catalog does."""
        name = ".".join(table.name())
        if name not in self._tables:
            return self._inner.commit_table(table, requirements, updates)
        if not table.metadata.snapshots:  # such a table takes no branch
            Committer(Lake(self._inner)).commit(Change(name))
            raise CommitFailedException(f"table {name} had no snapshot to begin a branch beside")
        asked = tuple(self._required(one) for one in requirements)
        return self._inner.commit_table(table, asked, tuple(map(self._updated, self._without_properties(updates))))

    def _as_main(self, metadata: TableMetadata) -> TableMetadata:
        """The metadata with the branch for main, and the branches that are its own by the names that they were given."""
        own = f"{self._branch}."
        refs = {name.removeprefix(own): ref for name, ref in metadata.refs.items() if name.startswith(own)}
        head = metadata.refs.get(self._branch)
        if head is not None:
            refs[MAIN] = head
        current = None if head is None else head.snapshot_id
        return metadata.model_copy(update={"current_snapshot_id": current, "refs": refs})

    def _real(self, ref: str) -> str:
        return self._branch if ref == MAIN else f"{self._branch}.{ref}"

    def _required(self, requirement: TableRequirement) -> TableRequirement:
        if isinstance(requirement, AssertRefSnapshotId):
            return requirement.model_copy(update={"ref": self._real(requirement.ref)})
        return requirement

    def _updated(self, update: TableUpdate) -> TableUpdate:
        if isinstance(update, SetSnapshotRefUpdate | RemoveSnapshotRefUpdate):
            return update.model_copy(update={"ref_name": self._real(update.ref_name)})
        return update

    @staticmethod
    def _without_properties(updates: tuple[TableUpdate, ...]) -> tuple[TableUpdate, ...]:
        return tuple(update for update in updates if not isinstance(update, SetPropertiesUpdate))


def on_branch(lake: Lake, branch: str, tables: Collection[str]) -> Lake:
    """The lake with the branch of these tables for their main."""
    return Lake(cast(Catalog, BranchCatalog(lake.catalog, branch, tables)))


def head_of(table: Table, branch: str) -> Snapshot | None:
    """The head of a branch; None where there is no such branch."""
    ref = table.metadata.refs.get(branch)
    return None if ref is None else table.metadata.snapshot_by_id(ref.snapshot_id)


def begun_at(table: Table, branch: str) -> int | None:
    """The snapshot that was main's head as the branch was begun; None where that is not known."""
    ref = table.metadata.refs.get(f"{branch}.{BASE}")
    return None if ref is None else ref.snapshot_id


def begin(lake: Lake, name: str, branch: str) -> None:
    """Remember where main is now, by a tag that keeps it and all that is newer: a branch begins, or goes on from here."""

    def tagging(metadata: TableMetadata) -> tuple[tuple[TableRequirement, ...], tuple[TableUpdate, ...]]:
        fields = {"ref-name": f"{branch}.{BASE}", "type": SnapshotRefType.TAG, "snapshot-id": metadata.current_snapshot_id}
        return (), (SetSnapshotRefUpdate.model_validate(fields),)

    _commit(lake, name, tagging)


def is_in_place(table: Table, branch: str, fact: str) -> bool:
    """Whether a commit on main, after the branch was begun, says by `fact` in its summary that it put the branch in place."""
    since = begun_at(table, branch)
    for snapshot in ancestors(table.metadata):
        if snapshot.snapshot_id == since:
            return False
        if snapshot.summary is not None and snapshot.summary.additional_properties.get(fact) == branch:
            return True
    return False


def strange(metadata: TableMetadata, since: int | None, writers: Collection[str]) -> str | None:
    """What came to main after the snapshot `since` that is no commit of the writers and no compaction; None: nothing. Pure."""
    for snapshot in ancestors(metadata):
        if snapshot.snapshot_id == since:
            return None
        facts = {} if snapshot.summary is None else snapshot.summary.additional_properties
        operation = Operation.OVERWRITE if snapshot.summary is None else snapshot.summary.operation
        known = operation is Operation.REPLACE or any(PROGRESS + writer in facts for writer in writers)
        if not known and any(facts.get(count, "0") != "0" for count in _CHANGES):
            return f"snapshot {snapshot.snapshot_id}, {operation.value!r} by another writer, came to it"
    return None if since is None else f"it was rolled back to before snapshot {since}"


class SwappingCommitter(BranchCommitter):
    """Commits changes that put the files of a branch in place of main's. A change brings no files of its own.

    Raises Fenced where anybody but the `writers` has changed main since the branch was begun. Files that both have stay, and a
    branch that is not there has none. The branch's files are never deleted by a commit that fails.
    """

    def __init__(self, beside: Committer, branch: str, writers: Collection[str]) -> None:
        super().__init__(beside, branch)
        self._writers = tuple(writers)

    def _check(self, table: Table, change: Change) -> Mapping[str, str]:
        assert not change.add, "the branch has the files"
        since = begun_at(table, self._branch)
        if since is not None and (why := strange(table.metadata, since, self._writers)) is not None:
            raise Fenced(
                f"table {change.table} has changed while its rows were made anew on branch {self._branch!r}: {why}",
                left_behind=f"{change.table} as it is, and the branch beside it",
            )
        return super()._check(table, change)

    def _send(self, table: Table, change: Change, progress: Mapping[str, str]) -> int:
        with lake_errors(f"table {change.table}"):
            there = _files(table, table.current_snapshot())
            wanted = _files(table, head_of(table, self._branch))
        add = tuple(data_file for path, data_file in wanted.items() if path not in there)
        remove = tuple(data_file for path, data_file in there.items() if path not in wanted)
        whole = replace(change, add=add, remove=remove)
        _require_same_layout(table, whole)
        return super()._send(table, whole, progress)


def _files(table: Table, snapshot: Snapshot | None) -> dict[str, DataFile]:
    if snapshot is None:
        return {}
    return {live.data_file.file_path: live.data_file for live in live_files(table, snapshot)}


def drop_branches(lake: Lake, name: str, branch: str) -> bool:
    """Drop a branch, what is named by it and a dot, and snapshots that nothing else leads to. Whether any was there.

    Their files stay until maintenance finds that nothing names them.
    """

    def dropping(metadata: TableMetadata) -> tuple[tuple[TableRequirement, ...], tuple[TableUpdate, ...]]:
        gone = {ref: one for ref, one in metadata.refs.items() if ref == branch or ref.startswith(f"{branch}.")}
        kept = {one for ref, held in metadata.refs.items() if ref not in gone for one in _line(metadata, held)}
        lost = {one for held in gone.values() for one in _line(metadata, held)} - kept
        updates: list[TableUpdate] = [RemoveSnapshotRefUpdate.model_validate({"ref-name": ref}) for ref in gone]
        if lost:
            updates.append(RemoveSnapshotsUpdate.model_validate({"snapshot-ids": sorted(lost)}))
        required = [
            AssertRefSnapshotId.model_validate({"ref": ref, "snapshot-id": one.snapshot_id}) for ref, one in gone.items()
        ]
        return tuple(required), tuple(updates)

    return _commit(lake, name, dropping)


def _line(metadata: TableMetadata, ref: SnapshotRef) -> set[int]:
    found: set[int] = set()
    snapshot = metadata.snapshot_by_id(ref.snapshot_id)
    while snapshot is not None:
        found.add(snapshot.snapshot_id)
        parent = snapshot.parent_snapshot_id
        snapshot = None if parent is None else metadata.snapshot_by_id(parent)
    return found


Planned = Callable[[TableMetadata], tuple[tuple[TableRequirement, ...], tuple[TableUpdate, ...]]]


def _commit(lake: Lake, name: str, planned: Planned) -> bool:
    """Commit what is planned on the metadata as it is, again where another commit came first; whether there was anything."""

    def once() -> bool:
        table = lake.table(name)
        requirements, updates = planned(table.metadata)
        if not updates:
            return False
        unmoved = (*requirements, AssertTableUUID(uuid=table.metadata.table_uuid))
        try:
            with lake_errors(f"a commit to {name}"):
                lake.catalog.commit_table(table, unmoved, updates)
        except (CommitFailedException, ValidationException, BadRequestError, ValueError) as error:
            raise CommitConflict(f"another commit to {name} came first: {error}") from error
        return True

    return retrying(once, BACKOFF)
