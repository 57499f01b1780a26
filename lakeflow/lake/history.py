"""What a table's metadata says about its past: progress, commits, what may expire, what was read. Pure.

Progress rides in a commit twice: in the snapshot's summary and in a table property. The nearest ancestor of main's
head whose summary carries it is the truth, so that a table rolled back takes its records again; where every such
snapshot has expired, the property is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation, Snapshot

from lakeflow.errors import SourceChanged
from lakeflow.progress import SnapshotPosition

COMMIT_ID = "lakeflow.commit-id"
PROGRESS = "lakeflow.progress."
SEQUENCE = "lakeflow.progress-sequence."

APPENDS_SINCE = "lakeflow.appends-only-since"
EXPIRED_THROUGH = "lakeflow.expired-through"


def ancestors(metadata: TableMetadata) -> Iterator[Snapshot]:
    """Main's head and its ancestors, newest first, as far as they are kept."""
    by_id = {snapshot.snapshot_id: snapshot for snapshot in metadata.snapshots}
    snapshot = None if metadata.current_snapshot_id is None else by_id.get(metadata.current_snapshot_id)
    while snapshot is not None:
        yield snapshot
        snapshot = None if snapshot.parent_snapshot_id is None else by_id.get(snapshot.parent_snapshot_id)


def progress_in(metadata: TableMetadata, writer: str) -> str | None:
    """The writer's progress; None where it has made none.

    Raises SourceChanged where the table was rolled back so far that no kept snapshot tells the progress.
    """
    oldest: Snapshot | None = None
    for snapshot in ancestors(metadata):
        oldest = snapshot
        if (
            snapshot.summary is not None
            and (found := snapshot.summary.additional_properties.get(PROGRESS + writer)) is not None
        ):
            return found
    if oldest is None or oldest.parent_snapshot_id is None:
        return None
    head = metadata.current_snapshot()
    written_at = int(metadata.properties.get(SEQUENCE + writer, "0"))
    if head is not None and written_at > (head.sequence_number or 0):
        raise SourceChanged(
            f"the table was rolled back to snapshot {head.snapshot_id}, and the snapshots that held the progress of {writer} "
            "before it have expired: what it should read again cannot be told",
            left_behind="the table, as it was rolled back to",
            next_step="drop the table and run again from the start, or roll forward again",
        )
    return metadata.properties.get(PROGRESS + writer)


def writers_in(metadata: TableMetadata) -> tuple[str, ...]:
    """Every writer that has left progress in the table, sorted."""
    return tuple(sorted(key.removeprefix(PROGRESS) for key in metadata.properties if key.startswith(PROGRESS)))


def find_commit(metadata: TableMetadata, commit_id: str) -> int | None:
    """The snapshot of a commit that landed on main."""
    for snapshot in ancestors(metadata):
        if snapshot.summary is not None and snapshot.summary.additional_properties.get(COMMIT_ID) == commit_id:
            return snapshot.snapshot_id
    return None


@dataclass(frozen=True, slots=True)
class Expiry:
    """Snapshots to drop, and the properties that keep what readers need to know of them."""

    snapshot_ids: tuple[int, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)


def expiry(metadata: TableMetadata, keep: int) -> Expiry:
    """Which ancestors of main go when only the newest `keep` stay; tagged and branched ones stay, and all newer.

    A reader whose position has expired can still go on, if all that it cannot see any more were appends. The
    property lakeflow.appends-only-since holds the sequence number from which on that is known: every expired snapshot
    after it was an append.
    """
    line = list(ancestors(metadata))
    referenced = {ref.snapshot_id for name, ref in metadata.refs.items() if name != "main"}
    gone: list[Snapshot] = []
    for snapshot in reversed(line[keep:]):
        if snapshot.snapshot_id in referenced:
            break
        gone.append(snapshot)
    if not gone:
        return Expiry()
    since = _known_appends_since(metadata, gone[0])
    for snapshot in gone:
        if not _is_append(snapshot):
            since = snapshot.sequence_number or 0
    properties = {APPENDS_SINCE: str(since), EXPIRED_THROUGH: str(gone[-1].snapshot_id)}
    return Expiry(tuple(snapshot.snapshot_id for snapshot in gone), properties)


def _known_appends_since(metadata: TableMetadata, oldest: Snapshot) -> int:
    if oldest.parent_snapshot_id is None:
        return 0
    if metadata.properties.get(EXPIRED_THROUGH) == str(oldest.parent_snapshot_id):
        return int(metadata.properties.get(APPENDS_SINCE, "0"))
    return (oldest.sequence_number or 0) - 1


def _is_append(snapshot: Snapshot) -> bool:
    return snapshot.summary is not None and snapshot.summary.operation == Operation.APPEND


def check_readable_from(metadata: TableMetadata, position: SnapshotPosition, table: str) -> None:
    """Whether a reader at `position` may go on to main's head by reading appended files only.

    Raises SourceChanged, naming the snapshot, where the table was made anew, rolled back, or holds a snapshot after
    the position that is no append, or where that can no longer be told.
    """
    if position.table_uuid != str(metadata.table_uuid):
        raise _changed(f"table {table} was dropped and made anew since it was last read")
    for snapshot in ancestors(metadata):
        if snapshot.snapshot_id == position.snapshot_id:
            return
        if (snapshot.sequence_number or 0) > position.sequence and not _is_append(snapshot):
            operation = snapshot.summary.operation.value if snapshot.summary else "unknown"
            raise _changed(f"snapshot {snapshot.snapshot_id} of table {table} is no append but {operation!r}")
    if any(snapshot.snapshot_id == position.snapshot_id for snapshot in metadata.snapshots):
        raise _changed(f"table {table} was rolled back behind snapshot {position.snapshot_id}, which was read already")
    _check_expired(metadata, position, table)


def _check_expired(metadata: TableMetadata, position: SnapshotPosition, table: str) -> None:
    line = list(ancestors(metadata))
    head_sequence = (line[0].sequence_number or 0) if line else 0
    if head_sequence < position.sequence:
        raise _changed(f"table {table} was rolled back behind snapshot {position.snapshot_id}, which was read already")
    parent = line[-1].parent_snapshot_id
    attested = metadata.properties.get(EXPIRED_THROUGH) == str(parent)
    since = int(metadata.properties.get(APPENDS_SINCE, "0")) if attested else (line[-1].sequence_number or 0) - 1
    if parent is not None and position.sequence < since:
        raise _changed(
            f"snapshot {position.snapshot_id} of table {table}, up to which it was read, has expired, and one of the expired "
            "snapshots after it may have been no append"
        )


def _changed(message: str) -> SourceChanged:
    return SourceChanged(
        f"{message}; an incremental run would miss or repeat rows",
        left_behind="the target, as of the last run",
        next_step="lakeflow run JOB --mode snapshot, which reads the table whole and goes on from there",
    )
