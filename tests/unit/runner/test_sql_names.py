from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.types import StringType

from lakeflow.declare import IndexSpec, TableSpec
from lakeflow.errors import UnknownName, UsageError
from lakeflow.lake.catalog import Lake
from lakeflow.models.registry import ModelSet
from lakeflow.models.spec import ModelSpec, Task
from lakeflow.runner.sql_names import ProjectNames
from lakeflow.sql.compile import compile_query
from lakeflow.sql.compiled import AtRef, AtSnapshot, AtStart, AtTime, Compiled, Moment, TableRead
from lakeflow.sql.execute import run_compiled
from lakeflow.testing.provider import EchoProvider
from tests.jobs import World

TABLE = "gold.days"
EMBED = ModelSpec("embed", "echo", Task.EMBEDDING, pa.schema([("t", pa.string())]), pa.schema([("v", pa.list_(pa.float32()))]))
SKIPPING = ModelSpec(
    "skipping",
    "echo",
    Task.REGRESSION,
    pa.schema([("n", pa.int64())]),
    pa.schema([("y", pa.float64())]),
    options={"on_error": "skip"},
)


@dataclass
class Parts:
    """The parts of a project that have names."""

    lake: Lake
    models: ModelSet = field(default_factory=lambda: ModelSet([EMBED, SKIPPING], EchoProvider))
    declared_tables: Any = field(default_factory=lambda: SimpleNamespace(tables={}, indexes={}))


@pytest.fixture
def parts(world: World) -> Parts:
    return Parts(world.lake)


def days(*numbers: int) -> pa.Table:
    return pa.table({"day": pa.array(numbers, pa.int64())})


def rows(parts: Parts, at: Moment | None, order: str = "1") -> list[tuple[Any, ...]]:
    names = ProjectNames(parts)
    schema = names.table(TABLE, at)
    compiled = Compiled("", f"SELECT * FROM seen.days ORDER BY {order}", (TableRead(TABLE, "seen.days", at),))
    found = run_compiled(compiled, names.relations(compiled), ()).read_all()
    assert found.column_names == schema.names
    return [tuple(row.values()) for row in found.to_pylist()]


def test_a_table_as_it_was(world: World, parts: Parts) -> None:
    first = world.append(days(1), TABLE)
    table = world.table(TABLE)
    table.manage_snapshots().create_tag(first, "first").create_branch(first, "side").commit()
    with world.table(TABLE).update_schema() as update:
        update.add_column("note", StringType())
        update.rename_column("day", "d")
    world.append(pa.table({"d": pa.array([2], pa.int64()), "note": ["b"]}), TABLE)
    made = world.table(TABLE).snapshot_by_id(first)
    assert made is not None
    assert rows(parts, None) == rows(parts, AtStart()) == [(1, None), (2, "b")]
    assert rows(parts, AtSnapshot(first)) == [(1,)], "with the columns of then"
    assert ProjectNames(parts).table(TABLE, AtSnapshot(first)).names == ["day"]
    assert rows(parts, AtTime(made.timestamp_ms * 1000 + 999)) == [(1,)]
    assert rows(parts, AtRef("first")) == [(1,)]
    assert rows(parts, AtRef("side")) == [(1, None)], "a branch goes on, with the columns of now"


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (AtSnapshot(7), "unknown snapshot of gold.days '7'"),
        (AtRef("frist"), r"unknown branch or tag of gold.days 'frist'.*did you mean 'first'"),
        (AtTime(0), "has no snapshot as old as 1970-01-01"),
    ],
)
def test_moments_that_are_none(world: World, parts: Parts, at: Moment, message: str) -> None:
    first = world.append(days(1), TABLE)
    world.table(TABLE).manage_snapshots().create_tag(first, "first").commit()
    with pytest.raises(UsageError, match=message):
        ProjectNames(parts).table(TABLE, at)


def test_a_table_without_a_snapshot_is_empty_at_any_time(world: World, parts: Parts) -> None:
    world.lake.ensure(TableSpec(TABLE, days().schema))
    assert rows(parts, None) == rows(parts, AtTime(10**15)) == []


def test_a_query_reads_one_snapshot_of_a_table_that_it_names_twice(world: World, parts: Parts) -> None:
    world.append(days(1), TABLE)
    names = ProjectNames(parts)
    compiled = compile_query("SELECT (SELECT count(*) FROM gold.days) AS a, (SELECT max(day) FROM gold.days) AS b", names)
    world.append(days(2), TABLE)
    assert run_compiled(compiled, names.relations(compiled), ()).read_all().to_pylist() == [{"a": 1, "b": 1}]


def test_tables_that_are_not_there(parts: Parts) -> None:
    parts.declared_tables.tables["gold.waiting"] = TableSpec("gold.waiting", days().schema)
    parts.declared_tables.tables["bronze.waiting"] = TableSpec("bronze.waiting", days().schema, {"connector": "kafka"})
    names = ProjectNames(parts)
    with pytest.raises(UnknownName, match=r"unknown table 'gold.other'"):
        names.table("gold.other", None)
    with pytest.raises(UnknownName, match="unknown table 'days'"):
        names.table("days", None)
    with pytest.raises(UnknownName) as caught:
        names.table("gold.waiting", None)
    assert "it is declared and holds nothing yet: lakeflow run JOB; lakeflow jobs graph shows which" in str(caught.value)
    with pytest.raises(UnknownName, match=r"it is declared and holds nothing yet: lakeflow land bronze\.waiting"):
        names.table("bronze.waiting", None)


def test_models_by_name_and_version(parts: Parts) -> None:
    names = ProjectNames(parts)
    found = names.model("embed")
    assert (found.name, found.task, found.input, found.output, found.loses_rows) == (
        "embed",
        "embedding",
        EMBED.input,
        EMBED.output,
        False,
    )
    assert names.model("skipping").loses_rows
    with pytest.raises(UnknownName, match=r"unknown model 'embde'.*did you mean 'embed'"):
        names.model("embde")
    with pytest.raises(UnknownName, match="unknown version of model 'embed' '7'"):
        names.model("embed$7")
    assert names.model("embed$all").input == EMBED.input
    with pytest.raises(UsageError, match=r"'embed\$x' names no version of a model; valid: m, m\$2, m\$all"):
        names.model("embed$x")
    with pytest.raises(UsageError, match=r"'embed\$all' stands for all versions, which only ML_EVALUATE takes"):
        compile_query("SELECT ML_EMBED(MODEL embed$all, 'x')", names)


def test_the_index_over_a_column_is_the_first_by_name(parts: Parts) -> None:
    for name in ("b", "a"):
        parts.declared_tables.indexes[name] = IndexSpec(name, "gold.docs", "vector", "id")
    names = ProjectNames(parts)
    found = names.index("gold.docs", "vector")
    assert found is not None
    assert found.name == "a"
    assert names.index("gold.docs", "other") is None


def test_nothing_is_opened_to_tell_names(parts: Parts, tmp_path: Path) -> None:
    class Strict(EchoProvider):
        def check(self) -> None:
            raise AssertionError("a model was opened")

    ProjectNames(Parts(parts.lake, ModelSet([EMBED], Strict))).model("embed")
