"""What a table's metadata says about its past: progress, commits, what may expire, what was read. Pure.

Progress rides in a commit twice: in the snapshot's summary and in a table property. The nearest ancestor of main's
head whose summary carries it is the truth, so that a table rolled back takes its records again; where every such
snapshot has expired, the property is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation, Snapshot

from lakeflow.errors import SchemaMismatch, SourceChanged
from lakeflow.lake.compact_spans import Span, dumps, joined, loads
from lakeflow.progress import SnapshotPosition

COMMIT_ID = "lakeflow.commit-id"
REWRITTEN = "lakeflow.rewritten"
PROGRESS = "lakeflow.progress."
SEQUENCE = "lakeflow.progress-sequence."

APPENDS_SINCE = "lakeflow.appends-only-since"
KEPT_FROM = "lakeflow.kept-from"

HELD = 5
"""So many times the snapshots that a table keeps stay for readers who need them."""

# In place of a sequence number: the property tells nothing, because the writer's commits on main were rolled back, to
# where its progress cannot be told any more, or to before its first.
ROLLED_BACK = "rolled-back"
NEVER = "never"


def ancestors(metadata: TableMetadata) -> Iterator[Snapshot]:
    """Main's head and its ancestors, newest first, as far as they are kept."""
    by_id = {snapshot.snapshot_id: snapshot for snapshot in metadata.snapshots}
    snapshot = None if metadata.current_snapshot_id is None else by_id.get(metadata.current_snapshot_id)
    while snapshot is not None:
        yield snapshot
        snapshot = None if snapshot.parent_snapshot_id is None else by_id.get(snapshot.parent_snapshot_id)


def progress_in(metadata: TableMetadata, writer: str, table: str | None = None) -> str | None:
    """The writer's progress; None where it has made none. `table` is the name for the message, where it is known.

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
    if oldest is None or not is_cut(oldest):
        return None
    written_at = metadata.properties.get(SEQUENCE + writer, "0")
    if written_at == NEVER:
        return None
    if _rolled_back(written_at, oldest):
        raise SourceChanged(
            f"table {table or metadata.location} was rolled back behind a commit of {writer}, and the snapshots that held its "
            "progress before that have expired: what it should read again cannot be told",
            left_behind="the table, as it was rolled back to",
            next_step="roll the table forward again, or take it away and start anew: "
            f"lakeflow tables drop {table or 'NAME'} --yes",
        )
    return metadata.properties.get(PROGRESS + writer)


def _rolled_back(written_at: str, oldest: Snapshot) -> bool:
    """Whether a commit that main's line does not show is not on it; otherwise it has expired.

    The line is kept from `oldest` on without a gap, so that a commit at or after it would be seen.
    """
    return written_at == ROLLED_BACK or int(written_at) >= (oldest.sequence_number or 0)


def is_cut(oldest: Snapshot) -> bool:
    """Whether the oldest ancestor that is kept had snapshots before it, which have expired.

    Some catalogs let a snapshot name its expired parent, PyIceberg's own clear the name. So a snapshot without a
    parent is the first of its table only if its commit was the first one.
    """
    return oldest.parent_snapshot_id is not None or (oldest.sequence_number or 0) > 1


def require_ordered(metadata: TableMetadata, table: str) -> None:
    """Raises SchemaMismatch for a table of format version 1, whose commits carry no sequence number."""
    if metadata.format_version < 2:
        raise SchemaMismatch(
            f"table {table} is of Iceberg's format version 1, which numbers no commits; valid: 2 and later",
            next_step=f"upgrade it with the engine that made it: set the table property format-version of {table} to 2",
        )


def writers_in(metadata: TableMetadata) -> tuple[str, ...]:
    """Every writer that has left progress in the table, sorted."""
    return tuple(sorted(key.removeprefix(PROGRESS) for key in metadata.properties if key.startswith(PROGRESS)))


def find_commit(metadata: TableMetadata, commit_id: str) -> int | None:
    """The snapshot of a commit that landed on main."""
    for snapshot in ancestors(metadata):
        if snapshot.summary is not None and snapshot.summary.additional_properties.get(COMMIT_ID) == commit_id:
            return snapshot.snapshot_id
    return None


def has_seen(metadata: TableMetadata, commit_id: str) -> bool:
    """Whether any kept snapshot is of this commit, on main or rolled back from it."""
    return any(_facts(snapshot).get(COMMIT_ID) == commit_id for snapshot in metadata.snapshots)


@dataclass(frozen=True, slots=True)
class Expiry:
    """Snapshots to drop, and the properties that keep what readers need to know of them."""

    snapshot_ids: tuple[int, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)


def expiry(metadata: TableMetadata, keep: int, *, older_than_ms: int | None = None, needed_from: int | None = None) -> Expiry:
    """Which ancestors of main go when only the newest `keep` stay, one at the least; tagged and branched ones stay, and
    all newer. With `older_than_ms`, a time since the epoch, the older ones go too; those whose sequence number is
    `needed_from` or greater stay in any case.

    What the snapshots that go said of progress stays in the properties. And a reader whose position has expired can
    still go on, if all that it cannot see any more were appends: lakeflow.appends-only-since holds the sequence number
    from which on every expired snapshot was one. It counts only while lakeflow.kept-from names the oldest snapshot that
    is there, since another engine's expiry does not keep it up. Our own compactions count as appends of nothing, for
    lakeflow.rewritten tells whom they hinder.
    """
    line = list(ancestors(metadata))
    referenced = {ref.snapshot_id for name, ref in metadata.refs.items() if name != "main"}
    gone: list[Snapshot] = []
    for place in range(len(line) - 1, 0, -1):
        snapshot = line[place]
        needed = needed_from is not None and (snapshot.sequence_number or 0) >= needed_from
        old = older_than_ms is not None and snapshot.timestamp_ms < older_than_ms
        if snapshot.snapshot_id in referenced or needed or not (old or place >= keep):
            break
        gone.append(snapshot)
    if not gone:
        return Expiry()
    kept = line[: len(line) - len(gone)]
    since = _known_appends_since(metadata, gone[0])
    spans = list(loads(metadata.properties.get(REWRITTEN)))
    for snapshot in gone:
        if (own := rewritten_by(snapshot)) is not None:
            spans += own
        elif not _is_append(snapshot):
            since = snapshot.sequence_number or 0
    attested = {APPENDS_SINCE: str(since), KEPT_FROM: str(kept[-1].snapshot_id)}
    if spans:
        attested[REWRITTEN] = dumps(joined(span for span in spans if span.high >= since))
    return Expiry(tuple(snapshot.snapshot_id for snapshot in gone), attested | _progress_to_keep(metadata, kept, gone))


def due_with_commit(metadata: TableMetadata, keep: int, needed_from: Callable[[], int | None]) -> Expiry:
    """What a commit drops, so that `keep` snapshots stay with its own; those from the sequence number `needed_from` on stay
    beyond that, while there are fewer than HELD times as many. `needed_from` is asked where anything would go."""
    due = expiry(metadata, keep - 1)
    if not due.snapshot_ids or (needed := needed_from()) is None:
        return due
    if len(metadata.snapshots) >= HELD * keep:
        return expiry(metadata, HELD * keep - 1)
    return expiry(metadata, keep - 1, needed_from=needed)


def _progress_to_keep(metadata: TableMetadata, kept: list[Snapshot], gone: list[Snapshot]) -> dict[str, str]:
    """The properties of each writer whose progress only the snapshots that go tell, where they say something else.

    They do where a later commit of the writer was rolled back. Where not even the snapshots that go tell it, that is
    what has to be kept: the property would be believed once they are gone.
    """
    told = {key for snapshot in kept for key in _facts(snapshot) if key.startswith(PROGRESS)}
    found: dict[str, str] = {}
    for snapshot in gone:
        for key, value in _facts(snapshot).items():
            if key.startswith(PROGRESS) and key not in told:
                found[key] = value
                found[SEQUENCE + key.removeprefix(PROGRESS)] = str(snapshot.sequence_number or 0)
    for writer in writers_in(metadata):
        written_at = metadata.properties.get(SEQUENCE + writer, "0")
        if PROGRESS + writer in told | found.keys() or written_at == NEVER:
            continue
        if not is_cut(gone[0]):
            found[SEQUENCE + writer] = NEVER
        elif _rolled_back(written_at, gone[0]):
            found[SEQUENCE + writer] = ROLLED_BACK
    return {key: value for key, value in found.items() if metadata.properties.get(key) != value}


def _facts(snapshot: Snapshot) -> Mapping[str, str]:
    return {} if snapshot.summary is None else snapshot.summary.additional_properties


def _known_appends_since(metadata: TableMetadata, oldest: Snapshot) -> int:
    """The sequence number after which every snapshot that expired before `oldest` is known to have been an append."""
    if not is_cut(oldest):
        return 0
    if metadata.properties.get(KEPT_FROM) == str(oldest.snapshot_id):
        return int(metadata.properties.get(APPENDS_SINCE, "0"))
    return (oldest.sequence_number or 0) - 1


def _is_append(snapshot: Snapshot) -> bool:
    return snapshot.summary is not None and snapshot.summary.operation == Operation.APPEND


def rewritten_by(snapshot: Snapshot) -> tuple[Span, ...] | None:
    """The spans of files that a compaction of ours wrote anew; None for any other snapshot."""
    if not _replaces(snapshot) or (told := _facts(snapshot).get(REWRITTEN)) is None:
        return None
    return loads(told)


def _replaces(snapshot: Snapshot) -> bool:
    return snapshot.summary is not None and snapshot.summary.operation == Operation.REPLACE


def check_readable_from(metadata: TableMetadata, position: SnapshotPosition, table: str) -> tuple[Snapshot, ...]:
    """Whether a reader at `position` may go on to main's head by reading appended files only.

    Gives the snapshots after the position by which other engines replaced files, the same rows in others: whether the reader
    may pass them only their manifests tell. Raises SourceChanged, naming the snapshot, where the table was made anew,
    rolled back, or holds a snapshot after the position that changed rows, or that wrote files anew of which the
    reader has read some and not the others, or where that can no longer be told.
    """
    if position.table_uuid != str(metadata.table_uuid):
        raise _made_anew(table)
    replaced: list[Snapshot] = []
    for snapshot in ancestors(metadata):
        if snapshot.snapshot_id == position.snapshot_id:
            return tuple(replaced)
        if (snapshot.sequence_number or 0) <= position.sequence or _is_append(snapshot):
            continue
        if (spans := rewritten_by(snapshot)) is not None:
            _check_spans(spans, position, table, f"snapshot {snapshot.snapshot_id}")
        elif _replaces(snapshot):
            replaced.append(snapshot)
        else:
            operation = snapshot.summary.operation.value if snapshot.summary else "unknown"
            raise changed(
                table,
                f"snapshot {snapshot.snapshot_id} of table {table} is no append but {operation!r}",
                f"lakeflow jobs graph shows which job reads {table}; lakeflow run that job with --mode snapshot, which reads "
                "the table whole and goes on from there, or say in the job what is to become of such changes: on_change = "
                "'recompute' or 'ignore_deletes' (docs/jobs.md)",
            )
    _check_expired(metadata, position, table)
    return tuple(replaced)


def _check_spans(spans: tuple[Span, ...], position: SnapshotPosition, table: str, by: str) -> None:
    for span in spans:
        if span.splits(position):
            raise split_by(by, table, position, span)


def split_by(by: str, table: str, position: SnapshotPosition, span: Span) -> SourceChanged:
    """A reader that has read some of the files which were written together anew, and not the others."""
    return changed(
        table,
        f"files of table {table} of the sequence numbers {span.low} to {span.high} were compacted by {by}, while a reader that "
        f"was at {position.sequence} had read some of them",
    )


def _check_expired(metadata: TableMetadata, position: SnapshotPosition, table: str) -> None:
    """The position's snapshot is not on main's line as far as it is kept: it has expired, or was rolled back."""
    line = list(ancestors(metadata))
    elsewhere = any(snapshot.snapshot_id == position.snapshot_id for snapshot in metadata.snapshots)
    if not line and position.sequence == 0:
        return
    if elsewhere or not line or (line[-1].sequence_number or 0) <= position.sequence:
        raise _was_rolled_back(table, position)
    if position.sequence < _known_appends_since(metadata, line[-1]):
        raise changed(
            table,
            f"snapshot {position.snapshot_id} of table {table}, up to which it was read, has expired, and one of the expired "
            "snapshots after it may have been no append",
        )
    _check_spans(loads(metadata.properties.get(REWRITTEN)), position, table, "a snapshot that has expired")


def not_on_main(metadata: TableMetadata, position: SnapshotPosition, table: str) -> SourceChanged:
    """Why main's line, as far as it is kept, has no snapshot of `position`, for a reader that must see what has gone since."""
    if position.table_uuid != str(metadata.table_uuid):
        return _made_anew(table)
    line = list(ancestors(metadata))
    elsewhere = any(snapshot.snapshot_id == position.snapshot_id for snapshot in metadata.snapshots)
    if elsewhere or not line or (line[-1].sequence_number or 0) <= position.sequence:
        return _was_rolled_back(table, position)
    return changed(
        table,
        f"snapshot {position.snapshot_id} of table {table}, up to which it was read, has expired, and rows have gone since: "
        "which ones can no longer be told",
    )


def _made_anew(table: str) -> SourceChanged:
    return changed(table, f"table {table} was dropped and made anew since it was last read")


def _was_rolled_back(table: str, position: SnapshotPosition) -> SourceChanged:
    return changed(table, f"table {table} was rolled back behind snapshot {position.snapshot_id}, which was read already")


def changed(table: str, message: str, next_step: str | None = None) -> SourceChanged:
    """An incremental read that would not be right any more, and what to run."""
    return SourceChanged(
        f"{message}; an incremental run would miss or repeat rows",
        left_behind="the target, as of the last run",
        next_step=next_step
        or f"lakeflow jobs graph shows which job reads {table}; lakeflow run that job with --mode snapshot, "
        "which reads the table whole and goes on from there",
    )
