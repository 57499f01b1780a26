"""When each data file of a table held rows of it, as far as its snapshots tell: the table as of any time, in one reading.

A file comes with one snapshot and goes with a later one, or is there still. Copy on write puts a row that stays into another
file: it is then in the old one up to that snapshot and in the new one from it on, and at any time in exactly one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pyiceberg.table import Table

from lakeflow.errors import SchemaMismatch
from lakeflow.lake.changes import Change, changes_since
from lakeflow.lake.failures import lake_errors
from lakeflow.lake.history import ancestors
from lakeflow.lake.iceberg import have_deletes, manifests_of
from lakeflow.lake.read import Snapshot, Split, splits_at
from lakeflow.progress import SnapshotPosition


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Data files whose rows the table held from `since` until before `until`, in microseconds since the epoch. None: still."""

    since: int
    until: int | None
    splits: tuple[Split, ...]


def lifetimes(table: Table, head: Snapshot | None) -> tuple[Lifetime, ...]:
    """The files of the table's snapshots up to `head`, by when they were there.

    What was before the oldest snapshot that is kept is not known: its files are there from its time on. Raises SchemaMismatch
    where another engine deleted rows of files that stayed, since files alone do not tell of those.
    """
    if head is None:
        return ()
    name = ".".join(table.name())
    line = [one for one in ancestors(table.metadata) if (one.sequence_number or 0) <= (head.sequence_number or 0)]
    oldest = line[-1]
    with lake_errors(f"table {name}"):
        if any(have_deletes(manifests_of(table, snapshot)) for snapshot in (oldest, head)):
            raise _deleted_in_place(name)
        begun = splits_at(table, oldest)
    start = SnapshotPosition(str(table.metadata.table_uuid), oldest.snapshot_id, oldest.sequence_number or 0)
    changes = [change for change in changes_since(table, start) if change.sequence <= (head.sequence_number or 0)]
    if any(change.delete_files for change in changes):
        raise _deleted_in_place(name)
    times = {snapshot.snapshot_id: snapshot.timestamp_ms * 1_000 for snapshot in line}
    return tuple(_lifetimes(times[oldest.snapshot_id], begun, [(times[change.snapshot_id], change) for change in changes]))


def _lifetimes(began: int, begun: Sequence[Split], changes: Sequence[tuple[int, Change]]) -> Iterator[Lifetime]:
    """The same of the files at the beginning and the changes behind it, each with its time. Pure.

    A clock that ran backwards counts as having stood still.
    """
    since = {split.path: (began, split) for split in begun}
    ended: dict[tuple[int, int | None], list[Split]] = {}
    now = began
    for time, change in changes:
        now = max(now, time)
        for split in change.removed:
            came, there = since.pop(split.path)
            if came < now:
                ended.setdefault((came, now), []).append(there)
        since.update((split.path, (now, split)) for split in change.added)
    for came, split in since.values():
        ended.setdefault((came, None), []).append(split)
    for (came, went), splits in ended.items():
        yield Lifetime(came, went, tuple(splits))


def _deleted_in_place(name: str) -> SchemaMismatch:
    return SchemaMismatch(
        f"table {name} has rows that another engine deleted in place, so its files do not tell which rows it held when",
        next_step=f"give {name} columns that say when a row is valid, and name them: WITH ('valid_from' = 'column')",
    )
