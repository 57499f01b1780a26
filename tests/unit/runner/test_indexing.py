from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakeflow.declare import IndexSpec, Origin, TableSpec
from lakeflow.errors import DeclarationError, IndexMismatch, SchemaMismatch, UnknownName
from lakeflow.index.lance import LanceIndex
from lakeflow.index.query import Query
from lakeflow.index.vectors import UpsertCounts, VectorIndex
from lakeflow.job import Caps
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.read import read, splits_at
from lakeflow.models.registry import ModelSet
from lakeflow.models.spec import ModelSpec, Task
from lakeflow.progress import SnapshotPosition
from lakeflow.runner import indexing
from lakeflow.runner.indexing import IndexRoom, build_index, index_state, update_index
from lakeflow.runner.searching import open_search
from lakeflow.testing.index import MemoryIndex
from lakeflow.testing.provider import VECTOR_WIDTH, EchoProvider
from tests.jobs import World
from tests.lakes import written

TABLE = "gold.embedded"
SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string()), ("vector", pa.list_(pa.float32()))])
SPEC = IndexSpec("docs", TABLE, "vector", "id", origin=Origin(Path("tables/docs.sql"), 5))
WITH_MODEL = replace(SPEC, model="embed")
EMBED = ModelSpec(
    "embed", "echo", Task.EMBEDDING, pa.schema([("text", pa.string())]), pa.schema([("out", pa.list_(pa.float32()))])
)
X, Y, Z = [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]


@dataclass(frozen=True, slots=True)
class MemoryRoom(IndexRoom):
    """A room whose indexes live in memory."""

    opened: dict[str, MemoryIndex] = field(default_factory=dict)

    def open(self, spec: IndexSpec) -> VectorIndex:
        return self.opened.setdefault(spec.name, MemoryIndex(spec))


def rows(*each: tuple[int | None, str, Sequence[float | None] | None]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, one, strict=True)) for one in each], schema=SCHEMA)


def models(**options: str) -> ModelSet:
    return ModelSet([replace(EMBED, options=options)], EchoProvider)


@pytest.fixture
def room(world: World, tmp_path: Path) -> MemoryRoom:
    return MemoryRoom(world.lake, models(), str(tmp_path / "index"), {}, Caps())


def nearest(room: IndexRoom, vector: Sequence[float], k: int = 10, spec: IndexSpec = SPEC) -> list[int]:
    return [row["id"] for row in room.open(spec).search(vector, k).to_pylist()]


def test_an_index_that_is_missing_is_built(world: World, room: MemoryRoom) -> None:
    head = world.append(rows((1, "a", X), (2, "b", Y)), TABLE)
    assert index_state(SPEC, room) is None
    done = update_index(SPEC, room)
    assert (done.counts, done.rebuilt) == (UpsertCounts(read=2, inserted=2), "it was not there yet")
    assert done.end is not None
    assert (done.end.snapshot_id, done.end.path) == (head, None)
    assert nearest(room, X) == [1, 2]
    state = index_state(SPEC, room)
    assert state is not None
    assert (state.position, state.rows, state.identity.width) == (done.end, 2, 2)


def test_an_update_reads_what_was_appended_and_replaces_rows_by_key(world: World, room: MemoryRoom) -> None:
    world.append(rows((1, "a", X), (2, "b", Y)), TABLE)
    first = update_index(SPEC, room)
    world.append(rows((1, "c", Y), (3, "d", X)), TABLE)
    told: list[int] = []
    done = update_index(SPEC, room, on_rows=told.append)
    assert (done.counts, done.rebuilt, done.start) == (UpsertCounts(read=2, inserted=1, updated=1), None, first.end)
    assert told == [2]
    assert nearest(room, X, 1) == [3]


def test_an_index_that_is_up_to_date_is_left_alone(world: World, room: MemoryRoom) -> None:
    world.append(rows((1, "a", X)), TABLE)
    first = update_index(SPEC, room)
    done = update_index(SPEC, room)
    assert (done.counts, done.start, done.end, done.rebuilt) == (UpsertCounts(), first.end, first.end, None)


def test_an_update_without_new_rows_follows_a_declaration_that_changed(world: World, room: MemoryRoom) -> None:
    world.append(rows((1, "a", X)), TABLE)
    spec = replace(SPEC, options={"text_columns": "text"})
    for lance in (False, True):
        kept = IndexRoom(room.lake, room.models, room.place, {}, Caps()) if lance else room
        update_index(SPEC, kept)
        if not lance:
            room.opened["docs"] = _again(spec, room.opened["docs"])
        assert update_index(spec, kept).counts == UpsertCounts()
        state = index_state(spec, kept)
        assert state is not None
        assert [one.column for one in state.columns] == ["text"]


def _again(spec: IndexSpec, before: MemoryIndex) -> MemoryIndex:
    """The same index under another declaration, as a later process has it."""
    index = MemoryIndex(spec)
    index._built = before._built
    return index


@pytest.mark.parametrize("caps", [Caps(files=1), Caps(rows=1), Caps(bytes=1), Caps()])
def test_the_position_is_recorded_after_each_batch(world: World, room: MemoryRoom, caps: Caps) -> None:
    for number in range(4):
        world.append(rows((number, "a", X)), TABLE)
    done = update_index(SPEC, replace(room, caps=caps))
    assert (done.counts.inserted, index_state(SPEC, room).position) == (4, done.end)  # type: ignore[union-attr]


def test_an_update_that_dies_goes_on_after_its_last_batch(world: World, room: MemoryRoom) -> None:
    room = replace(room, caps=Caps(files=1))
    world.append(rows((0, "a", X)), TABLE)
    update_index(SPEC, room)
    for number in (1, 2, 3):
        world.append(rows((number, "a", X)), TABLE)

    def dies(count: int) -> None:
        if index_state(SPEC, room).position.sequence == 2:  # type: ignore[union-attr]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        update_index(SPEC, room, on_rows=dies)
    done = update_index(SPEC, room)
    assert done.start is not None
    assert (done.start.sequence, done.counts.read) == (2, 2)
    assert sorted(nearest(room, X)) == [0, 1, 2, 3]


def test_a_table_that_was_overwritten_is_indexed_anew(world: World, room: MemoryRoom) -> None:
    world.append(rows((1, "a", X), (2, "b", Y)), TABLE)
    update_index(SPEC, room)
    files = written(world.table(TABLE), rows((3, "c", X)))
    overwrite = Committer(world.lake).commit(Change(TABLE, files, replace_all=True)).snapshot_id
    done = update_index(SPEC, room)
    assert done.rebuilt is not None
    assert str(overwrite) in done.rebuilt
    assert nearest(room, X) == [3]
    assert update_index(SPEC, room).rebuilt is None


def merged(world: World, kept: pa.Table) -> None:
    """The table's files are written again as one, as a merge does that copies on write."""
    table = world.table(TABLE)
    snapshot = table.current_snapshot()
    assert snapshot is not None
    live = tuple(split.task.file for split in splits_at(table, snapshot))
    Committer(world.lake).commit(Change(TABLE, written(table, kept), live, base=snapshot.snapshot_id))


def test_of_files_that_were_written_again_only_the_rows_that_differ_are_brought_in(world: World, room: MemoryRoom) -> None:
    world.append(rows((1, "a", X), (2, "b", Y), (3, "c", Z), (4, "d", Z), (5, "e", X)), TABLE)
    first = update_index(SPEC, room)
    merged(world, rows((1, "a", X), (2, "b", X), (3, "c", Z), (5, "e", X), (6, "f", Y)))
    done = update_index(SPEC, room)
    assert (done.rebuilt, done.start) == (None, first.end)
    assert done.counts == UpsertCounts(read=2, inserted=1, updated=1, deleted=1)
    assert (done.read, done.written) == (3, 3)
    assert sorted(nearest(room, X)) == [1, 2, 3, 5, 6]
    assert update_index(SPEC, room).counts == UpsertCounts()


def test_a_table_that_was_emptied_empties_its_index(world: World, room: MemoryRoom) -> None:
    world.append(rows((1, "a", X), (2, "b", Y)), TABLE)
    update_index(SPEC, room)
    merged(world, rows())
    done = update_index(SPEC, room)
    assert (done.counts.deleted, done.read, done.written, done.rebuilt) == (2, 2, 2, None)
    assert nearest(room, X) == []


def test_where_an_index_cannot_be_copied_it_is_built_anew(world: World, room: MemoryRoom) -> None:
    class Far(MemoryIndex):
        def can_revise(self) -> bool:
            return False

    room.opened["docs"] = Far(SPEC)
    world.append(rows((1, "a", X), (2, "b", Y), (3, "c", Z)), TABLE)
    update_index(SPEC, room)
    merged(world, rows((1, "a", X), (2, "b", Y)))
    assert "is not copied" in str(update_index(SPEC, room).rebuilt)
    assert nearest(room, X) == [1, 2]


def test_a_table_that_was_made_anew_is_refused_until_the_index_is_built_anew(world: World, room: MemoryRoom) -> None:
    world.append(rows((1, "a", X)), TABLE)
    update_index(SPEC, room)
    world.lake.drop(TABLE)
    world.append(rows((2, "b", Y)), TABLE)
    with pytest.raises(IndexMismatch, match="table_uuid") as caught:
        update_index(SPEC, room)
    assert caught.value.next_step == "lakeflow index build docs"
    assert nearest(room, X) == [1]
    assert build_index(SPEC, room).rebuilt == "it was asked for"
    assert nearest(room, X) == [2]


@pytest.mark.parametrize(
    ("change", "field_name"),
    [({"metric": "l2"}, "metric"), ({"key": "text"}, "key"), ({"model": "embed"}, "model")],
)
def test_an_index_declared_otherwise_is_refused_until_it_is_built_anew(
    world: World, room: MemoryRoom, change: dict[str, Any], field_name: str
) -> None:
    world.append(rows((1, "a", X)), TABLE)
    update_index(SPEC, room)
    other = replace(SPEC, **change)
    with pytest.raises(IndexMismatch, match=f"{field_name} is "):
        update_index(other, room)


def test_another_model_of_the_same_name_is_refused(world: World, room: MemoryRoom) -> None:
    world.append(rows((1, "a", [1.0] * VECTOR_WIDTH)), TABLE)
    update_index(WITH_MODEL, room)
    changed = replace(room, models=models(pooling="max"))
    world.append(rows((2, "b", [1.0] * VECTOR_WIDTH)), TABLE)
    with pytest.raises(IndexMismatch, match="model_fingerprint is"):
        update_index(WITH_MODEL, changed)
    with pytest.raises(IndexMismatch, match="holds vectors of model 'embed'") as caught:
        open_search(WITH_MODEL, changed, Query(1), by_text=True)
    assert "lakeflow index build docs" in (caught.value.next_step or "")


def test_a_vector_of_another_width_is_refused(world: World, room: MemoryRoom) -> None:
    world.append(rows((1, "a", X)), TABLE)
    update_index(SPEC, room)
    world.append(rows((2, "b", [1.0, 2.0, 3.0])), TABLE)
    with pytest.raises(SchemaMismatch):
        update_index(SPEC, room)
    assert nearest(room, X) == [1]


def test_the_width_is_that_of_the_first_vector_there_is(world: World, room: MemoryRoom) -> None:
    world.append(rows((1, "a", None)), TABLE)
    world.append(rows((2, "b", None), (3, "c", Z)), TABLE)
    done = update_index(SPEC, room)
    assert (done.counts.inserted, done.counts.without_vector) == (1, 2)
    state = index_state(SPEC, room)
    assert state is not None
    assert state.identity.width == 2


@pytest.mark.parametrize("content", [rows(), rows((1, "a", None))])
def test_a_table_without_a_vector_builds_nothing_and_says_so(world: World, room: MemoryRoom, content: pa.Table) -> None:
    world.append(content, TABLE)
    done = update_index(SPEC, room)
    assert (done.counts, done.end) == (UpsertCounts(), None)
    assert done.rebuilt == f"it was not there yet, but {TABLE} holds no vector yet"
    assert index_state(SPEC, room) is None


def test_a_table_that_holds_nothing_at_all_builds_nothing(world: World, room: MemoryRoom) -> None:
    world.lake.ensure(TableSpec(TABLE, SCHEMA))
    assert update_index(SPEC, room).end is None


def test_a_rebuild_that_dies_leaves_the_index_as_it_was(world: World, room: MemoryRoom) -> None:
    world.append(rows((1, "a", X)), TABLE)
    first = update_index(SPEC, room)
    world.append(rows((2, "b", Y)), TABLE)

    def dies(count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(SPEC, room, on_rows=dies)
    assert nearest(room, X) == [1]
    state = index_state(SPEC, room)
    assert state is not None
    assert state.position == first.end


@pytest.mark.parametrize(
    ("spec", "column"),
    [(replace(SPEC, column="vec"), "vec"), (replace(SPEC, key="idd"), "idd"), (replace(SPEC, columns=("x",)), "x")],
)
def test_a_column_that_is_not_there_is_refused(world: World, room: MemoryRoom, spec: IndexSpec, column: str) -> None:
    world.append(rows((1, "a", X)), TABLE)
    with pytest.raises(UnknownName, match=f"unknown column of {TABLE} {column!r}"):
        update_index(spec, room)


def test_a_column_that_holds_no_vectors_is_refused(world: World, room: MemoryRoom) -> None:
    world.append(rows((1, "a", X)), TABLE)
    with pytest.raises(SchemaMismatch, match=r"column 'text' of gold.embedded is .*; an index needs a list of floats"):
        update_index(replace(SPEC, column="text"), room)


def test_only_the_columns_that_are_kept_are_read(world: World, room: MemoryRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    original = read

    def reading(table: Any, splits: Any, columns: Any = None) -> Any:
        asked.append(columns)
        return original(table, splits, columns)

    monkeypatch.setattr(indexing, "read", reading)
    world.append(rows((1, "a", X)), TABLE)
    update_index(replace(SPEC, columns=("id",)), room)
    assert asked == [["vector"], ["id", "vector"]]


def test_a_table_that_is_not_there_is_named(room: MemoryRoom) -> None:
    with pytest.raises(UnknownName, match=f"unknown table '{TABLE}'"):
        update_index(SPEC, room)


# Search by text


def embedded(room: IndexRoom, *texts: str) -> pa.Table:
    answers = room.models.get("embed").predict(pa.RecordBatch.from_pydict({"text": list(texts)}))
    return rows(*((place, text, answers.column(0)[place].as_py()) for place, text in enumerate(texts)))


@pytest.fixture(params=["memory", "lance"])
def any_room(request: pytest.FixtureRequest, room: MemoryRoom) -> IndexRoom:
    if request.param == "memory":
        return room
    real = IndexRoom(room.lake, room.models, room.place, {}, room.caps)
    assert isinstance(real.open(SPEC), LanceIndex)
    return real


def by_text(room: IndexRoom, texts: list[str], query: Query) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = open_search(WITH_MODEL, room, query, by_text=True).search(texts).to_pylist()
    return found


def test_a_text_finds_the_row_whose_vector_its_model_makes(world: World, any_room: IndexRoom) -> None:
    world.append(embedded(any_room, "delay", "weather", "carrier"), TABLE)
    update_index(WITH_MODEL, any_room)
    found = by_text(any_room, ["weather", "delay"], Query(1, columns=("id", "text")))
    assert [(row["query_index"], row["text"]) for row in found] == [(0, "weather"), (1, "delay")]
    assert found[0]["score"] == pytest.approx(1.0, abs=1e-5)
    [only] = by_text(any_room, ["weather"], Query(3, where="id = 2"))
    assert only["text"] == "carrier"
    world.append(rows((0, "again", None), (7, "late", [1.0] * VECTOR_WIDTH)), TABLE)
    assert update_index(WITH_MODEL, any_room).counts == UpsertCounts(read=2, inserted=1, without_vector=1, removed=1)


def test_an_index_without_a_model_has_no_search_by_text(world: World, room: MemoryRoom) -> None:
    world.append(rows((1, "a", X)), TABLE)
    update_index(SPEC, room)
    with pytest.raises(DeclarationError, match=r"tables/docs.sql:5: index 'docs' names no model"):
        open_search(SPEC, room, Query(1), by_text=True)


def test_searching_an_index_that_was_never_built_is_refused(room: MemoryRoom) -> None:
    with pytest.raises(UnknownName, match="docs"):
        open_search(WITH_MODEL, room, Query(1), by_text=True)


def test_a_position_is_of_the_table_that_it_was_read_from(world: World, room: MemoryRoom) -> None:
    world.append(rows((1, "a", X)), TABLE)
    done = update_index(SPEC, room)
    assert isinstance(done.end, SnapshotPosition)
    assert done.end.table_uuid == str(world.table(TABLE).metadata.table_uuid)
