"""Files of Iceberg that are read once: a table is as it is now all the same, and whoever asks has his own."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.avro import file as avro_file
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.serializers import FromInputFile
from pyiceberg.utils.schema_conversion import AvroSchemaConversion

from lakeflow.declare import PartitionField, TableSpec
from lakeflow.lake import known
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.read import snapshot_at, splits_at
from lakeflow.lake.write import DataWriter

NAME = "bronze.t"
SPEC = TableSpec(NAME, pa.schema([("id", pa.int64())]))


@pytest.fixture
def properties(tmp_path: Path) -> dict[str, str]:
    return {"type": "sql", "uri": f"sqlite:///{tmp_path}/catalog.db", "warehouse": f"file://{tmp_path}/warehouse"}


@pytest.fixture
def files_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The metadata files that are read from now on."""
    read: list[str] = []
    reading = FromInputFile.table_metadata

    def counted(file, *rest):  # type: ignore[no-untyped-def]
        read.append(file.location)
        return reading(file, *rest)

    monkeypatch.setattr(FromInputFile, "table_metadata", staticmethod(counted))
    return read


def append(lake: Lake, *ids: int, spec: TableSpec = SPEC) -> None:
    writer = DataWriter(lake.table(spec.name))
    writer.write(pa.table({"id": ids}, schema=spec.schema))
    Committer(lake).commit(Change(spec.name, writer.finish()))


def rows(lake: Lake, name: str = NAME) -> int:
    table = lake.table(name)
    return sum(split.rows for split in splits_at(table, snapshot_at(table)))


def test_metadata_is_read_once_until_the_table_moves(properties: dict[str, str], files_read: list[str]) -> None:
    mine, other = Lake.open(properties), Lake.open(properties)
    mine.ensure(SPEC)
    files_read.clear()
    append(other, 1, 2)
    files_read.clear()
    assert [rows(mine) for _ in range(3)] == [2, 2, 2]
    assert mine.exists(NAME)
    assert len(files_read) == 1
    append(other, 3)  # another process
    assert rows(mine) == 3


def test_what_a_commit_wrote_is_what_the_file_says(properties: dict[str, str], files_read: list[str]) -> None:
    mine = Lake.open(properties)
    mine.ensure(SPEC)
    for number in range(4):
        append(mine, number)
    mine.ensure(TableSpec(NAME, SPEC.schema.append(pa.field("more", pa.string()))), evolve=True)
    files_read.clear()
    known_now = mine.table(NAME)
    assert files_read == []
    read = Lake.open(properties).table(NAME)
    assert (read.metadata_location, read.metadata) == (known_now.metadata_location, known_now.metadata)
    assert (read.schema(), known_now.io.properties) == (known_now.schema(), read.io.properties)


def test_a_commit_that_changes_the_settings_of_the_storage_is_read(properties: dict[str, str], files_read: list[str]) -> None:
    lake = Lake.open(properties)
    lake.ensure(SPEC)
    with lake.table(NAME).transaction() as change:
        change.set_properties({"s3.endpoint": "http://elsewhere"})
    files_read.clear()
    assert lake.table(NAME).io.properties["s3.endpoint"] == "http://elsewhere"
    assert len(files_read) == 1


def test_a_table_that_was_dropped_and_made_anew_is_seen(properties: dict[str, str]) -> None:
    mine, other = Lake.open(properties), Lake.open(properties)
    mine.ensure(SPEC)
    first = mine.table(NAME).metadata.table_uuid
    other.drop(NAME)
    assert not mine.exists(NAME)
    with pytest.raises(NoSuchTableError):
        mine.catalog.load_table(NAME)
    other.ensure(SPEC)
    assert mine.table(NAME).metadata.table_uuid != first


def test_a_table_that_was_read_stays_as_it_was(properties: dict[str, str]) -> None:
    lake = Lake.open(properties)
    lake.ensure(SPEC)
    before, again = lake.table(NAME), lake.table(NAME)
    append(lake, 1)
    again.refresh()
    assert (before.current_snapshot() is None, again.current_snapshot() is None) == (True, False)


def test_metadata_of_the_tables_asked_for_last_is_kept(
    properties: dict[str, str], monkeypatch: pytest.MonkeyPatch, files_read: list[str]
) -> None:
    monkeypatch.setattr(known, "MOST_TABLES", 2)
    lake = Lake.open(properties)
    names = [f"bronze.t{number}" for number in range(3)]
    for name in names:
        lake.ensure(TableSpec(name, SPEC.schema))
    files_read.clear()
    for name in (*names, *reversed(names)):
        lake.table(name)
    assert len(files_read) == 4


def test_metadata_is_kept_of_so_many_snapshots_in_all(
    properties: dict[str, str], monkeypatch: pytest.MonkeyPatch, files_read: list[str]
) -> None:
    monkeypatch.setattr(known, "MOST_SNAPSHOTS", 2)
    lake = Lake.open(properties)
    small, large = TableSpec("bronze.small", SPEC.schema), TableSpec("bronze.large", SPEC.schema)
    for spec in (small, large):
        lake.ensure(spec)
        append(lake, 1, spec=spec)
    files_read.clear()
    assert (rows(lake, small.name), rows(lake, large.name), files_read) == (1, 1, [])
    for number in (2, 3):
        append(lake, number, spec=large)
    files_read.clear()
    assert (rows(lake, large.name), files_read) == (3, [])
    assert rows(lake, small.name) == 1
    assert len(files_read) == 1


def test_manifests_of_one_layout_are_read_by_one_reader(properties: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake.open(properties)
    parted = TableSpec("bronze.parted", SPEC.schema, partitioning=(PartitionField("id", "bucket", 4),))
    for spec in (SPEC, parted):
        lake.ensure(spec)
        append(lake, 1, 2, 3, spec=spec)
        append(lake, 4, 5, spec=spec)
    assert (rows(lake), rows(lake, "bronze.parted")) == (5, 5)
    monkeypatch.delattr(AvroSchemaConversion, "avro_to_iceberg")
    assert (rows(lake), rows(lake, "bronze.parted")) == (5, 5)


def test_what_takes_the_place_of_pyicebergs_own_is_there() -> None:
    known.remember_readers()
    assert avro_file.resolve_reader.__module__ == avro_file.construct_reader.__module__ == known.__name__  # type: ignore[attr-defined]
