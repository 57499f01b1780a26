"""What lakeflow/lake/iceberg.py relies on of PyIceberg: private names, and behaviours that no documentation promises."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.avro import file as avro_file
from pyiceberg.avro import resolver as avro_resolver
from pyiceberg.catalog import Catalog, MetastoreCatalog
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io import pyarrow as pyarrow_io
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestWriter,
    write_manifest,
)
from pyiceberg.table import Table, Transaction
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.update import RemoveSnapshotsUpdate, update_table_metadata
from pyiceberg.table.update.snapshot import _MergeAppendFiles, _OverwriteFiles, _SnapshotProducer
from pyiceberg.typedef import Record
from pyiceberg.types import DoubleType, LongType, StringType

from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.iceberg import FileReader, _StagingTransaction, live_files, stage, validates_in_process
from lakeflow.lake.read import appended, read, splits_at
from tests.lakes import NAME, append, id_rows, ids, made, open_lake, path_of, rest_like, written


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = open_lake(tmp_path)
    made(lake)
    return lake


SIGNATURES: list[tuple[Callable[..., Any], list[str]]] = [
    (pyarrow_io._get_parquet_writer_kwargs, ["table_properties"]),
    (pyarrow_io._read_all_delete_files, ["io", "tasks"]),
    (pyarrow_io.compute_statistics_plan, ["schema", "table_properties"]),
    (pyarrow_io.parquet_path_to_id_mapping, ["schema"]),
    (
        pyarrow_io.data_file_statistics_from_parquet_metadata,
        ["parquet_metadata", "stats_columns", "parquet_column_mapping"],
    ),
    (pyarrow_io.ArrowScan._record_batches_from_scan_tasks_and_deletes, ["self", "tasks", "deletes_per_file"]),
    (Transaction._stage, ["self", "updates", "requirements"]),
    (Catalog._delete_old_metadata, ["io", "base", "metadata"]),
    (_SnapshotProducer._commit, ["self"]),
    (_SnapshotProducer._clean_all_uncommitted, ["self"]),
    (avro_resolver.resolve_reader, ["file_schema", "read_schema", "read_types", "read_enums"]),
    (avro_resolver.construct_reader, ["file_schema", "read_types"]),
    (avro_file.AvroFileHeader.get_schema, ["self"]),
    (_OverwriteFiles.__init__, ["self", "operation", "transaction", "io", "commit_uuid", "snapshot_properties", "branch"]),
    (_MergeAppendFiles.__init__, ["self", "operation", "transaction", "io", "branch", "commit_uuid", "snapshot_properties"]),
]


@pytest.mark.parametrize(("private", "parameters"), SIGNATURES, ids=[name.__qualname__ for name, _ in SIGNATURES])
def test_private_names_are_there_with_their_parameters(private: Callable[..., Any], parameters: list[str]) -> None:
    assert list(inspect.signature(private).parameters) == parameters


def test_requirements_are_validated_in_this_process_by_metastore_catalogs_only(lake: Lake) -> None:
    assert issubclass(SqlCatalog, MetastoreCatalog)
    assert not issubclass(RestCatalog, MetastoreCatalog)
    assert validates_in_process(lake.catalog)
    assert not validates_in_process(rest_like(lake).catalog)


def test_staging_makes_nothing_visible_and_can_be_discarded(lake: Lake) -> None:
    append(lake, ids(1))
    table = lake.table(NAME)
    before = set(path_of(table.location()).rglob("*"))
    staged = stage(table, add=(), remove=(), summary={"a": "b"}, properties={"c": "d"}, expire=())
    assert len(set(path_of(table.location()).rglob("*")) - before) == 1
    assert [requirement.type for requirement in staged.requirements] == ["assert-ref-snapshot-id", "assert-table-uuid"]
    assert [update.action for update in staged.updates] == ["add-snapshot", "set-snapshot-ref", "set-properties"]
    staged.discard()
    assert set(path_of(table.location()).rglob("*")) == before
    assert lake.table(NAME).metadata == table.metadata


def test_the_staging_transaction_shows_the_same_metadata_as_pyicebergs(lake: Lake) -> None:
    append(lake, ids(1))
    table = lake.table(NAME)
    ours, theirs = _StagingTransaction(table), Transaction(table)
    for transaction in (ours, theirs):
        assert transaction.table_metadata == table.metadata
        transaction.set_properties({"a": "b"})
        assert transaction.table_metadata.properties["a"] == "b"
        transaction.set_properties({"a": "c"})
    without_time = {"last_updated_ms"}
    assert ours.table_metadata.model_dump(exclude=without_time) == theirs.table_metadata.model_dump(exclude=without_time)
    assert "a" not in table.metadata.properties


def test_sequence_numbers_survive_the_merging_of_manifests(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    made(lake, properties={"commit.manifest.min-count-to-merge": "3"})
    landed: dict[str, int] = {}
    for value in range(10):
        files = written(lake.table(NAME), ids(value))
        Committer(lake, keep_snapshots=2).commit(Change(NAME, files))
        landed[files[0].file_path] = value + 1
    table = lake.table(NAME)
    head = table.current_snapshot()
    assert head is not None
    assert len(head.manifests(table.io)) < 5
    assert {live.data_file.file_path: live.sequence for live in live_files(table, head)} == landed
    assert {live.sequence for live in live_files(table, head, 6)} == {7, 8, 9, 10}


def test_sequence_numbers_survive_an_overwrite_of_other_files(lake: Lake) -> None:
    for value in range(3):
        append(lake, ids(value))
    table = lake.table(NAME)
    head = table.current_snapshot()
    assert head is not None
    gone = next(live.data_file for live in live_files(table, head) if live.sequence == 2)
    Committer(lake).commit(Change(NAME, written(table, ids(9)), (gone,), base=head.snapshot_id))
    table = lake.table(NAME)
    assert [split.sequence for split in splits_at(table, table.current_snapshot())] == [1, 3, 4]
    assert id_rows(table) == [0, 2, 9]


def test_the_parent_of_a_snapshot_is_cleared_when_it_expires(lake: Lake) -> None:
    """Why history.py does not take a snapshot without a parent for the first one of its table."""
    first = append(lake, ids(1))
    append(lake, ids(2))
    metadata = lake.table(NAME).metadata
    after = update_table_metadata(metadata, (RemoveSnapshotsUpdate.model_validate({"snapshot-ids": [first.snapshot_id]}),))
    assert [(snapshot.parent_snapshot_id, snapshot.sequence_number) for snapshot in after.snapshots] == [(None, 2)]


def test_the_partition_spec_of_a_data_file_has_to_be_set(lake: Lake) -> None:
    """Why ParquetFile sets it after from_args, which takes it and drops it."""
    with pytest.raises(AttributeError):
        _ = DataFile.from_args(file_path="x", spec_id=3).spec_id
    assert [data_file.spec_id for data_file in written(lake.table(NAME), ids(1))] == [0]


def deletes_of(table: Table, data_path: str, positions: list[int]) -> DataFile:
    """A position delete file, made by hand after the specification."""
    path = f"{table.location()}/data/deletes-{len(positions)}.parquet"
    schema = pa.schema(
        [
            pa.field("file_path", pa.string(), nullable=False, metadata={"PARQUET:field_id": "2147483546"}),
            pa.field("pos", pa.int64(), nullable=False, metadata={"PARQUET:field_id": "2147483545"}),
        ]
    )
    rows = pa.table([[data_path] * len(positions), positions], schema=schema)
    pq.write_table(rows, path_of(path))
    made_by_hand = DataFile.from_args(
        content=DataFileContent.POSITION_DELETES,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=len(positions),
        file_size_in_bytes=path_of(path).stat().st_size,
    )
    made_by_hand.spec_id = 0
    return made_by_hand


class _RowDelta(_MergeAppendFiles):
    """An engine that merges on read: it adds one manifest of delete files."""

    deletes: tuple[DataFile, ...] = ()

    def _existing_manifests(self) -> list[Any]:
        writer: ManifestWriter = write_manifest(
            2, self.spec(0), self.schema(), self.new_manifest_output(), self.snapshot_id, "null"
        )
        writer.content = lambda: ManifestContent.DELETES  # type: ignore[method-assign]
        with writer:
            for data_file in self.deletes:
                writer.add(
                    ManifestEntry.from_args(
                        status=ManifestEntryStatus.ADDED,
                        snapshot_id=self.snapshot_id,
                        sequence_number=None,
                        data_file=data_file,
                    )
                )
        return [*super()._existing_manifests(), writer.to_manifest_file()]


def test_position_deletes_are_applied_in_reading(lake: Lake) -> None:
    append(lake, ids(*range(10)))
    append(lake, ids(*range(10, 20)))
    table = lake.table(NAME)
    first, second = (split.path for split in splits_at(table, table.current_snapshot()))
    with table.transaction() as transaction:
        delta = _RowDelta(Operation.OVERWRITE, transaction, table.io, "main")
        delta.deletes = (deletes_of(table, first, [0, 9]), deletes_of(table, second, [3]))
        delta.commit()
    table = lake.table(NAME)
    head = table.current_snapshot()
    splits = splits_at(table, head)
    assert [split.path for split in splits] == [first, second]
    expected = sorted(set(range(20)) - {0, 9, 13})
    assert [value for rows in read(table, splits) for value in rows.column("id").to_pylist()] == expected
    assert sorted(table.scan().to_arrow().column("id").to_pylist()) == expected


def test_renamed_widened_dropped_and_added_columns_are_read_by_their_ids(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    schema = pa.schema([("a", pa.int32()), ("b", pa.float32()), ("c", pa.string()), ("d", pa.string())])
    made(lake, schema)
    append(lake, pa.table({"a": [1], "b": [0.5], "c": ["old c"], "d": ["old d"]}).cast(schema))
    with lake.table(NAME).update_schema() as update:
        update.rename_column("c", "text")
        update.update_column("a", LongType())
        update.update_column("b", DoubleType())
        update.delete_column("d")
    with lake.table(NAME).update_schema() as update:
        update.add_column("d", StringType())
        update.add_column("c", StringType())
    append(lake, pa.table({"a": [2**40], "b": [0.1], "text": ["new text"], "d": ["new d"], "c": ["new c"]}))
    table = lake.table(NAME)
    found = [row for rows in read(table, appended(table, None)) for row in rows.to_pylist()]
    assert found == [
        {"a": 1, "b": 0.5, "text": "old c", "d": None, "c": None},
        {"a": 2**40, "b": 0.1, "text": "new text", "d": "new d", "c": "new c"},
    ]
    reader = FileReader(table, ["d", "a"])
    first, _ = appended(table, None)
    (batch,) = reader.read(first.task)
    assert batch.schema.equals(reader.schema)
    assert batch.to_pydict() == {"d": [None], "a": [1]}


def test_a_column_that_no_file_holds_yet_reads_as_nulls(lake: Lake) -> None:
    append(lake, ids(1, 2))
    with lake.table(NAME).update_schema() as update:
        update.add_column("new", StringType())
    table = lake.table(NAME)
    assert [row for rows in read(table, appended(table, None), ["new"]) for row in rows.to_pylist()] == [{"new": None}] * 2


def test_old_metadata_files_are_deleted_and_never_the_current_one(lake: Lake) -> None:
    for value in range(15):
        append(lake, ids(value))
    table = lake.table(NAME)
    kept = {path.name for path in path_of(table.location()).rglob("*.metadata.json")}
    assert path_of(table.metadata_location).name in kept
    assert len(kept) == 11
