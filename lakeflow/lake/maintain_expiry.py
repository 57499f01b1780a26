"""Drops old snapshots, and deletes the files that only they named."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from pyiceberg.exceptions import CommitFailedException, ValidationException
from pyiceberg.table import Table

from lakeflow.errors import CommitConflict, LakeflowError
from lakeflow.lake.catalog import Lake
from lakeflow.lake.failures import lake_errors
from lakeflow.lake.history import Expiry, expiry
from lakeflow.lake.iceberg import delete_files, drop_snapshots
from lakeflow.lake.maintain_reach import OnlyThere, is_own, only_in, own_folders
from lakeflow.retry import Backoff, retrying

logger = logging.getLogger("lakeflow.lake")

BACKOFF = Backoff(attempts=8, base=0.02, cap=1.0)


@dataclass(frozen=True, slots=True)
class Keep:
    """Snapshots stay that are as young as `younger_than`, `most` at the most and the head at the least.

    Those from the sequence number `needed_from` on stay in any case: a reader has not come further.
    """

    most: int
    younger_than: datetime
    needed_from: int | None = None


@dataclass(frozen=True, slots=True)
class Expired:
    """How many snapshots went, and how many files with them. `left` says what is left, and why."""

    snapshots: int = 0
    files: int = 0
    left: tuple[str, ...] = ()


def due(table: Table, keep: Keep) -> Expiry:
    """The snapshots that would go now."""
    older_than = int(keep.younger_than.timestamp() * 1000)
    return expiry(table.metadata, keep.most, older_than_ms=older_than, needed_from=keep.needed_from)


def expire(lake: Lake, name: str, keep: Keep, stop: Callable[[], bool] = lambda: False) -> Expired:
    """Drop what is due, then delete what no snapshot names any more.

    Files go after the snapshots: what a crash leaves is named by nothing. Raises CatalogUnavailable, StorageUnavailable;
    commits that come first only make it try again, and in the end leave it for the next time.
    """
    try:
        dropped = retrying(lambda: _drop(lake, name, keep), BACKOFF)
    except CommitConflict as error:
        return Expired(left=(f"snapshots are left for next time: {error.message}",))
    if dropped is None:
        return Expired()
    before, gone = dropped
    numbers = set(gone)
    after = lake.table(name)
    with lake_errors(f"table {name}"):
        was = [snapshot for snapshot in before.metadata.snapshots if snapshot.snapshot_id in numbers]
        freed = only_in(before, was, after.metadata.snapshots)
    deleted, left = _delete(after, freed, stop)
    return Expired(len(numbers), deleted, left)


def _drop(lake: Lake, name: str, keep: Keep) -> tuple[Table, Sequence[int]] | None:
    table = lake.table(name)
    found = due(table, keep)
    if not found.snapshot_ids:
        return None
    try:
        with lake_errors(f"an expiry of snapshots of {name}"):
            drop_snapshots(lake.catalog, table, found.snapshot_ids, found.properties)
    except (CommitFailedException, ValidationException, ValueError) as error:
        raise CommitConflict(f"another commit to {name} came first: {error}") from error
    return table, found.snapshot_ids


def _delete(table: Table, freed: OnlyThere, stop: Callable[[], bool]) -> tuple[int, tuple[str, ...]]:
    """Data files first, then what names them. One that cannot be deleted is left to the removal of orphans."""
    folders = own_folders(table)
    deleted = outside = 0
    for path in _in_order(freed):
        if stop():
            return deleted, ("files of expired snapshots are left to the removal of orphans: a stop was asked for",)
        if not is_own(path, folders):
            outside += 1
            continue
        try:
            with lake_errors(f"table {'.'.join(table.name())}"):
                delete_files(table.io, [path])
        except LakeflowError as error:
            logger.warning("%s", error.message)
            return deleted, (f"files of expired snapshots are left to the removal of orphans: {error.message}",)
        deleted += 1
    return deleted, (f"{outside} files that lie outside of the table's location",) if outside else ()


def _in_order(freed: OnlyThere) -> Iterable[str]:
    yield from sorted(freed.data)
    yield from sorted(freed.manifests)
    yield from sorted(freed.beside)
