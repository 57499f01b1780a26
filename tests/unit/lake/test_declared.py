"""A declaration that changed: what its table becomes, and what is refused."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog
from pyiceberg.table import CommitTableResponse
from pyiceberg.types import StringType

from lakeflow.declare import PartitionField, TableSpec
from lakeflow.errors import CommitConflict, SchemaMismatch
from lakeflow.lake.catalog import ALTER_BACKOFF, Lake, arrow_schema
from lakeflow.lake.read import read, snapshot_at, splits_at
from lakeflow.lake.schema import storable
from tests.commit_systems import FaultyCatalog, lost_answer
from tests.independent_reader import read_table
from tests.lakes import NAME, append, live_paths, open_lake, path_of, rest_like

LONG, TEXT = pa.int64(), pa.string()
AT = pa.timestamp("us")


@pytest.fixture(params=["sql", "rest"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    lake = open_lake(tmp_path)
    return lake if request.param == "sql" else rest_like(lake)


def spec(*columns: tuple[str, pa.DataType] | pa.Field, parts: Sequence[PartitionField] = ()) -> TableSpec:
    return TableSpec(NAME, pa.schema(list(columns)), partitioning=tuple(parts))


def shown(lake: Lake) -> list[dict[str, Any]]:
    table = lake.table(NAME)
    return [row for batch in read(table, splits_at(table, snapshot_at(table))) for row in batch.to_pylist()]


def transforms(lake: Lake) -> list[str]:
    return [f"{field.name}={field.transform}" for field in lake.table(NAME).spec().fields]


def test_a_changed_declaration_is_refused_unless_it_may_evolve(lake: Lake) -> None:
    lake.ensure(spec(("id", pa.int32())))
    with pytest.raises(SchemaMismatch, match="id: declared int64, in the table int32"):
        lake.ensure(spec(("id", LONG)))
    assert lake.ensure(spec(("id", LONG)), evolve=True).schema().find_type("id").is_primitive
    assert storable(arrow_schema(lake.table(NAME)), NAME).field("id").type == LONG


def test_the_table_becomes_what_is_declared_in_one_commit_and_says_so(lake: Lake, caplog: pytest.LogCaptureFixture) -> None:
    before = spec(("id", pa.int32()), ("s", pa.struct([("x", LONG)])))
    after = spec(
        ("s", pa.struct([("y", TEXT), ("x", LONG)])), ("new", TEXT), ("id", LONG), parts=[PartitionField("id", "bucket", 4)]
    )
    lake.ensure(before, evolve=True)
    append(lake, pa.table({"id": [1], "s": [{"x": 1}]}))
    head = lake.table(NAME).metadata.current_snapshot_id
    with caplog.at_level(logging.INFO, "lakeflow.lake"):
        lake.ensure(after, evolve=True)
    assert [record.message for record in caplog.records] == [
        f"table {NAME}: column id: int32 -> int64",
        f"table {NAME}: column s.y: added, string",
        f"table {NAME}: column new: added, string",
        f"table {NAME}: partitioning: none -> bucket[4](id), for files to come",
    ]
    table = lake.table(NAME)
    assert table.metadata.current_snapshot_id == head
    append(lake, pa.table({"id": [2**40], "new": ["n"], "s": [{"x": 2, "y": "y"}]}))
    assert shown(lake) == [
        {"id": 1, "s": {"x": 1, "y": None}, "new": None},
        {"id": 2**40, "s": {"x": 2, "y": "y"}, "new": "n"},
    ]
    caplog.clear()
    with caplog.at_level(logging.INFO, "lakeflow.lake"):
        location = lake.ensure(after, evolve=True).metadata_location
    assert (caplog.records, lake.table(NAME).metadata_location) == ([], location)
    lake.ensure(after, evolve=True)


LEFT_OVER = [
    ([("id", LONG), ("gone", TEXT)], [("id", LONG)], "gone: declared nothing, in the table string"),
    ([("id", LONG)], [("id", pa.int32())], "id: declared int32, in the table int64"),
    ([("id", LONG)], [pa.field("id", LONG, nullable=False)], "id: declared int64 NOT NULL, in the table int64"),
    ([("id", LONG)], [("id", LONG), pa.field("n", LONG, nullable=False)], "n: declared int64 NOT NULL, in the table nothing"),
    (
        [("s", pa.struct([("x", LONG), ("y", LONG)]))],
        [("s", pa.struct([("x", LONG)]))],
        r"declared struct<x: int64>, in the table",
    ),
    ([("id", LONG)], [("id", TEXT)], r"id: declared string, in the table int64\n.*cannot evolve"),
    ([("id", LONG)], [("ID", LONG)], r"ID: declared int64, in the table nothing"),
]


@pytest.mark.parametrize(("before", "after", "said"), LEFT_OVER)
def test_what_no_evolution_leads_to_is_shown_with_both_sides(
    lake: Lake, before: list[Any], after: list[Any], said: str
) -> None:
    location = lake.ensure(spec(*before)).metadata_location
    with pytest.raises(SchemaMismatch, match=said):
        lake.ensure(spec(*after), evolve=True)
    assert lake.table(NAME).metadata_location == location


@pytest.mark.parametrize(("before", "after"), [case[:2] for case in LEFT_OVER[:3]])
def test_a_table_may_be_wider_than_declared_where_that_is_said(lake: Lake, before: list[Any], after: list[Any]) -> None:
    location = lake.ensure(spec(*before)).metadata_location
    assert lake.ensure(spec(*after), evolve=True, wider=True).metadata_location == location


def test_a_wider_table_lets_go_of_what_rows_come_without(lake: Lake) -> None:
    lake.ensure(spec(("id", LONG), pa.field("gone", TEXT, nullable=False)))
    lake.ensure(spec(("id", LONG), ("new", TEXT)), evolve=True, wider=True)
    assert storable(arrow_schema(lake.table(NAME)), NAME) == pa.schema([("id", LONG), ("gone", TEXT), ("new", TEXT)])


ROWS = pa.table({"id": [1, 2, 3], "at": pa.array([0, 3_600_000_000, 90_000_000_000], AT)})
COLUMNS = (("id", LONG), ("at", AT))
PARTITIONINGS = [
    ([PartitionField("at", "day")], ["at_day=day"]),
    ([PartitionField("at", "hour"), PartitionField("id", "bucket", 4)], ["at_hour=hour", "id_bucket=bucket[4]"]),
    ([PartitionField("id", "bucket", 8)], ["id_bucket_8=bucket[8]"]),
    ([], []),
    ([PartitionField("id"), PartitionField("at", "day")], ["id=identity", "at_day=day"]),
    ([PartitionField("id", "bucket", 4)], ["id_bucket=bucket[4]"]),
    ([PartitionField("id", "bucket", 8)], ["id_bucket_8=bucket[8]"]),
    ([PartitionField("id", "truncate", 2)], ["id_trunc=truncate[2]"]),
]


def test_partitioning_follows_the_declaration_and_every_file_stays_readable(lake: Lake, tmp_path: Path) -> None:
    lake.ensure(spec(*COLUMNS))
    append(lake, ROWS)
    for turn, (parts, expected) in enumerate(PARTITIONINGS, 2):
        lake.ensure(spec(*COLUMNS, parts=parts), evolve=True)
        assert sorted(transforms(lake)) == sorted(expected)
        append(lake, ROWS)
        assert sorted(row["id"] for row in shown(lake)) == sorted([1, 2, 3] * turn)
        assert read_table(tmp_path / "catalog.db", NAME).rows().num_rows == 3 * turn
        assert lake.table(NAME).scan(row_filter="id = 2").to_arrow().num_rows == turn
        lake.ensure(spec(*COLUMNS, parts=list(reversed(parts))), evolve=True)
        lake.ensure(spec(*COLUMNS, parts=parts))
    names = {name for path in live_paths(lake.table(NAME)) for name in path_of(path).parts if "=" in name}
    assert {name.partition("=")[0] for name in names} == {"at_day", "at_hour", "id", "id_bucket", "id_bucket_8", "id_trunc"}


def test_a_partition_field_gets_its_name_back_and_not_that_of_another_column(lake: Lake) -> None:
    columns = (("a", LONG), ("b", LONG))
    for column in ("b", "a", "b"):
        lake.ensure(spec(*columns, parts=[PartitionField(column, "bucket", 4)]), evolve=True)
        assert transforms(lake) == [f"{column}_bucket=bucket[4]"]
    assert len(lake.table(NAME).specs()) == 3


def test_a_partition_named_as_a_column_is_refused(lake: Lake) -> None:
    lake.ensure(spec(("at", AT), ("at_day", LONG)))
    with pytest.raises(SchemaMismatch, match=r"cannot become what .* declares: .*at_day"):
        lake.ensure(spec(("at", AT), ("at_day", LONG), parts=[PartitionField("at", "day")]), evolve=True)


def test_a_table_of_version_1_with_a_void_field_is_altered_and_written_as_long_as_its_column_is_there(lake: Lake) -> None:
    lake.ensure(spec(("a", TEXT), *COLUMNS, parts=[PartitionField("a")]), {"format-version": "1"})
    with lake.table(NAME).update_spec() as update:
        update.remove_field("a")
    lake.ensure(spec(("a", TEXT), *COLUMNS))
    with lake.table(NAME).transaction() as transaction:
        transaction.upgrade_table_version(2)
    append(lake, ROWS.append_column("a", pa.array(["x"] * 3)))
    lake.ensure(spec(("a", TEXT), *COLUMNS, parts=[PartitionField("at", "day")]), evolve=True)
    append(lake, ROWS.append_column("a", pa.array(["y"] * 3)))
    assert sorted(row["a"] for row in shown(lake)) == ["x"] * 3 + ["y"] * 3
    with lake.table(NAME).update_schema() as update:
        update.delete_column("a")
    with pytest.raises(SchemaMismatch, match=r"partitioned by Void.*\(a\), which cannot be written: .*dropped"):
        append(lake, ROWS)


def faulty(lake: Lake) -> tuple[Lake, FaultyCatalog]:
    catalog = FaultyCatalog(lake.catalog)
    return Lake(cast(Catalog, catalog)), catalog


def test_a_lost_answer_alters_once(lake: Lake) -> None:
    lake.ensure(spec(("id", LONG)))
    slow, catalog = faulty(lake)
    catalog.faults.append(lost_answer)
    slow.ensure(spec(("id", LONG), ("new", TEXT)), evolve=True)
    assert lake.table(NAME).metadata.current_schema_id == 1


def rival(lake: Lake, column: str) -> Callable[[Callable[[], CommitTableResponse]], CommitTableResponse]:
    def race(send: Callable[[], CommitTableResponse]) -> CommitTableResponse:
        with lake.table(NAME).update_schema() as update:
            update.add_column(column, StringType())
        return send()

    return race


def test_two_that_alter_at_once_agree(lake: Lake) -> None:
    lake.ensure(spec(("id", LONG)))
    slow, catalog = faulty(lake)
    catalog.faults.append(rival(lake, "new"))
    assert [f.name for f in slow.ensure(spec(("id", LONG), ("new", TEXT)), evolve=True).schema().fields] == ["id", "new"]


def test_a_table_that_never_holds_still_is_given_up(lake: Lake) -> None:
    lake.ensure(spec(("id", LONG)))
    slow, catalog = faulty(lake)
    catalog.faults.extend(rival(lake, f"x{turn}") for turn in range(ALTER_BACKOFF.attempts))
    with pytest.raises(CommitConflict):
        slow.ensure(spec(("id", LONG), ("new", TEXT)), evolve=True, wider=True)
