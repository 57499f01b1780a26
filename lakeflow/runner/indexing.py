"""Brings vector indexes up to date with their tables, and builds them anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from lakeflow.declare import IndexSpec
from lakeflow.errors import DeclarationError, IndexMismatch, SchemaMismatch, SourceChanged, UnknownName
from lakeflow.index.lance import LanceIndex
from lakeflow.index.settings import settings_of
from lakeflow.index.vectors import Identity, IndexState, IndexWriter, UpsertCounts, VectorIndex, check_identity
from lakeflow.job import Caps, OnChange
from lakeflow.lake.catalog import Lake, Table, arrow_schema
from lakeflow.lake.changes import batches_after
from lakeflow.lake.read import Batch, Split, appended, cut, read
from lakeflow.lake.schema import require_columns
from lakeflow.models.predict import predict_batch
from lakeflow.models.registry import Model, ModelSet
from lakeflow.progress import SnapshotPosition
from lakeflow.runner.embedded import require_index_model
from lakeflow.runner.index_follow import Following, TooMuchChanged

OnRows = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class IndexRoom:
    """What indexes are built from and where they are kept."""

    lake: Lake
    models: ModelSet
    place: str
    storage: dict[str, str]
    caps: Caps

    def open(self, spec: IndexSpec) -> VectorIndex:
        return LanceIndex(spec, self.place, self.storage)


@dataclass(frozen=True, slots=True)
class Indexed:
    """What an update did. `rebuilt` is why the index was built anew, None where it went on from its position."""

    counts: UpsertCounts
    start: SnapshotPosition | None
    end: SnapshotPosition | None
    rebuilt: str | None = None

    @property
    def read(self) -> int:
        """Rows that came to the index, and those that were found to be gone."""
        return self.counts.read + self.counts.deleted

    @property
    def written(self) -> int:
        """Rows that the index has, or has no longer, because of this."""
        return self.counts.inserted + self.counts.updated + self.counts.deleted


def update_index(spec: IndexSpec, room: IndexRoom, *, on_rows: OnRows = lambda rows: None) -> Indexed:
    """Bring what became of the table since the index's position into it; build it where it is missing.

    Rows that were appended replace those of their key. Where rows were changed in place or went, as by a merge, those that are
    others now are brought in and those that are gone are taken out, in a copy that takes the index's place; an index that
    cannot be copied, one of whose table most rows are others, and one whose table no longer tells what became of it since, are
    built anew, for an index is derived. Raises IndexMismatch where it was built from another model, width, metric, key or
    table, Fenced where another process recorded a position first.
    """
    table = checked_table(spec, room.lake)
    state = index_state(spec, room)
    if state is None:
        return build_index(spec, room, reason="it was not there yet", on_rows=on_rows)
    check_identity(spec.name, state.identity, identity_of(spec, table, room.models, state.identity.width))
    try:
        batches = pending(table, state.position, room.caps)
        if any(batch.removed for batch in batches):
            return _follow(spec, room, table, state.identity, batches, on_rows)
    except SourceChanged as change:
        return build_index(spec, room, reason=change.message, on_rows=on_rows)
    writer = room.open(spec).writer(state.identity, index_schema(spec, table))
    if not batches:
        writer.keep_up()
        return Indexed(UpsertCounts(), state.position, state.position)
    return _fill(spec, writer, table, batches, on_rows)


def pending(table: Table, position: SnapshotPosition | None, caps: Caps) -> tuple[Batch, ...]:
    """What an update of an index at `position` reads. Raises SourceChanged where the table does not tell."""
    return tuple(batches_after(table, position, OnChange.RECOMPUTE, caps))


def _follow(
    spec: IndexSpec, room: IndexRoom, table: Table, identity: Identity, batches: Sequence[Batch], on_rows: OnRows
) -> Indexed:
    """Raises SourceChanged where a file that is needed is no longer there."""
    index, schema = room.open(spec), index_schema(spec, table)
    last = batches[-1].end.snapshot_id
    if not index.can_revise():
        reason = (
            f"rows of {spec.table} were changed or removed up to snapshot {last}, and an index at {room.place} is not copied"
        )
        return build_index(spec, room, reason=reason, on_rows=on_rows)
    following = Following(table, spec.key, schema.names, settings_of(spec).chunk_bytes, on_rows)
    try:
        with index.revise(identity, schema) as writer:
            start = writer.position
            counts = following.bring(writer, index, batches)
        return Indexed(counts, start, writer.position)
    except TooMuchChanged:
        reason = f"most rows of {spec.table} are others since snapshot {last}"
        return build_index(spec, room, reason=reason, on_rows=on_rows)


def build_index(
    spec: IndexSpec, room: IndexRoom, *, reason: str = "it was asked for", on_rows: OnRows = lambda rows: None
) -> Indexed:
    """Build the index from the whole table, beside the old one, and swap them when done."""
    table = checked_table(spec, room.lake)
    splits = appended(table, None)
    width = _width(spec, table, splits)
    if width is None:
        return Indexed(UpsertCounts(), None, None, f"{reason}, but {spec.table} holds no vector yet")
    identity = identity_of(spec, table, room.models, width)
    with room.open(spec).rebuild(identity, index_schema(spec, table)) as writer:
        done = _fill(spec, writer, table, tuple(cut(splits, room.caps, table)), on_rows)
    return replace(done, rebuilt=reason)


def index_state(spec: IndexSpec, room: IndexRoom) -> IndexState | None:
    """The index as it stands; None where it was never built."""
    try:
        return room.open(spec).state()
    except UnknownName:
        return None


def query_model(spec: IndexSpec, room: IndexRoom, state: IndexState) -> Model:
    """The model that makes vectors of texts to search by.

    Raises DeclarationError where the index names no model, IndexMismatch where the model is not the one whose vectors
    the index holds.
    """
    if spec.model is None:
        raise DeclarationError(f"{spec.origin}: index {spec.name!r} names no model to search by text with; add 'model' = '..'")
    model = room.models.get(spec.model)
    if (fingerprint := model.fingerprint()) != state.identity.model_fingerprint:
        raise IndexMismatch(
            f"index {spec.name!r} holds vectors of model {state.identity.model!r} {state.identity.model_fingerprint}, "
            f"and {spec.model!r} is now {fingerprint}",
            next_step=f"run the job that writes {spec.table} with --mode snapshot, then: lakeflow index build {spec.name}",
        )
    return model


def embedded(model: Model, texts: Sequence[str]) -> pa.Array:
    """The vectors of texts, by an embedding model."""
    name = model.spec.input.names[0]
    return predict_batch(model, pa.RecordBatch.from_pydict({name: list(texts)}), [name]).column(0)


def _fill(spec: IndexSpec, writer: IndexWriter, table: Table, batches: Sequence[Batch], on_rows: OnRows) -> Indexed:
    """Rows first, position after, a batch at a time."""
    start = writer.position
    counts = UpsertCounts()
    columns = index_schema(spec, table).names
    for batch in batches:
        counts += writer.upsert(_told(read(table, batch.splits, columns), on_rows), batch.end.sequence)
        writer.record(batch.end)
    return Indexed(counts, start, writer.position)


def _told(batches: Iterator[pa.RecordBatch], on_rows: OnRows) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch
        on_rows(batch.num_rows)


def checked_table(spec: IndexSpec, lake: Lake) -> Table:
    """The table of an index. Raises UnknownName where it, or a column that the index names, is not there."""
    table = lake.table(spec.table)
    require_columns([spec.key, spec.column, *spec.columns], arrow_schema(table), spec.table)
    return table


def index_schema(spec: IndexSpec, table: Table) -> pa.Schema:
    """The columns that the index keeps, as the table has them."""
    schema = arrow_schema(table).remove_metadata()
    names = dict.fromkeys([spec.key, spec.column, *spec.columns]) if spec.columns else dict.fromkeys(schema.names)
    return pa.schema([pa.field(name, schema.field(name).type, schema.field(name).nullable) for name in names])


def identity_of(spec: IndexSpec, table: Table, models: ModelSet, width: int) -> Identity:
    """What the index would be built from now, for vectors of `width` elements. Raises IndexMismatch where the table says that
    its vectors are of another model."""
    require_index_model(spec, table, models)
    fingerprint = models.get(spec.model).fingerprint() if spec.model else None
    return Identity(
        spec.table, str(table.metadata.table_uuid), spec.column, spec.key, spec.metric, width, spec.model, fingerprint
    )


def _width(spec: IndexSpec, table: Table, splits: Sequence[Split]) -> int | None:
    """The number of elements of the first vector; None where there is none."""
    kind = arrow_schema(table).field(spec.column).type
    if not pa.types.is_list(kind) and not pa.types.is_large_list(kind):
        raise SchemaMismatch(f"column {spec.column!r} of {spec.table} is {kind}; an index needs a list of floats")
    for batch in read(table, splits, [spec.column]):
        vectors = batch.column(0).drop_null()
        if len(vectors):
            return len(vectors[0])
    return None
