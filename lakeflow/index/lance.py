"""The real index, in LanceDB: a folder, or a bucket on object storage.

Several processes may write one index. Their rows are merged by key (LanceDB detects two inserts of one key only where
the key is declared as the table's primary key, so it is), commits that conflict are tried again, and the position is
recorded by the one who started from the position that stands: the others fail as Fenced.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from lakeflow.declare import IndexSpec
from lakeflow.errors import CommitConflict, Fenced, LakeflowError, UsageError
from lakeflow.index.condition import sql
from lakeflow.index.lance_book import Book, Entry, keyed_by, new_entry, stored_by
from lakeflow.index.lance_errors import Vanished, mapped
from lakeflow.index.lance_upkeep import ann_index, keep_up, kind_of
from lakeflow.index.rows import SEQUENCE, Layout, asked_columns, chunks, columns_to_add, layout_of, query_matrix, result_of
from lakeflow.index.settings import IndexSettings, settings_of
from lakeflow.index.vectors import (
    Identity,
    IndexState,
    IndexWriter,
    UpsertCounts,
    Vectors,
    check_identity,
    check_k,
    check_position,
)
from lakeflow.index.where import parse
from lakeflow.progress import SnapshotPosition
from lakeflow.retry import Backoff, retrying

logger = logging.getLogger("lakeflow.index")

T = TypeVar("T")
KEYS_A_DELETE = 1_000
QUERIES_A_CALL = 64
FILTERED_PROBES = 4
DROP_BACKOFF = Backoff(attempts=4, base=0.05, cap=0.5)


class LanceIndex:
    """The index of `spec` in the LanceDB database at `place`: an absolute folder, or a URI such as s3://bucket/folder.

    `storage_options` go to the object store as they are. The first use imports lancedb, which takes seconds. Raises
    DeclarationError for an option of `spec` that is not valid. Not safe to use after a fork.
    """

    def __init__(
        self,
        spec: IndexSpec,
        place: str,
        storage_options: dict[str, str] | None = None,
        *,
        backoff: Backoff = Backoff(attempts=12, base=0.02, cap=2.0),
    ) -> None:
        self.name = spec.name
        self.settings = settings_of(spec)
        self._columns = spec.columns
        self._place, self._options, self._backoff = place, storage_options, backoff
        self._opened: Book | None = None

    def state(self) -> IndexState:
        """As `VectorIndex.state`."""
        return self._reading(self._state)

    def search(
        self,
        vectors: Vectors,
        k: int,
        *,
        where: str | None = None,
        columns: Sequence[str] | None = None,
        exact: bool = False,
    ) -> pa.Table:
        """As `VectorIndex.search`."""
        check_k(k)

        def answer(entry: Entry, table: Any) -> pa.Table:
            layout = Layout(self.name, entry.identity, table.schema)
            queries = query_matrix(self.name, entry.identity, vectors)
            asked = asked_columns(layout, columns)
            condition = None if where is None else sql(parse(where, layout.schema, layout.columns, self.name))
            parts = [
                self._nearest(table, layout, queries[start : start + QUERIES_A_CALL], k, condition, asked, exact)
                for start in range(0, max(len(queries), 1), QUERIES_A_CALL)
            ]
            places = [part.column("query_index").to_numpy() + at * QUERIES_A_CALL for at, part in enumerate(parts)]
            found = pa.concat_tables(parts)
            distances = found.column("_distance").to_numpy()
            return result_of(layout, asked, np.concatenate(places).astype(np.int32), distances, found)

        return self._reading(answer)

    def writer(self, identity: Identity, schema: pa.Schema) -> IndexWriter:
        """As `VectorIndex.writer`."""
        entry = self._book.find(self.name)
        if entry is not None:
            check_identity(self.name, entry.identity, identity)
        layout = layout_of(self.name, identity, schema, self._columns)
        if entry is None:
            ours = new_entry(self.name, identity)
            self._create(ours, layout)
            entry = self._book.insert(ours)
            if entry.stored_in != ours.stored_in:
                self._drop(ours.stored_in)
                check_identity(self.name, entry.identity, identity)
        with fenced_by_a_rebuild(self._book, entry), mapped(f"adding columns to the index {self.name!r}", self._place):
            table = self._open(entry)
            added = columns_to_add(self.name, table.schema, layout.schema)
            if added:
                table.add_columns(added)
        return LanceWriter(self._book, entry, Layout(self.name, identity, table.schema), table, self.settings, self._backoff)

    @contextmanager
    def rebuild(self, identity: Identity, schema: pa.Schema) -> Iterator[IndexWriter]:
        """As `VectorIndex.rebuild`."""
        old = self._book.find(self.name)
        layout = layout_of(self.name, identity, schema, self._columns)
        fresh = new_entry(self.name, identity)
        table = self._create(fresh, layout)
        writer = LanceRebuild(self._book, fresh, layout, table, self.settings, self._backoff)
        try:
            yield writer
            done = writer.finished()
            replaced = self._replaced_by(done)
            swapped = self._swap(old, done)
        except BaseException:
            self._drop(fresh.stored_in)
            raise
        if not swapped:
            self._drop(fresh.stored_in)
            raise Fenced(
                f"index {self.name!r} was built or rebuilt by another process in the meantime",
                left_behind="that other index; nothing of this rebuild",
                next_step=f"lakeflow index status {self.name}",
            )
        for stored_in in replaced:
            self._drop(stored_in)

    def _replaced_by(self, fresh: Entry) -> list[str]:
        """The tables that go once `fresh` is in place: the old one, and what dead rebuilds left.

        Listed before the swap, every one of them belongs to a rebuild whose own swap fails after this one.
        """
        return [table for table in self._book.tables() if stored_by(self.name, table) and table != fresh.stored_in]

    def _swap(self, old: Entry | None, fresh: Entry) -> bool:
        if old is None:
            return self._book.insert(fresh).revision == fresh.revision
        return self._book.swap(fresh, f"target.stored_in = '{old.stored_in}'")

    @property
    def _book(self) -> Book:
        if self._opened is None:
            import lancedb

            with mapped("opening the indexes", self._place):
                database = lancedb.connect(self._place, storage_options=self._options, read_consistency_interval=timedelta(0))
            self._opened = Book(database, self._place, self._backoff, self.settings.keep_versions)
        return self._opened

    def _state(self, entry: Entry, table: Any) -> IndexState:
        return state_of(entry, table, self._place)

    def _reading(self, read: Callable[[Entry, Any], T]) -> T:
        """`read` of the index as it stands; again where a rebuild took its files away meanwhile."""
        entry = self._book.need(self.name)
        while True:
            try:
                return read(entry, self._open(entry))
            except Vanished as error:
                current = self._book.need(self.name)
                if current.stored_in == entry.stored_in:
                    raise Vanished(
                        f"the rows of the index {self.name!r} are no longer at {self._place}",
                        next_step=f"lakeflow index build {self.name}",
                    ) from error
                entry = current

    def _nearest(
        self, table: Any, layout: Layout, queries: np.ndarray, k: int, condition: str | None, asked: list[str], exact: bool
    ) -> pa.Table:
        wanted = list(dict.fromkeys([layout.identity.key, *asked]))
        if not len(queries):
            empty = pa.schema([layout.schema.field(name) for name in wanted]).empty_table()
            return empty.append_column("_distance", pa.array([], pa.float32())).append_column(
                "query_index", pa.array([], pa.int32())
            )
        with mapped(f"searching the index {self.name!r}", self._place):
            query = table.search(list(queries), vector_column_name=layout.identity.column).distance_type(layout.identity.metric)
            query = query.limit(k).select([*wanted, "_distance"])
            if condition is not None:
                query = query.where(condition, prefilter=True)
            if exact or ann_index(table, layout) is None:
                found = query.bypass_vector_index().to_arrow()
            else:
                probes = self.settings.probes * (FILTERED_PROBES if condition is not None else 1)
                query = query.maximum_nprobes(0).minimum_nprobes(probes).refine_factor(self.settings.refine)
                found = query.to_arrow()
        if "query_index" not in found.column_names:
            found = found.append_column("query_index", pa.array(np.zeros(found.num_rows, dtype=np.int32)))
        return found.select([*wanted, "_distance", "query_index"])

    def _create(self, entry: Entry, layout: Layout) -> Any:
        with fenced_by_a_rebuild(self._book, entry), mapped(f"making the index {self.name!r}", self._place):
            return self._book.database.create_table(entry.stored_in, schema=keyed_by(layout.schema, layout.identity.key))

    def _open(self, entry: Entry) -> Any:
        with mapped(f"opening the index {self.name!r}", self._place):
            return self._book.database.open_table(entry.stored_in)

    def _drop(self, stored_in: str) -> None:
        """Remove rows that nothing leads to. Where that fails, as while another process still writes there, they are left:
        the next rebuild removes them, and what has been done already stands.
        """
        try:
            retrying(lambda: self._dropped(stored_in), DROP_BACKOFF)
        except LakeflowError as error:
            logger.warning("old rows of the index %r are left behind: %s", self.name, error.message)

    def _dropped(self, stored_in: str) -> None:
        with mapped(f"removing old rows of the index {self.name!r}", self._place):
            self._book.database.drop_table(stored_in, ignore_missing=True)


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
        self._keep_up()
        return self._commit(lambda: state_of(moved, self._table, self._book.place))

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
        )
