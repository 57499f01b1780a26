"""Columns planned before the files that need them: what the table will be, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow.declare import PartitionField
from lakeflow.errors import SchemaMismatch
from lakeflow.lake.catalog import Lake, arrow_schema
from lakeflow.lake.evolution import evolve
from lakeflow.lake.schema import storable
from lakeflow.lake.schema_change import PlannedSchema, plan_schema
from tests.lakes import NAME, made, open_lake, rest_like

LONG = pa.int64()


@pytest.fixture(params=["sql", "rest"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    lake = open_lake(tmp_path)
    return lake if request.param == "sql" else rest_like(lake)


def planned(lake: Lake, incoming: pa.Schema) -> PlannedSchema:
    table = lake.table(NAME)
    found = evolve(arrow_schema(table), incoming, NAME)
    assert found is not None
    plan = plan_schema(table, found.schema)
    assert storable(arrow_schema(plan.table), NAME) == found.schema
    return plan


NESTED = pa.schema(
    [
        pa.field("id", pa.int32(), nullable=False),
        ("s", pa.struct([pa.field("x", pa.float32(), nullable=False)])),
        ("l", pa.list_(pa.field("element", pa.struct([("x", pa.decimal128(5, 2))]), nullable=False))),
        ("m", pa.map_(pa.string(), pa.field("value", pa.struct([("x", LONG)]), nullable=False))),
    ]
)
WIDER = pa.schema(
    [
        ("m", pa.map_(pa.string(), pa.struct([("y", pa.list_(pa.struct([("z", LONG)]))), ("x", LONG)]))),
        ("l", pa.list_(pa.struct([("y", pa.string()), ("x", pa.decimal128(9, 2))]))),
        ("s", pa.struct([("x", pa.float64()), ("y", LONG)])),
        ("id", LONG),
        ("new", pa.struct([("a", pa.map_(pa.string(), LONG))])),
    ]
)


def test_every_change_at_every_depth_becomes_one_of_the_table(lake: Lake) -> None:
    made(lake, NESTED)
    before = lake.table(NAME).metadata
    plan = planned(lake, WIDER)
    assert lake.table(NAME).metadata == before
    assert (plan.change.start, plan.change.end, plan.change.last_field) == (0, 1, before.last_column_id)
    ids_before = {before.schema().find_column_name(number): number for number in before.schema().field_ids}
    after = plan.table.schema()
    assert {name: after.find_field(str(name)).field_id for name in ids_before} == ids_before
    new = after.field_ids - set(ids_before.values())
    assert min(new) == before.last_column_id + 1


def test_field_ids_of_a_dropped_column_are_not_given_again(lake: Lake) -> None:
    made(lake, pa.schema([("a", LONG), ("b", LONG)]))
    with lake.table(NAME).update_schema() as update:
        update.delete_column("b")
    plan = planned(lake, pa.schema([("b", pa.string())]))
    assert plan.table.schema().find_field("b").field_id == 3


def test_requirements_name_the_schema_and_the_highest_field_id(lake: Lake) -> None:
    made(lake)
    plan = planned(lake, pa.schema([("new", LONG)]))
    found = {requirement.type for requirement in plan.change.layout.requirements}
    assert found == {"assert-table-uuid", "assert-current-schema-id", "assert-last-assigned-field-id"}


def test_a_column_named_as_a_partition_is_refused(lake: Lake) -> None:
    made(lake, pa.schema([("ts", pa.timestamp("us"))]), [PartitionField("ts", "day")])
    with pytest.raises(SchemaMismatch, match="ts_day"):
        planned(lake, pa.schema([("ts_day", LONG)]))


def test_a_key_of_the_table_stays_required(lake: Lake) -> None:
    made(lake, pa.schema([pa.field("id", LONG, nullable=False)]))
    with lake.table(NAME).update_schema() as update:
        update.set_identifier_fields("id")
    with pytest.raises(SchemaMismatch, match="dentifier"):
        planned(lake, pa.schema([("id", LONG)]))


def test_dots_in_names_are_right(lake: Lake) -> None:
    made(lake, pa.schema([("a.b", LONG), ("s", pa.struct([("x.y", pa.int32())]))]))
    plan = planned(lake, pa.schema([("a.b", LONG), ("s", pa.struct([("x.y", LONG)])), ("c.d", LONG)]))
    assert [field.name for field in plan.table.schema().fields] == ["a.b", "s", "c.d"]


def test_a_column_named_as_the_path_of_a_field_is_refused(lake: Lake) -> None:
    made(lake, pa.schema([("s", pa.struct([("x", LONG)]))]))
    with pytest.raises(SchemaMismatch, match=r"s\.x"):
        planned(lake, pa.schema([("s.x", LONG)]))
