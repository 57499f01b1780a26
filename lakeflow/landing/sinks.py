"""Where the rows of a batch wait for their commit: as data files that are appended, or as changes that are merged by key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakeflow.errors import CommitConflict
from lakeflow.lake.catalog import Table
from lakeflow.lake.commit import Change, CommitProtocol, Committed
from lakeflow.lake.failures import lake_errors
from lakeflow.lake.merge import KeyedMerge, Merged, Ordering
from lakeflow.lake.write import DataWriter
from lakeflow.landing.counts import Sizes
from lakeflow.topics.source import Records, TopicPartition

MERGE_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of the table, or keys of rows to delete, and the place of each one's record in the poll."""

    rows: pa.Table
    places: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Changes:
    """What the records of one poll do to the table. Each of `truncates` takes away every row that came before it."""

    records: Records
    rows: tuple[Rows, ...]
    deletes: tuple[Rows, ...] = ()
    truncates: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """How many records there are a change of."""
        return sum(len(part.places) for part in (*self.rows, *self.deletes)) + len(self.truncates)


class Sink(Protocol):
    """Takes the changes of one batch, then commits them, and is empty again."""

    def write(self, changes: Changes) -> None:
        """Take changes. Raises StorageFull, StorageUnavailable where they cannot be written."""
        ...

    def commit(self, change: Change) -> Committed:
        """Land what was taken with `change`, which brings no files of its own. Raises as CommitProtocol does."""
        ...

    def abort(self) -> None:
        """Delete what was written and forget what was taken."""
        ...


class AppendSink:
    """Adds every row."""

    def __init__(self, table: Table, commits: CommitProtocol, sizes: Sizes) -> None:
        self._commits = commits
        self._writer = _writer(table, sizes)

    def write(self, changes: Changes) -> None:
        """Deletes and truncates come to no landing that appends."""
        self._writer.write(_in_order(changes.rows))

    def commit(self, change: Change) -> Committed:
        return self._commits.commit(replace(change, add=self._writer.finish()))

    def abort(self) -> None:
        self._writer.abort()


class UpsertSink:
    """Keeps the last change of each key. Partitions are told apart: within one the offset orders, between them the time."""

    def __init__(self, table: Table, commits: CommitProtocol, sizes: Sizes, key: Sequence[str]) -> None:
        self._table = table
        self._commits = commits
        self._sizes = sizes
        self._key = tuple(key)
        self._merge: KeyedMerge | None = None
        self._sources: dict[TopicPartition, int] = {}
        self._seen = 0

    def write(self, changes: Changes) -> None:
        merge = self._merge = self._merge or KeyedMerge(self._table, self._key, self._sizes.spool)
        last = -1
        if changes.truncates:
            last = max(changes.truncates)
            merge.clear()
        for part in changes.rows:
            if len(kept := _after(part, last).places):
                part = _after(part, last)
                merge.write(part.rows, self._ordering(changes.records, kept))
        for part in changes.deletes:
            if len(kept := _after(part, last).places):
                merge.delete(_after(part, last).rows, self._ordering(changes.records, kept))
        self._seen += len(changes.records)

    def commit(self, change: Change) -> Committed:
        """Where another writer's commit comes first, the changes are merged again into what it left."""
        if self._merge is None:
            return self._commits.commit(change)
        for attempt in range(MERGE_ATTEMPTS):
            merged = self._merged(self._merge)
            try:
                done = self._commits.commit(_with(change, merged))
            except CommitConflict:
                # What was planned of other columns holds for the table as it was: the landing is opened anew.
                if attempt == MERGE_ATTEMPTS - 1 or change.schema is not None:
                    raise
                with lake_errors(f"table {change.table}"):
                    self._table.refresh()
            else:
                self.abort()
                return done
        raise AssertionError("the last attempt returns or raises")

    def abort(self) -> None:
        if self._merge is not None:
            self._merge.close()
            self._merge = None

    def _merged(self, merge: KeyedMerge) -> Merged:
        writer = _writer(self._table, self._sizes)
        try:
            return merge.merge(writer)
        except BaseException:
            writer.abort()
            raise

    def _ordering(self, records: Records, places: NDArray[np.int64]) -> Ordering:
        for place in zip(records.topics, records.partitions, strict=True):
            self._sources.setdefault(place, len(self._sources))
        sources = [self._sources[records.topics[place], records.partitions[place]] for place in places]
        times = np.asarray(records.timestamps, np.int64)[places]
        return Ordering(pa.array(self._seen + places), pa.array(sources, pa.int32()), pa.array(times, pa.int64()))


def _writer(table: Table, sizes: Sizes) -> DataWriter:
    return DataWriter(table, buffer_bytes=sizes.buffer_bytes, target_file_bytes=sizes.target_file_bytes)


def _in_order(parts: Sequence[Rows]) -> pa.Table:
    """The rows of all parts by the places of their records."""
    if len(parts) == 1:
        return parts[0].rows
    rows = pa.concat_tables([part.rows for part in parts])
    return rows.take(pa.array(np.argsort(np.concatenate([part.places for part in parts]), kind="stable")))


def _after(part: Rows, place: int) -> Rows:
    if place < 0:
        return part
    later = part.places > place
    return Rows(part.rows.filter(pa.array(later)), part.places[later])


def _with(change: Change, merged: Merged) -> Change:
    facts = {
        "lakeflow.rows-inserted": str(merged.inserted),
        "lakeflow.rows-updated": str(merged.updated),
        "lakeflow.rows-deleted": str(merged.deleted),
        "lakeflow.rows-superseded": str(merged.superseded),
    }
    return replace(
        change,
        add=merged.add,
        remove=merged.remove,
        replace_all=merged.replaces_all,
        base=merged.base,
        on_base=True,
        summary={**change.summary, **facts},
    )
