"""Searches of an index by vectors, by texts or by both, with the models that its declaration and the query name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from lakeflow.declare import INDEX_SNAPSHOT, IndexSpec
from lakeflow.errors import ModelError, UsageError
from lakeflow.index.columns import require_text
from lakeflow.index.finding import Asked, find
from lakeflow.index.query import Mode, Query
from lakeflow.index.settings import settings_of
from lakeflow.index.vectors import Identity, Searchable, VectorIndex
from lakeflow.lake.read import snapshot_at
from lakeflow.models.predict import predict_batch
from lakeflow.models.registry import Model
from lakeflow.models.spec import ModelSpec
from lakeflow.runner.indexing import IndexRoom, embedded, query_model

Texts = Sequence[str | None]
PAIRS_AT_ONCE = 1_024


@dataclass(frozen=True, slots=True)
class ModelReranker:
    """A model that is asked with pairs of a query and a text, such as a cross-encoder: see `Reranker`.

    Its INPUT is two STRING columns, the query first; its OUTPUT one number, higher for a text that answers better.
    """

    model: Model

    def scores(self, queries: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        """As `Reranker.scores`. Raises ModelError where a pair has no answer."""
        names = self.model.spec.input.names
        parts = [np.zeros(0)]
        for start in range(0, len(texts), PAIRS_AT_ONCE):
            stop = start + PAIRS_AT_ONCE
            pairs = pa.RecordBatch.from_arrays([pa.array(queries[start:stop]), pa.array(texts[start:stop])], names=names)
            answers = predict_batch(self.model, pairs, names).column(0)
            if answers.null_count:
                raise ModelError(
                    f"{self.model.spec.label} has no answer for {answers.null_count} of {len(answers)} texts to rank"
                )
            parts.append(np.asarray(answers.cast(pa.float64())))
        return np.concatenate(parts)


@dataclass(frozen=True, slots=True)
class Searcher:
    """An index, opened for one kind of search; as of now each time, but for one that is pinned. Safe in several threads. Where
    there is a `snapshot`, hits say what it gives, in the column `INDEX_SNAPSHOT`."""

    spec: IndexSpec
    index: Searchable
    identity: Identity
    query: Query
    model: Model | None = None
    reranker: ModelReranker | None = None
    passages: str | None = None
    snapshot: Callable[[], int | None] | None = None

    def search(self, texts: Texts | None, vectors: pa.Array | None = None) -> pa.Table:
        """The hits of each query as `find` gives them, query_index its place. A query with a null text or vector has none.

        Without `vectors`, those of `texts` are made by the index's model. Raises as `find` does. The snapshot that hits tell,
        before their distance, is the index's position when the search began; where its update is under way, rows that are
        newer may be among them.
        """
        count = len(texts) if vectors is None else len(vectors)  # type: ignore[arg-type]
        present = np.ones(count, dtype=bool)
        if texts is not None:
            present &= np.array([text is not None for text in texts], dtype=bool)
        if vectors is not None:
            present &= np.asarray(vectors.is_valid())
        elif self.model is not None and texts is not None:
            made = embedded(self.model, [text for text in texts if text is not None])
            places = pa.array(np.cumsum(present) - 1, mask=~present)
            vectors = made.take(places) if len(made) else pa.nulls(count, made.type)
            present[present] = np.asarray(made.is_valid())
        asked = Asked(
            None if vectors is None else matrix(vectors.filter(pa.array(present)), self.identity.width, self.spec.name),
            None if texts is None else [text for text, there in zip(texts, present, strict=True) if there and text is not None],
            self.reranker,
            self.passages,
        )
        snapshot = self.snapshot() if self.snapshot is not None else None
        found = find(self.index, self.spec.name, self.identity, self.query, asked)
        if self.snapshot is not None:
            told = pa.array([snapshot] * found.num_rows, pa.int64())
            found = found.add_column(found.schema.get_field_index("distance"), INDEX_SNAPSHOT, told)
        places = np.flatnonzero(present)[found.column("query_index").to_numpy()]
        return found.set_column(0, "query_index", pa.array(places, pa.int32()))


def open_search(spec: IndexSpec, room: IndexRoom, query: Query, *, by_text: bool, rerank: str | None = None) -> Searcher:
    """An index for searches by `query`, with the models it needs opened. `by_text`: the queries are texts, with no vectors.
    Where its columns name `INDEX_SNAPSHOT`, and the index keeps none of that name, hits tell theirs. With a `snapshot_id` the
    rows are those of the table as of then.

    Raises UnknownName for an index that was never built, a snapshot and a model that is not there, UsageError where the mode
    needs text columns, DeclarationError and IndexMismatch as `query_model` does, ModelError for a model that cannot rank.
    """
    built = room.open(spec)
    state = built.state()
    index = built if query.snapshot_id is None else _pinned(spec, room, state.identity, query.snapshot_id)
    tells = INDEX_SNAPSHOT in (query.columns or ()) and INDEX_SNAPSHOT not in index.schema().names
    if tells:
        query = replace(query, columns=tuple(name for name in query.columns or () if name != INDEX_SNAPSHOT))
    pinned = query.snapshot_id
    told: Callable[[], int | None] = (lambda: _position(built)) if pinned is None else lambda: pinned
    snapshot = told if tells else None
    text_columns = settings_of(spec).text_columns
    if query.mode is not Mode.VECTOR:
        require_text(spec.name, settings_of(spec))
    model = query_model(spec, room, state) if by_text and query.mode is not Mode.FTS else None
    if rerank is None:
        return Searcher(spec, index, state.identity, query, model, snapshot=snapshot)
    if not text_columns:
        raise UsageError(
            f"index {spec.name!r} names no 'text_columns', of which a model that ranks reads the first",
            next_step=f"add 'text_columns' = '..' to its declaration, then: lakeflow index update {spec.name}",
        )
    ranking = room.models.get(rerank)
    require_ranks(ranking.spec)
    return Searcher(spec, index, state.identity, query, model, ModelReranker(ranking), text_columns[0], snapshot)


def _pinned(spec: IndexSpec, room: IndexRoom, identity: Identity, snapshot_id: int) -> Searchable:
    from lakeflow.runner.pinned import PinnedIndex

    table = room.lake.table(spec.table)
    return PinnedIndex(spec, identity, table, snapshot_at(table, snapshot_id=snapshot_id))


def _position(index: VectorIndex) -> int | None:
    position = index.state().position
    return position.snapshot_id if position else None


def require_ranks(spec: ModelSpec) -> None:
    """Raises ModelError for a model that does not take two texts and give a number."""
    takes = len(spec.input) == 2 and all(pa.types.is_string(column.type) for column in spec.input)
    gives = len(spec.output) == 1 and _is_number(spec.output.field(0).type)
    if not takes or not gives:
        raise ModelError(
            f"{spec.label} cannot rank texts: that takes INPUT (query STRING, text STRING) and OUTPUT of one number; declared: "
            f"{', '.join(f'{column.name} {column.type}' for column in [*spec.input, *spec.output])}"
        )


def matrix(vectors: pa.Array, width: int, name: str) -> np.ndarray:
    """The vectors of queries, without nulls, as float32 [queries, width]. Raises UsageError where they do not fit."""
    if not len(vectors):
        return np.zeros((0, width), dtype=np.float32)
    values = vectors.flatten()
    if values.null_count:
        raise UsageError(f"{name}: queries need vectors of one width, without a NULL in them")
    widths = [width] if pa.types.is_fixed_size_list(vectors.type) else sorted(set(vectors.value_lengths().to_pylist()))
    if len(widths) != 1 or not widths[0]:
        raise UsageError(f"{name}: the queries have vectors of the widths {widths}; queries need vectors of one width")
    return np.asarray(values.cast(pa.float32(), safe=False)).reshape(len(vectors), -1)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind))
