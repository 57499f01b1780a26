"""What happened to a table after a position: each commit's files, read from its own manifests, and how a reader follows.

A job that says what becomes of rows that went (`on_change`) reads by `batches_after`. Where nothing but appends and
compactions came, that is what `read.appended` gives. Else `ignore_deletes` passes over commits that only removed rows, and
`recompute` follows: what was begun is read to its end, then each batch goes from one snapshot of the table to a later one,
with the files that came and those that went in between. Files that went still lie where they were while their snapshots
are kept: maintenance keeps those that a known reader has not passed. `read_removed` reads them: which keys or windows the rows
that went were of is all that a reader needs of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

import pyarrow as pa
from pyiceberg.manifest import ManifestContent, ManifestEntryStatus
from pyiceberg.table import FileScanTask, Table
from pyiceberg.table.snapshots import Operation, Snapshot

from lakeflow.errors import Terminal
from lakeflow.job import Caps, OnChange
from lakeflow.lake.compact_spans import Span
from lakeflow.lake.failures import lake_errors
from lakeflow.lake.follow import ChangeKind, NetChange, SplitFiles, TableChange, net_changes
from lakeflow.lake.history import ancestors, changed, is_cut, not_on_main, split_by
from lakeflow.lake.read import Batch, Split, appended, cut, position_at, read, splits_at
from lakeflow.progress import SnapshotPosition

Change: TypeAlias = TableChange[Split]


def changes_since(table: Table, start: SnapshotPosition) -> tuple[Change, ...]:
    """The commits on main after the snapshot of `start`, in their order.

    They go by what each snapshot was made from, so that clocks that run backwards do not matter. Raises SourceChanged where
    the table was made anew, was rolled back behind `start`, or no longer keeps the snapshot of `start`.
    """
    name = ".".join(table.name())
    after: list[Snapshot] = []
    for snapshot in ancestors(table.metadata):
        if snapshot.snapshot_id == start.snapshot_id:
            break
        after.append(snapshot)
    else:
        if start.snapshot_id != 0 or (after and is_cut(after[-1])):
            raise not_on_main(table.metadata, start, name)
    if start.table_uuid != str(table.metadata.table_uuid):
        raise not_on_main(table.metadata, start, name)
    with lake_errors(f"table {name}"):
        return tuple(_change_of(table, snapshot) for snapshot in reversed(after))


def _change_of(table: Table, snapshot: Snapshot) -> Change:
    added: list[Split] = []
    removed: list[Split] = []
    delete_files = 0
    for manifest in snapshot.manifests(table.io):
        if manifest.added_snapshot_id != snapshot.snapshot_id:
            continue
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False):
            if entry.snapshot_id != snapshot.snapshot_id or entry.status == ManifestEntryStatus.EXISTING:
                continue
            came = entry.status == ManifestEntryStatus.ADDED
            if manifest.content == ManifestContent.DELETES:
                delete_files += came
            else:
                files = added if came else removed
                files.append(Split(entry.sequence_number or 0, FileScanTask(entry.data_file)))
    kind = _kind(snapshot, bool(added))
    return TableChange(snapshot.snapshot_id, snapshot.sequence_number or 0, kind, tuple(added), tuple(removed), delete_files)


def _kind(snapshot: Snapshot, adds: bool) -> ChangeKind:
    operation = snapshot.summary.operation if snapshot.summary else Operation.OVERWRITE
    if operation is Operation.APPEND:
        return ChangeKind.APPEND
    if operation is Operation.REPLACE:
        return ChangeKind.REPLACE
    return ChangeKind.OVERWRITE if adds else ChangeKind.DELETE


def batches_after(
    table: Table,
    start: SnapshotPosition | None,
    on_change: OnChange,
    caps: Caps,
    again: SnapshotPosition | None = None,
) -> Iterator[Batch]:
    """What a reader at `start` (None: the very beginning) reads up to main's head, in its order, cut within the caps.

    `again` is the end of a first batch that was cut so before and is to be the same. Raises SourceChanged where the reader
    cannot go on, with what to run.
    """
    if start is None or on_change is OnChange.FAIL or not _rows_went(table, start):
        yield from _first(appended(table, start), again, caps, table, None)
        return
    changes = changes_since(table, start)
    if on_change is OnChange.IGNORE_DELETES:
        _require_deletes_only(changes, ".".join(table.name()))
        _require_unsplit(changes, start, table)
        yield from _first(_unread(table, table.current_snapshot(), start), again, caps, table, None)
        return
    yield from _followed(table, start, changes, caps, again)


def _rows_went(table: Table, start: SnapshotPosition) -> bool:
    """Whether a commit after `start` says that it is more than an append or the same rows in other files."""
    for snapshot in ancestors(table.metadata):
        if snapshot.snapshot_id == start.snapshot_id:
            return False
        if _kind(snapshot, adds=True) is ChangeKind.OVERWRITE:
            return (snapshot.sequence_number or 0) > start.sequence
    return False


def _first(
    splits: Sequence[Split], again: SnapshotPosition | None, caps: Caps, table: Table, head: SnapshotPosition | None
) -> Iterator[Batch]:
    """The batch up to `again`, if its files are there, and what is left, cut."""
    covered = tuple(split for split in splits if again is not None and again.covers(split.sequence, split.path))
    if again is not None and covered:
        yield Batch(covered, again)
    yield from cut(splits[len(covered) :], caps, table, head)


def _unread(table: Table, snapshot: Snapshot | None, start: SnapshotPosition) -> tuple[Split, ...]:
    """The files of a snapshot that the reader has not read."""
    after = start.sequence if start.path is None else start.sequence - 1
    return tuple(split for split in splits_at(table, snapshot, after) if not start.covers(split.sequence, split.path))


def _followed(
    table: Table, start: SnapshotPosition, changes: Sequence[Change], caps: Caps, again: SnapshotPosition | None
) -> Iterator[Batch]:
    """First the files that came before the first row went, as any others; then from snapshot to snapshot."""
    name = ".".join(table.name())
    _require_whole_files(changes, name)
    first = next(place for place, change in enumerate(changes) if not change.keeps_rows)
    calm, rest = changes[:first], changes[first:]
    _require_unsplit(calm, start, table)
    begun = table.snapshot_by_id(calm[-1].snapshot_id if calm else start.snapshot_id)
    border = position_at(table, begun)
    in_calm = again if again is not None and again.sequence <= border.sequence else None
    yield from _first(_unread(table, begun, start), in_calm, caps, table, border)
    done = [place for place, change in enumerate(rest) if again is not None and change.snapshot_id == again.snapshot_id]
    parts = [(rest[: done[0] + 1], Caps()), (rest[done[0] + 1 :], caps)] if done and not in_calm else [(rest, caps)]
    since = border.sequence
    for part, within in parts:
        try:
            for net in net_changes(part, since, within):
                yield _batch(net, start.table_uuid)
        except SplitFiles as split:
            at = replace(border, sequence=since)
            raise split_by(f"snapshot {split.snapshot_id}", name, at, split.span) from split
        since = part[-1].sequence if part else since


def _batch(net: NetChange[Split], table_uuid: str) -> Batch:
    return Batch(net.added, SnapshotPosition(table_uuid, net.snapshot_id, net.sequence), net.removed)


def read_removed(table: Table, splits: Sequence[Split], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows of files that the table no longer has, where they lie. Raises SourceChanged where one has been deleted."""
    name = ".".join(table.name())
    try:
        yield from read(table, splits, columns)
    except Terminal as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise
        raise changed(
            name,
            f"a file that table {name} had when it was last read is gone, and with it which rows went: {error.message}",
            "run the job once with --mode snapshot, which reads the table whole and goes on from there; lakeflow maintain "
            "keeps files for the readers of its own project, so let no other tool delete them",
        ) from error


def _require_unsplit(changes: Sequence[Change], start: SnapshotPosition, table: Table) -> None:
    """Raises SourceChanged where files were put together of which the reader has read some and not the others."""
    for change in changes:
        files = (*change.removed, *change.added)
        if change.kind is ChangeKind.REPLACE and len({start.covers(file.sequence, file.path) for file in files}) > 1:
            numbers = [file.sequence for file in files]
            name = ".".join(table.name())
            raise split_by(f"snapshot {change.snapshot_id}", name, start, Span(min(numbers), max(numbers)))


def _require_deletes_only(changes: Sequence[Change], table: str) -> None:
    for change in changes:
        if change.kind is ChangeKind.OVERWRITE:
            raise changed(
                table,
                f"snapshot {change.snapshot_id} of table {table} put {len(change.added)} files in place of "
                f"{len(change.removed)} others, and on_change = 'ignore_deletes' passes over commits that only remove rows",
                "on_change = 'recompute' follows such commits where the job has a key; otherwise run the job once with "
                "--mode snapshot, which reads the table whole and goes on from there",
            )


def _require_whole_files(changes: Sequence[Change], table: str) -> None:
    """Delete files tell no rows: which ones went would take all of the table's to say."""
    for change in changes:
        if change.delete_files:
            raise changed(
                table,
                f"snapshot {change.snapshot_id} of table {table} deletes rows by {change.delete_files} delete files beside "
                "the data (merge-on-read), which on_change = 'recompute' cannot follow",
                "run the job once with --mode snapshot, which reads the table whole and goes on from there; the engine that "
                "deletes may write copy-on-write: write.delete.mode, write.update.mode, write.merge.mode",
            )
