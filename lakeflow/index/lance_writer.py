"""Writers of an index in LanceDB: of the one that stands, and of the one that will take its place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import pyarrow as pa

from lakeflow.errors import CommitConflict, Fenced, UsageError
from lakeflow.index.lance_book import Book, Entry
from lakeflow.index.lance_columns import states
from lakeflow.index.lance_errors import Vanished, mapped
from lakeflow.index.lance_upkeep import ann_index, keep_up, kind_of
from lakeflow.index.rows import SEQUENCE, Layout, chunks
from lakeflow.index.settings import IndexSettings
from lakeflow.index.vectors import IndexState, UpsertCounts, check_position
from lakeflow.progress import SnapshotPosition
from lakeflow.retry import Backoff, retrying

T = TypeVar("T")
KEYS_A_DELETE = 1_000


class LanceWriter:
    """Writes one index; made by `LanceIndex.writer`."""

    def __init__(self, book: Book, entry: Entry, layout: Layout, table: Any, settings: IndexSettings, backoff: Backoff) -> None:
        self._book, self._entry, self._layout, self._table = book, entry, layout, table
        self._settings, self._backoff = settings, backoff

    @property
    def position(self) -> SnapshotPosition | None:
        """As `IndexWriter.position`."""
        return self._entry.position

    def upsert(self, batches: Iterable[pa.RecordBatch], sequence: int) -> UpsertCounts:
        """As `IndexWriter.upsert`."""
        counts = UpsertCounts()
        for chunk in chunks(batches, self._settings.chunk_bytes):
            prepared = self._layout.prepare(chunk, sequence)
            removed = self.delete(prepared.without_vector.to_pylist(), sequence)
            counts += UpsertCounts(prepared.read, 0, 0, 0, prepared.repeated, len(prepared.without_vector), removed)
            if prepared.rows.num_rows:
                inserted, updated = self._commit(partial(self._merge, prepared.rows))
                counts += UpsertCounts(0, inserted, updated, prepared.rows.num_rows - inserted - updated)
        return counts

    def delete(self, keys: Iterable[str | int], sequence: int) -> int:
        """As `IndexWriter.delete`."""
        removed, remaining = 0, iter(keys)
        while some := list(islice(remaining, KEYS_A_DELETE)):
            listed = ", ".join(self._literal(key) for key in some)
            condition = f"`{self._layout.identity.key}` IN ({listed}) AND `{SEQUENCE}` <= {int(sequence)}"
            removed += self._commit(partial(self._delete, condition))
        return removed

    def record(self, position: SnapshotPosition) -> IndexState:
        """As `IndexWriter.record`."""
        name = self._layout.name
        check_position(name, self._entry.identity, position)
        moved = self._entry.moved(position=position)
        if not self._book.swap(moved, f"target.revision = '{self._entry.revision}'"):
            raise Fenced(
                f"another process recorded a position for the index {name!r}, or rebuilt it, since this one started",
                left_behind="rows that the index holds, or will get again from its table; no position",
                next_step=f"lakeflow index update {name}",
            )
        self._entry = moved
        return self.keep_up()

    def keep_up(self) -> IndexState:
        """As `IndexWriter.keep_up`."""
        self._keep_up()
        return self._commit(lambda: state_of(self._entry, self._table, self._book.place))

    def _keep_up(self) -> None:
        try:
            self._commit(lambda: keep_up(self._table, self._layout, self._settings))
        except CommitConflict:
            return  # every try met another writer's commit; the next record does it, and the rows are in

    def _delete(self, condition: str) -> int:
        return int(self._table.delete(condition).num_deleted_rows)

    def _merge(self, rows: pa.RecordBatch) -> tuple[int, int]:
        merge = self._table.merge_insert(self._layout.identity.key)
        merge = merge.when_matched_update_all(where=f"target.{SEQUENCE} <= source.{SEQUENCE}").when_not_matched_insert_all()
        result = merge.execute(pa.Table.from_batches([rows]))
        return result.num_inserted_rows, result.num_updated_rows

    def _commit(self, call: Callable[[], T]) -> T:
        """`call()` over the rows' table, tried again after a conflict. Raises Fenced where a rebuild took the table away."""

        def once() -> T:
            with (
                fenced_by_a_rebuild(self._book, self._entry),
                mapped(f"writing the index {self._layout.name!r}", self._book.place),
            ):
                return call()

        return retrying(once, self._backoff)

    def _literal(self, key: str | int) -> str:
        text = pa.types.is_string(self._layout.schema.field(self._layout.identity.key).type)
        if isinstance(key, str) is not text or isinstance(key, bool):
            raise UsageError(f"key {key!r} of the index {self._layout.name!r}; valid: {'a text' if text else 'an integer'}")
        return "'" + key.replace("'", "''") + "'" if isinstance(key, str) else str(int(key))


class LanceRebuild(LanceWriter):
    """Writes the rows of an index that is not in place yet; positions wait for the swap."""

    def record(self, position: SnapshotPosition) -> IndexState:
        """As `IndexWriter.record`; the position stands once the block of `LanceIndex.rebuild` ends."""
        check_position(self._layout.name, self._entry.identity, position)
        self._entry = moved = self._entry.moved(position=position)
        return self._commit(lambda: state_of(moved, self._table, self._book.place))

    def finished(self) -> Entry:
        """The entry to swap in, once the upkeep is done."""
        self._keep_up()
        return self._entry


@contextmanager
def fenced_by_a_rebuild(book: Book, entry: Entry) -> Iterator[None]:
    """Raises Fenced where the rows of `entry` vanish in the block because another process put an index in its place."""
    try:
        yield
    except Vanished as error:
        current = book.find(entry.name)
        if current is not None and current.stored_in == entry.stored_in:
            raise
        raise Fenced(
            f"index {entry.name!r} was rebuilt by another process while this one wrote",
            left_behind="nothing: the rows went into the index that was replaced",
            next_step=f"lakeflow index update {entry.name}",
        ) from error


def state_of(entry: Entry, table: Any, place: str) -> IndexState:
    """The state of the index `entry` whose rows are in `table`."""
    with mapped(f"reading the state of the index {entry.name!r}", place):
        stats = table.stats()
        layout = Layout(entry.name, entry.identity, table.schema)
        index = ann_index(table, layout)
        return IndexState(
            identity=entry.identity,
            position=entry.position,
            rows=stats["num_rows"],
            unindexed_rows=stats["num_rows"] if index is None else index.unindexed,
            size_bytes=stats["total_bytes"],
            kind=kind_of(index),
            updated_at=entry.updated_at,
            columns=states(table, layout),
            version=entry.revision,
        )
