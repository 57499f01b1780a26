# mypy: allow-untyped-defs, allow-untyped-calls, no-warn-return-any
"""Jobs that search an index: what they come behind, and as of what they say that they searched it."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import lakeflow as lf
from lakeflow.declare import IndexSpec
from lakeflow.errors import DeclarationError
from lakeflow.index.query import Query
from lakeflow.index.vectors import VectorIndex
from lakeflow.job import Caps, Job
from lakeflow.models.registry import ModelSet
from lakeflow.models.spec import ModelSpec, Task
from lakeflow.runner.execute import Runtime, run_job
from lakeflow.runner.graph import nodes_of, ordered
from lakeflow.runner.indexing import IndexRoom, update_index
from lakeflow.runner.plan import Request, plan_job
from lakeflow.runner.searched import positions, unbuilt
from lakeflow.runner.searching import open_search
from lakeflow.runner.sql_body import Queries
from lakeflow.runner.sql_functions import functions_for
from lakeflow.runner.sql_jobs import jobs_of
from lakeflow.runner.sql_names import ProjectNames
from lakeflow.runner.uses import indexes_named, models_used
from lakeflow.runner.vector_search import Searches
from lakeflow.sql.parse import parse_jobs
from lakeflow.testing.index import MemoryIndex
from lakeflow.testing.provider import EchoProvider
from tests.jobs import World

TABLE = "gold.docs"
SPEC = IndexSpec("docs", TABLE, "vec", "id", options={"text_columns": "text", "language": "none"}, model="embed")
OTHER = IndexSpec("others", "gold.others", "vec", "id")
INDEXES = {"docs": SPEC, "others": OTHER}
EMBED = ModelSpec(
    "embed", "echo", Task.EMBEDDING, pa.schema([("text", pa.string())]), pa.schema([("out", pa.list_(pa.float32(), 2))])
)
SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string()), ("vec", pa.list_(pa.float32()))])
QUERY = """
INSERT INTO gold.found
SELECT q.n, d.id, d.index_snapshot_id
FROM bronze.questions AS q
CROSS JOIN LATERAL TABLE(VECTOR_SEARCH(TABLE gold.docs, DESCRIPTOR(VEC), q.q, 2,
  MAP['mode', 'hybrid', 'rerank', 'judge', 'output_columns', 'id,index_snapshot_id'])) AS d;
"""
UNRANKED = QUERY.replace(" 'rerank', 'judge',", "").replace("(VEC)", "(vec)")


@lf.job(target="gold.found")
def found(questions: Any = lf.Read("bronze.questions")) -> Any:
    hits = lf.vector_search(questions, "docs", "q", 2, mode="hybrid", columns=["id", "index_snapshot_id"])
    return hits.select("n", "id", "index_snapshot_id")


@lf.job(target=TABLE)
def written(rows: Any = lf.Read("bronze.rows")) -> Any:
    return lf.vector_search(rows, "docs", "text", 1, columns=[])


@lf.job(target="bronze.rows")
def in_a_circle(rows: Any = lf.Read("bronze.questions")) -> Any:
    return lf.vector_search(rows, "docs", "text", 1, columns=[])


@lf.job(target="gold.words")
def only_a_word(rows: Any = lf.Read("bronze.rows")) -> Any:
    return rows.with_columns(kind="docs")


def a_query(text: str = QUERY) -> Job:
    [made] = jobs_of(parse_jobs(text, Path("jobs/found.sql")), Path("jobs/found.sql"), {})
    return made


def test_the_indexes_of_a_job_are_found_in_its_code_or_its_query() -> None:
    assert [spec.name for spec in indexes_named(found, INDEXES)] == ["docs"]
    assert indexes_named(only_a_word, INDEXES) == ()
    assert [spec.name for spec in indexes_named(a_query(), INDEXES)] == ["docs"]
    assert indexes_named(a_query(QUERY.replace("(VEC)", "(other)")), INDEXES) == ()
    quoted = QUERY.replace("DESCRIPTOR(VEC)", "'vec'")
    assert [spec.name for spec in indexes_named(a_query(quoted), INDEXES)] == ["docs"]


def test_models_count_that_an_index_or_its_ranking_asks() -> None:
    models = ["embed", "judge", "hybrid$", "other"]
    assert models_used(found, models, INDEXES) == ("embed",)
    assert models_used(a_query(), models, INDEXES) == ("embed", "judge")
    assert models_used(found, ["other"], INDEXES) == ()
    assert models_used(only_a_word, models, INDEXES) == ()


@pytest.mark.parametrize("job", [found, a_query()])
def test_a_job_comes_behind_the_index_that_it_searches(job: Job) -> None:
    early = replace(job, name="a")
    writes = replace(only_a_word, target=TABLE, name="z")
    order = ordered(nodes_of([early, writes], [SPEC, OTHER]))
    assert [node.name for node in order] == ["others", "z", "docs", "a"]
    assert order[-1].searches == ("docs",)


def test_an_index_over_the_jobs_own_target_comes_behind_it() -> None:
    assert [node.name for node in ordered(nodes_of([written], [SPEC]))] == ["written", "docs"]


def test_a_longer_circle_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"cycle: .*docs.* nor search an index of it"):
        ordered(nodes_of([replace(only_a_word, target=TABLE), in_a_circle], [SPEC]))


class MemoryRoom(IndexRoom):
    opened: MemoryIndex

    def open(self, spec: IndexSpec) -> VectorIndex:
        return self.opened


@pytest.fixture
def room(world: World) -> IndexRoom:
    world.models = ModelSet([EMBED], EchoProvider)
    made = MemoryRoom(world.lake, world.models, "", {}, Caps())
    object.__setattr__(made, "opened", MemoryIndex(SPEC))
    world.append(pa.table({"n": [1, 2], "q": ["sort", "file"]}), "bronze.questions")
    append(world, 1, "sort a list")
    return made


def append(world: World, key: int, text: str) -> int:
    return world.append(pa.Table.from_pylist([{"id": key, "text": text, "vec": [1.0, float(key)]}], schema=SCHEMA), TABLE)


def runtime_of(world: World, room: IndexRoom) -> Runtime:
    queries = Queries(lambda compiled, lost: functions_for(compiled, world.models, room, [SPEC], lost), 256 << 20)
    return replace(world.runtime(), queries=queries, searches=Searches(lambda: room, lambda: {"docs": SPEC}))


class Indexed(World):
    """What a query may name, with the index among it."""

    @property
    def declared_tables(self) -> Any:
        return replace(super().declared_tables, indexes={"docs": SPEC})


def run(world: World, room: IndexRoom, job: Job) -> dict[str, str]:
    """One run; what the last commit says of itself."""
    names = ProjectNames(Indexed(world.lake, world.models))
    runtime = runtime_of(world, room)
    plan = plan_job(job, Request(), world.lake, runtime.commits, world.caps, names)
    deque(run_job(plan, runtime), maxlen=1)
    summary = world.table("gold.found").metadata.current_snapshot().summary  # type: ignore[union-attr]
    assert summary is not None
    return dict(summary.additional_properties)


@pytest.mark.parametrize("job", [found, a_query(UNRANKED)], ids=["python", "sql"])
def test_commits_and_rows_say_as_of_what_the_index_was_searched(world: World, room: IndexRoom, job: Job) -> None:
    update_index(SPEC, room)
    first, version = (room.open(SPEC).state().position, room.open(SPEC).state().version)
    assert first is not None
    facts = run(world, room, job)
    assert facts["lakeflow.index.docs"] == f"{first.snapshot_id} {version}"
    assert facts["lakeflow.job-models"] == "embed$1"

    second = append(world, 2, "read a file")
    world.append(pa.table({"n": [3], "q": ["file"]}), "bronze.questions")
    behind = run(world, room, job)
    assert behind["lakeflow.index.docs"] == facts["lakeflow.index.docs"], "the index has not read the new row yet"
    update_index(SPEC, room)
    world.append(pa.table({"n": [4], "q": ["file"]}), "bronze.questions")
    later = run(world, room, job)
    assert later["lakeflow.index.docs"].split()[0] == str(second)
    assert later["lakeflow.index.docs"].split()[1] != version
    rows = world.rows("gold.found")
    assert {row[2] for row in rows if row[0] < 4} == {first.snapshot_id}
    assert {row[2] for row in rows if row[0] == 4} == {second}
    assert {row[1] for row in rows if row[0] == 4} == {1, 2}


def test_what_waits_for_an_index_is_told(world: World, room: IndexRoom) -> None:
    [node] = [one for one in nodes_of([found], [SPEC]) if one.name == "found"]
    assert unbuilt(node, INDEXES, room) == ["index docs"]
    assert positions(found, {"docs": SPEC}, room) == {"docs": None}
    update_index(SPEC, room)
    assert unbuilt(node, INDEXES, room) == []
    assert positions(found, {"docs": SPEC}, room)["docs"] is not None


def test_an_index_with_a_column_of_that_name_gives_its_own(world: World, room: IndexRoom) -> None:
    schema = SCHEMA.append(pa.field("index_snapshot_id", pa.string()))
    rows = [{"id": 1, "text": "a", "vec": [1.0, 0.0], "index_snapshot_id": "mine"}]
    spec = replace(SPEC, table="gold.named")
    world.append(pa.Table.from_pylist(rows, schema=schema), "gold.named")
    update_index(spec, room)
    hits = open_search(spec, room, Query(1, columns=("index_snapshot_id",)), by_text=True).search(["a"])
    assert hits.column("index_snapshot_id").to_pylist() == ["mine"]
