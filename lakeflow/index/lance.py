"""The real index, in LanceDB: a folder, or a bucket on object storage.

Several processes may write one index. Their rows are merged by key (LanceDB detects two inserts of one key only where
the key is declared as the table's primary key, so it is), commits that conflict are tried again, and the position is
recorded by the one who started from the position that stands: the others fail as Fenced.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from lakeflow.declare import IndexSpec
from lakeflow.errors import Fenced, LakeflowError
from lakeflow.index.columns import ColumnKind, column_indexes, require_text
from lakeflow.index.condition import sql
from lakeflow.index.lance_book import Book, Entry, keyed_by, new_entry, stored_by
from lakeflow.index.lance_columns import nearest_texts
from lakeflow.index.lance_copy import can_copy, copy_table
from lakeflow.index.lance_errors import Vanished, mapped
from lakeflow.index.lance_upkeep import ann_index
from lakeflow.index.lance_writer import LanceRebuild, LanceWriter, fenced_by_a_rebuild, state_of
from lakeflow.index.rows import (
    SEQUENCE,
    Layout,
    asked_columns,
    columns_to_add,
    kept_columns,
    layout_of,
    matched_of,
    query_matrix,
    result_of,
)
from lakeflow.index.settings import GRAPHS, settings_of
from lakeflow.index.vectors import (
    Identity,
    IndexState,
    IndexWriter,
    Vectors,
    check_identity,
    check_k,
    check_texts,
)
from lakeflow.index.where import parse
from lakeflow.retry import Backoff, retrying

logger = logging.getLogger("lakeflow.index")

T = TypeVar("T")
QUERIES_A_CALL = 64
ROWS_A_BATCH = 4_096
FILTERED_PROBES = 4
FOLLOWED_A_PROBE = 10
DROP_BACKOFF = Backoff(attempts=4, base=0.05, cap=0.5)


@dataclass(frozen=True, slots=True)
class Effort:
    """How thoroughly a search looks; see settings.py."""

    exact: bool
    probes: int
    refine: int


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
        probes: int | None = None,
        refine: int | None = None,
    ) -> pa.Table:
        """As `VectorIndex.search`."""
        check_k(k)
        effort = Effort(exact, probes or self.settings.probes, refine or self.settings.refine)

        def answer(entry: Entry, table: Any) -> pa.Table:
            layout = Layout(self.name, entry.identity, table.schema)
            queries = query_matrix(self.name, entry.identity, vectors)
            asked = asked_columns(layout, columns)
            condition = None if where is None else sql(parse(where, layout.schema, layout.columns, self.name))
            parts = [
                self._nearest(table, layout, queries[start : start + QUERIES_A_CALL], k, condition, asked, effort)
                for start in range(0, max(len(queries), 1), QUERIES_A_CALL)
            ]
            places = [part.column("query_index").to_numpy() + at * QUERIES_A_CALL for at, part in enumerate(parts)]
            found = pa.concat_tables(parts)
            distances = found.column("_distance").to_numpy()
            return result_of(layout, asked, np.concatenate(places).astype(np.int32), distances, found)

        return self._reading(answer)

    def match(
        self, texts: Sequence[str], k: int, *, where: str | None = None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """As `VectorIndex.match`."""
        check_k(k)
        check_texts(self.name, texts)
        require_text(self.name, self.settings)

        def answer(entry: Entry, table: Any) -> pa.Table:
            layout = Layout(self.name, entry.identity, table.schema)
            asked = asked_columns(layout, columns)
            wanted = list(dict.fromkeys([layout.identity.key, *asked]))
            condition = None if where is None else sql(parse(where, layout.schema, layout.columns, self.name))
            indexes = [one for one in column_indexes(layout, self.settings) if one.kind is ColumnKind.TEXT]
            with mapped(f"searching the index {self.name!r}", self._place):
                parts = [nearest_texts(table, layout, indexes, text, k, condition, wanted) for text in texts]
            empty = pa.schema([*(layout.schema.field(name) for name in wanted), pa.field("_score", pa.float32())]).empty_table()
            found = pa.concat_tables(parts) if parts else empty
            queries = np.repeat(np.arange(len(parts), dtype=np.int32), [part.num_rows for part in parts])
            return matched_of(layout, asked, queries, found.column("_score").to_numpy(), found)

        return self._reading(answer)

    def scan(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """As `VectorIndex.scan`; the rows as of the first one."""
        entry = self._book.need(self.name)
        table = self._open(entry)
        layout = Layout(self.name, entry.identity, table.schema)
        wanted = [*kept_columns(layout, columns), SEQUENCE]
        with mapped(f"reading the index {self.name!r}", self._place):
            yield from table.search().select(wanted).limit(None).to_batches(ROWS_A_BATCH)

    def schema(self) -> pa.Schema:
        """As `VectorIndex.schema`."""
        return self._reading(lambda entry, table: pa.schema([field.remove_metadata() for field in table.schema]))

    def writer(self, identity: Identity, schema: pa.Schema) -> IndexWriter:
        """As `VectorIndex.writer`."""
        entry = self._book.find(self.name)
        if entry is not None:
            check_identity(self.name, entry.identity, identity)
        layout = layout_of(self.name, identity, schema, self._columns)
        column_indexes(layout, self.settings)
        if entry is None:
            ours = new_entry(self.name, identity)
            self._create(ours, layout)
            entry = self._book.insert(ours)
            if entry.stored_in != ours.stored_in:
                self._drop(ours.stored_in)
                check_identity(self.name, entry.identity, identity)
        with fenced_by_a_rebuild(self._book, entry):
            table = self._extended(entry, layout)
        return LanceWriter(self._book, entry, Layout(self.name, identity, table.schema), table, self.settings, self._backoff)

    def _extended(self, entry: Entry, layout: Layout) -> Any:
        """The table of the rows, with the columns of `layout` that it had not."""
        with mapped(f"adding columns to the index {self.name!r}", self._place):
            table = self._open(entry)
            added = columns_to_add(self.name, table.schema, layout.schema)
            if added:
                table.add_columns(added)
            return table

    @contextmanager
    def rebuild(self, identity: Identity, schema: pa.Schema) -> Iterator[IndexWriter]:
        """As `VectorIndex.rebuild`."""
        old = self._book.find(self.name)
        layout = layout_of(self.name, identity, schema, self._columns)
        column_indexes(layout, self.settings)
        fresh = new_entry(self.name, identity)
        table = self._create(fresh, layout)
        writer = LanceRebuild(self._book, fresh, layout, table, self.settings, self._backoff)
        with self._put_in_place(writer, fresh.stored_in, lambda done: self._swap(old, done)):
            yield writer

    def can_revise(self) -> bool:
        """As `VectorIndex.can_revise`."""
        return can_copy(self._place)

    @contextmanager
    def revise(self, identity: Identity, schema: pa.Schema) -> Iterator[IndexWriter]:
        """As `VectorIndex.revise`."""
        old = self._book.need(self.name)
        check_identity(self.name, old.identity, identity)
        layout = layout_of(self.name, identity, schema, self._columns)
        column_indexes(layout, self.settings)
        fresh = old.moved(stored_in=new_entry(self.name, identity).stored_in)
        try:
            with fenced_by_a_rebuild(self._book, old), mapped(f"copying the index {self.name!r}", self._place):
                copy_table(self._place, old.stored_in, fresh.stored_in)
            table = self._extended(fresh, layout)
        except BaseException:
            self._drop(fresh.stored_in)
            raise
        kept = Layout(self.name, identity, table.schema)
        writer = LanceRebuild(self._book, fresh, kept, table, self.settings, self._backoff)
        condition = f"target.revision = '{old.revision}'"
        with self._put_in_place(writer, fresh.stored_in, lambda done: self._book.swap(done, condition)):
            yield writer

    @contextmanager
    def _put_in_place(self, writer: LanceRebuild, stored_in: str, swap: Callable[[Entry], bool]) -> Iterator[None]:
        """After the block, what `writer` wrote stands in place of the old index; where the block raises, it goes."""
        try:
            yield
            done = writer.finished()
            replaced = self._replaced_by(done)
            swapped = swap(done)
        except BaseException:
            self._drop(stored_in)
            raise
        if not swapped:
            self._drop(stored_in)
            raise Fenced(
                f"index {self.name!r} was updated, built or rebuilt by another process in the meantime",
                left_behind="that other index; nothing of this one",
                next_step=f"lakeflow index status {self.name}",
            )
        for one in replaced:
            self._drop(one)

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
        self, table: Any, layout: Layout, queries: np.ndarray, k: int, condition: str | None, asked: list[str], effort: Effort
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
            index = None if effort.exact else ann_index(table, layout)
            if index is None:
                found = query.bypass_vector_index().to_arrow()
            else:
                probes = effort.probes * (FILTERED_PROBES if condition is not None else 1)
                query = query.maximum_nprobes(0).minimum_nprobes(probes).refine_factor(effort.refine)
                if index.kind in GRAPHS:
                    query = query.ef(max(FOLLOWED_A_PROBE * probes, 2 * effort.refine * k))
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
