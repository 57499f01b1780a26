"""`vector_search` over LazyFrames: for each row the rows of an index that are nearest, as rows of a frame.

As `ml_predict` does, it becomes an elementwise expression: rows stream through in their order, and a filter above it on the
frame's own columns reaches the scan below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
import pyarrow as pa

from lakeflow.declare import IndexSpec
from lakeflow.errors import LakeflowError, UnknownName, UsageError
from lakeflow.index.query import Mode, Query, mode_of
from lakeflow.models.columns import output_names
from lakeflow.models.predict import carried
from lakeflow.runner.indexing import IndexRoom
from lakeflow.runner.searching import Searcher, open_search

QUERIES_A_CALL = 2_048
MEASURED: Mapping[Mode, tuple[str, ...]] = {
    Mode.VECTOR: ("distance",),
    Mode.FTS: ("text_score",),
    Mode.HYBRID: ("distance", "text_score"),
}
"""What comes beside `score`, by mode."""


@dataclass(frozen=True, slots=True)
class Searches:
    """The indexes that a run may search, looked up when it first does."""

    room: Callable[[], IndexRoom]
    indexes: Callable[[], Mapping[str, IndexSpec]]


_searches: ContextVar[Searches | None] = ContextVar("lakeflow_searches", default=None)


@contextmanager
def searching(searches: Searches | None) -> Iterator[None]:
    """Within it, `vector_search` finds its indexes; frames made there may be collected later."""
    token = _searches.set(searches)
    try:
        yield
    finally:
        _searches.reset(token)


def vector_search(
    frame: pl.LazyFrame,
    index: str,
    query: str,
    k: int = 10,
    *,
    mode: str = "vector",
    text: str | None = None,
    where: str | None = None,
    columns: Sequence[str] | None = None,
    exact: bool = False,
    max_distance: float | None = None,
    probes: int | None = None,
    refine: int | None = None,
    candidates: int | None = None,
    mmr: float | None = None,
    rerank: str | None = None,
    snapshot_id: int | None = None,
    how: Literal["inner", "left"] = "inner",
) -> pl.LazyFrame:
    """Each row of the frame beside each of its `k` hits in `index`, the best first, in the frame's order of rows.

    `query` is a column of vectors, or of texts: of a text the index's model makes the vector (modes vector and hybrid), and its
    words are looked for (fts and hybrid). `text` is a column with the words beside vectors. `columns` of the index come with a
    hit (None: all that it keeps but the vector; `index_snapshot_id` among them is the snapshot of the index's table as of which
    it was found), then `distance` (modes vector and hybrid), `text_score` (fts and hybrid), both FLOAT, and `score`, DOUBLE; a
    name that the frame has already gets a number. The other settings are those of `lakeflow.index.query.Query`; `rerank` names
    a model. A row whose query is null has no hits; `how` says whether a row without hits is left out or stays, with nulls.

    Raises, before any row is read: UsageError outside of a run, for a column of another type and for a setting out of its
    bounds, UnknownName for an index or a column that is not there, and what `open_search` raises.
    """
    named = None if columns is None else tuple(columns)
    asked = Query(k, mode_of(mode), where, named, exact, max_distance, probes, refine, candidates, mmr, snapshot_id)
    if how not in ("inner", "left"):
        raise UsageError(f"vector_search: how is {how!r}; valid: inner, left")
    schema = frame.collect_schema()
    for column in (query, *([] if text is None else [text])):
        if column not in schema:
            raise UnknownName("column for vector_search", column, schema.names())
    by_text = schema[query] == pl.String
    _check_types(schema, query, text, asked.mode)
    searcher = _searcher(index, asked, by_text=by_text, rerank=rerank)
    calling = _Calling(searcher, by_text, text is not None, _kept(searcher))
    hits = output_names(schema.names(), ["__hits"])[0]
    given = [pl.col(column).alias(str(place)) for place, column in enumerate([query] if text is None else [query, text])]
    found = frame.with_columns(
        pl.struct(given).map_batches(calling.series, return_dtype=pl.List(calling.made), is_elementwise=True).alias(hits)
    )
    names = output_names(schema.names(), calling.columns.names)
    fields = [pl.col(hits).struct.field(str(place)).alias(name) for place, name in enumerate(names)]
    return found.explode(hits, empty_as_null=how == "left").with_columns(fields).drop(hits)


def _check_types(schema: pl.Schema, query: str, text: str | None, mode: Mode) -> None:
    kind = schema[query]
    vectors = isinstance(kind, pl.List | pl.Array) and kind.inner in (pl.Float32, pl.Float64)
    if kind != pl.String and not vectors:
        raise UsageError(f"vector_search: the column {query!r} is {kind}; valid: texts, or lists of floats")
    if text is None:
        if vectors and mode is not Mode.VECTOR:
            raise UsageError(
                f"vector_search: mode {mode} needs words, and {query!r} holds vectors; valid: text='a column of texts'"
            )
        return
    if not vectors or schema[text] != pl.String:
        raise UsageError(
            f"vector_search: text={text!r} is a column of texts beside one of vectors; {query!r} is {kind}, "
            f"{text!r} is {schema[text]}"
        )


def _searcher(index: str, query: Query, *, by_text: bool, rerank: str | None) -> Searcher:
    searches = _searches.get()
    if searches is None:
        raise UsageError(
            f"vector_search needs the project's indexes, which are there only while a job runs; asked for: {index!r}",
            next_step="call it in a function under @lakeflow.job and start that with `lakeflow run JOB`",
        )
    declared = searches.indexes()
    if index not in declared:
        raise UnknownName("index", index, declared, next_step="declare it with CREATE VECTOR INDEX in tables/")
    return open_search(declared[index], searches.room(), query, by_text=by_text, rerank=rerank)


def _kept(searcher: Searcher) -> pa.Schema:
    """The columns of a hit, as a search of nothing gives them."""
    texts: list[str | None] | None = None if searcher.query.mode is Mode.VECTOR and searcher.reranker is None else []
    vectors = None if searcher.query.mode is Mode.FTS else pa.array([], pa.list_(pa.float32()))
    found = searcher.search(texts, vectors).schema
    told = {*MEASURED[searcher.query.mode], "score"}
    return pa.schema(
        [field for field in found if field.name not in ("query_index", "distance", "text_score") or field.name in told]
    )


@dataclass(frozen=True, slots=True)
class _Calling:
    """A search of the queries of some rows."""

    searcher: Searcher
    by_text: bool
    has_words: bool
    columns: pa.Schema

    @property
    def made(self) -> pl.Struct:
        """A hit; fields bear their places as names, since Polars takes some names for patterns."""
        empty = pl.from_arrow(self.columns.empty_table())
        assert isinstance(empty, pl.DataFrame), "a table becomes a frame"
        return pl.Struct({str(place): dtype for place, dtype in enumerate(empty.dtypes)})

    def series(self, given: pl.Series) -> pl.Series:
        """The hits of each row, as lists; called by Polars from several threads."""
        try:
            pieces = [self._hits(given.slice(start, QUERIES_A_CALL)) for start in range(0, max(len(given), 1), QUERIES_A_CALL)]
        except LakeflowError as error:
            raise carried(error) from error
        return pl.concat(pieces).alias(given.name)

    def _hits(self, given: pl.Series) -> pl.Series:
        first = given.struct.field("0")
        words = first if self.by_text else given.struct.field("1") if self.has_words else None
        vectors = None if self.by_text else _lists(first.to_arrow())
        found = self.searcher.search(None if words is None else words.to_list(), vectors)
        counts = np.bincount(found.column("query_index").to_numpy(), minlength=len(given))
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
        columns = [found.column(field.name).combine_chunks().cast(field.type) for field in self.columns]
        inside = pa.StructArray.from_arrays(columns, names=[str(place) for place in range(len(columns))])
        made = pl.Series(pl.from_arrow(pa.ListArray.from_arrays(offsets, inside)))
        return made.cast(pl.List(self.made))


def _lists(vectors: pa.Array) -> pa.Array:
    return vectors.cast(pa.list_(pa.float32()), safe=False)
