"""What an index keeps of a table's rows: the columns, their types, and which rows are fit to be kept. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.errors import DeclarationError, IndexMismatch, SchemaMismatch, UnknownName, UsageError
from lakeflow.index.vectors import Identity, Vectors, scores

SEQUENCE = "_lakeflow_sequence"
TAKEN_BY_SEARCH = frozenset({"query_index", "distance", "text_score", "score"})
TAKEN_BY_STORAGE = frozenset(
    {SEQUENCE, "query_index", "_distance", "_score", "_relevance_score", "_rowid", "_rowaddr", "_rowoffset"}
)


@dataclass(frozen=True, slots=True)
class Prepared:
    """The rows of one chunk that go in, at most one a key, and the keys that go out. `read` and `repeated` count rows."""

    rows: pa.RecordBatch
    without_vector: pa.Array
    read: int
    repeated: int


@dataclass(frozen=True, slots=True)
class Layout:
    """The schema of an index: the key first (string or int64, never null), then the kept columns, the sequence, the vector."""

    name: str
    identity: Identity
    schema: pa.Schema

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that a search may filter on: all but the vector and the sequence."""
        return tuple(name for name in self.schema.names if name not in (SEQUENCE, self.identity.column))

    def prepare(self, chunk: pa.RecordBatch, sequence: int) -> Prepared:
        """The rows of `chunk` as the index keeps them. Raises as `IndexWriter.upsert` says."""
        chunk = _plain_rows(chunk, self.schema.names)
        keys = self._keys(chunk)
        last = _last_of_each(keys)
        newest = chunk.take(last)
        keys = keys.take(last)
        vectors, kept = self._vectors(newest, keys)
        rows = newest.filter(kept)
        arrays: list[pa.Array] = []
        for field in self.schema:
            if field.name == self.identity.key:
                arrays.append(keys.filter(kept))
            elif field.name == self.identity.column:
                arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=field.type))
            elif field.name == SEQUENCE:
                arrays.append(pa.array(np.full(rows.num_rows, sequence, dtype=np.int64)))
            else:
                arrays.append(self._column(rows, field))
        stored = pa.RecordBatch.from_arrays(arrays, schema=self.schema)
        return Prepared(stored, keys.filter(pc.invert(kept)), chunk.num_rows, chunk.num_rows - len(last))

    def _keys(self, chunk: pa.RecordBatch) -> pa.Array:
        keys = self._cast(_named(chunk, self.identity.key, self.name), self.schema.field(self.identity.key))
        if keys.null_count:
            raise SchemaMismatch(
                f"index {self.name!r}: {keys.null_count} rows have a null in the key {self.identity.key!r}; "
                "every row needs a key",
                left_behind="the rows before them may be in the index; its position has not moved",
                next_step=f"keep such rows out of {self.identity.table}, then lakeflow index update {self.name}",
            )
        return keys

    def _vectors(self, rows: pa.RecordBatch, keys: pa.Array) -> tuple[np.ndarray, pa.Array]:
        """The vectors as float32 [kept, width], and which rows have one."""
        column = _named(rows, self.identity.column, self.name)
        present = column.is_valid()
        lists = column.filter(present)
        keys = keys.filter(present)
        lengths: np.ndarray = np.asarray(pc.list_value_length(lists)) if len(lists) else np.zeros(0, dtype=np.int32)
        self._refuse(lengths != self.identity.width, keys, lambda row: f"has {lengths[row]} elements")
        values = lists.flatten()
        if values.null_count:
            holes: np.ndarray = np.asarray(values.is_null()).reshape(-1, self.identity.width).max(axis=1)
            self._refuse(holes, keys, lambda row: "has a null in it")
        vectors = values.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False).reshape(-1, self.identity.width)
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.einsum("ij,ij->i", vectors, vectors)
        self._refuse(
            ~np.isfinite(squares), keys, lambda row: "has a NaN, an infinity or a length out of a 32-bit float's range"
        )
        if self.identity.metric != "cosine":
            return vectors, present
        directed = squares > 0
        kept = np.asarray(present)
        kept[kept] = directed
        return vectors[directed], pa.array(kept)

    def _refuse(self, bad: np.ndarray, keys: pa.Array, what: Callable[[int], str]) -> None:
        if bad.any():
            row = int(np.argmax(bad))
            raise SchemaMismatch(
                f"index {self.name!r}: the vector of {self.identity.key} {keys[row].as_py()!r} {what(row)}; valid: "
                f"{self.identity.width} finite numbers ({int(bad.sum())} of {len(keys)} rows of this chunk do not fit)",
                left_behind="the rows before it may be in the index; its position has not moved",
                next_step=f"mend the rows in {self.identity.table}, then lakeflow index update {self.name}",
            )

    def _column(self, rows: pa.RecordBatch, field: pa.Field) -> pa.Array:
        place = rows.schema.get_field_index(field.name)
        return pa.nulls(rows.num_rows, field.type) if place < 0 else self._cast(rows.column(place), field)

    def _cast(self, column: pa.Array, field: pa.Field) -> pa.Array:
        if column.type.equals(field.type):
            return column
        try:
            return column.cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise SchemaMismatch(
                f"index {self.name!r}: column {field.name!r} comes as {column.type}, the index keeps {field.type}: {error}",
                next_step=f"lakeflow index build {self.name}",
            ) from error


def layout_of(name: str, identity: Identity, source: pa.Schema, columns: Iterable[str] = ()) -> Layout:
    """The layout of an index over rows of `source` that keeps `columns` (none: all of them).

    Raises UnknownName for a column that is not in `source`, DeclarationError for a name that an index cannot keep and
    SchemaMismatch for a key or a vector of a type that it cannot be.
    """
    asked = tuple(columns) or tuple(source.names)
    for column in (identity.key, identity.column, *asked):
        if column not in source.names:
            raise UnknownName(f"column of {identity.table}", column, source.names)
        if column in TAKEN_BY_STORAGE or "." in column or "`" in column:
            raise DeclarationError(
                f"index {name!r} cannot keep the column {column!r} of {identity.table}: names with a dot or a backtick, and "
                f"{', '.join(sorted(TAKEN_BY_STORAGE))} are taken; name the columns to keep with 'columns'"
            )
    kept = [column for column in dict.fromkeys(asked) if column not in (identity.key, identity.column)]
    fields = [
        pa.field(identity.key, _key_type(name, identity, source), nullable=False),
        *(pa.field(column, _stored_type(source.field(column).type)) for column in kept),
        pa.field(SEQUENCE, pa.int64()),
        pa.field(identity.column, _vector_type(name, identity, source)),
    ]
    return Layout(name, identity, pa.schema(fields))


def columns_to_add(name: str, built: pa.Schema, asked: pa.Schema) -> list[pa.Field]:
    """The columns of `asked` that `built` has not. Raises IndexMismatch where both have one, as different types."""
    added = []
    for field in asked:
        place = built.get_field_index(field.name)
        if place < 0:
            added.append(field)
        elif not built.field(place).type.equals(field.type):
            raise IndexMismatch(
                f"index {name!r} keeps the column {field.name!r} as {built.field(place).type}, the table has {field.type}",
                next_step=f"lakeflow index build {name}",
            )
    return added


def chunks(batches: Iterable[pa.RecordBatch], most_bytes: int) -> Iterator[pa.RecordBatch]:
    """The rows of `batches` in the order given, in chunks of about `most_bytes`; a chunk holds one row at the least."""
    waiting: list[pa.RecordBatch] = []
    held = 0
    for batch in batches:
        for piece in _pieces(batch, most_bytes):
            if waiting and (held + piece.nbytes > most_bytes or not piece.schema.equals(waiting[0].schema)):
                yield pa.concat_batches(waiting)
                waiting, held = [], 0
            waiting.append(piece)
            held += piece.nbytes
    if waiting:
        yield pa.concat_batches(waiting)


def _pieces(batch: pa.RecordBatch, most_bytes: int) -> Iterator[pa.RecordBatch]:
    if batch.num_rows:
        rows = max(1, batch.num_rows * most_bytes // max(batch.nbytes, 1))
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)


def query_matrix(name: str, identity: Identity, vectors: Vectors) -> np.ndarray:
    """The queries as float32 [queries, width]. Raises UsageError as `VectorIndex.search` says."""
    try:
        matrix = np.asarray(vectors, dtype=np.float32)
    except (ValueError, TypeError) as error:
        raise UsageError(f"queries of index {name!r} are no matrix of numbers: {error}") from error
    if matrix.ndim == 1 and matrix.size:
        matrix = matrix[np.newaxis]
    if matrix.ndim != 2 or matrix.shape[1] != identity.width:
        raise UsageError(
            f"queries of index {name!r} have the shape {list(matrix.shape)}; valid: [queries, {identity.width}]",
            next_step=f"lakeflow index status {name}",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", matrix, matrix)
    if not np.isfinite(squares).all():
        raise UsageError(f"query {int(np.argmin(np.isfinite(squares)))} of index {name!r} has a NaN or an infinity in it")
    if identity.metric == "cosine" and not (squares > 0).all():
        raise UsageError(
            f"query {int(np.argmin(squares > 0))} of index {name!r} is all zeros, which has no direction under cosine"
        )
    return np.ascontiguousarray(matrix)


def asked_columns(layout: Layout, columns: Iterable[str] | None) -> list[str]:
    """The columns of a search's result between query_index and distance. Raises UnknownName and UsageError."""
    asked = list(layout.columns) if columns is None else kept_columns(layout, columns)
    clash = sorted(TAKEN_BY_SEARCH.intersection(asked))
    if clash:
        raise UsageError(
            f"a search of index {layout.name!r} has its own columns {', '.join(sorted(TAKEN_BY_SEARCH))}; "
            f"the index keeps {clash[0]!r} too, which can be filtered on but not asked for: name the columns to return"
        )
    return asked


def kept_columns(layout: Layout, columns: Iterable[str]) -> list[str]:
    """`columns`, each once. Raises UnknownName for one that the index does not keep."""
    asked = list(dict.fromkeys(columns))
    for column in asked:
        if column not in (*layout.columns, layout.identity.column):
            raise UnknownName(f"column of index {layout.name}", column, (*layout.columns, layout.identity.column))
    return asked


def result_of(layout: Layout, asked: list[str], queries: np.ndarray, distances: np.ndarray, rows: pa.Table) -> pa.Table:
    """The result of a search, in its order: `rows` holds the key and `asked`, aligned with `queries` and `distances`."""
    found = pa.table({"query": queries, "distance": distances, "key": rows.column(layout.identity.key)})
    order = pc.sort_indices(found, [("query", "ascending"), ("distance", "ascending"), ("key", "ascending")])
    distance = np.asarray(distances, dtype=np.float32)[order.to_numpy()]
    columns = [found.column("query").cast(pa.int32()).take(order), *(rows.column(name).take(order) for name in asked)]
    columns += [pa.chunked_array([distance]), pa.chunked_array([scores(distance, layout.identity.metric)])]
    return pa.Table.from_arrays(columns, names=["query_index", *asked, "distance", "score"])


def matched_of(layout: Layout, asked: list[str], queries: np.ndarray, text_scores: np.ndarray, rows: pa.Table) -> pa.Table:
    """The result of a search by words, in its order: `rows` as in `result_of`."""
    found = pa.table({"query": queries, "text_score": text_scores, "key": rows.column(layout.identity.key)})
    order = pc.sort_indices(found, [("query", "ascending"), ("text_score", "descending"), ("key", "ascending")])
    columns = [found.column("query").cast(pa.int32()).take(order), *(rows.column(name).take(order) for name in asked)]
    columns.append(found.column("text_score").cast(pa.float32()).take(order))
    return pa.Table.from_arrays(columns, names=["query_index", *asked, "text_score"])


def _named(batch: pa.RecordBatch, column: str, name: str) -> pa.Array:
    place = batch.schema.get_field_index(column)
    if place < 0:
        raise UnknownName(f"column of the rows for index {name}", column, batch.schema.names)
    return batch.column(place)


def _last_of_each(keys: pa.Array) -> pa.Array:
    """The places of the last row of each key, in order."""
    codes = keys.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    _, from_the_end = np.unique(codes[::-1], return_index=True)
    return pa.array(np.sort(len(codes) - 1 - from_the_end))


def _plain_rows(chunk: pa.RecordBatch, wanted: list[str]) -> pa.RecordBatch:
    """The `wanted` columns of `chunk` that it has, of types that every kernel of Arrow takes."""
    there = [name for name in chunk.schema.names if name in wanted]
    return pa.RecordBatch.from_arrays([_plain(chunk.column(name)) for name in there], names=there)


def _plain(column: pa.Array) -> pa.Array:
    if isinstance(column, pa.ExtensionArray):
        return _plain(column.storage)
    if pa.types.is_dictionary(column.type):
        return _plain(column.dictionary_decode())
    stored = _stored_type(column.type)
    views = (pa.string_view(), pa.binary_view())
    return column.cast(stored) if column.type in views else column


def _stored_type(declared: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(declared):
        return _stored_type(declared.value_type)
    if isinstance(declared, pa.BaseExtensionType):
        return _stored_type(declared.storage_type)
    if pa.types.is_large_string(declared) or declared == pa.string_view():
        return pa.string()
    if pa.types.is_large_binary(declared) or declared == pa.binary_view():
        return pa.binary()
    return declared


def _key_type(name: str, identity: Identity, source: pa.Schema) -> pa.DataType:
    declared = source.field(identity.key).type
    stored = _stored_type(declared)
    if pa.types.is_string(stored):
        return pa.string()
    if pa.types.is_integer(stored):
        return pa.int64()
    raise SchemaMismatch(f"index {name!r}: the key {identity.key!r} is {declared}; valid: a string or an integer column")


def _vector_type(name: str, identity: Identity, source: pa.Schema) -> pa.DataType:
    declared = source.field(identity.column).type
    lists = pa.types.is_fixed_size_list(declared) or pa.types.is_list(declared) or pa.types.is_large_list(declared)
    if not lists or not pa.types.is_floating(declared.value_type):
        raise SchemaMismatch(f"index {name!r}: the column {identity.column!r} is {declared}; valid: a list of FLOAT or DOUBLE")
    if pa.types.is_fixed_size_list(declared) and declared.list_size != identity.width:
        raise SchemaMismatch(
            f"index {name!r}: the vectors in {identity.column!r} have {declared.list_size} elements; valid: {identity.width}",
            next_step=f"lakeflow index build {name}",
        )
    return pa.list_(pa.float32(), identity.width)
