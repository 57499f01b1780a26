"""Every private name of PyIceberg that lakeflow uses, each behind a function of our own.

PyIceberg's public API can neither stage a commit without retrying it blindly, nor read or write one file in bounded
memory. tests/contract/test_lake_iceberg.py pins the behaviours that are relied on here.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.catalog import Catalog, MetastoreCatalog
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import BadRequestError, CommitFailedException
from pyiceberg.expressions import AlwaysTrue
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import (
    ArrowScan,
    _get_parquet_writer_kwargs,
    _read_all_delete_files,
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
    schema_to_pyarrow,
)
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestFile,
    ManifestWriter,
    ManifestWriterV2,
)
from pyiceberg.partitioning import PartitionKey, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import FileScanTask, Table, Transaction
from pyiceberg.table.locations import load_location_provider
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import (
    AssertLastAssignedFieldId,
    AssertRefSnapshotId,
    AssertTableUUID,
    RemoveSnapshotsUpdate,
    TableRequirement,
    TableUpdate,
)
from pyiceberg.table.update.schema import UpdateSchema
from pyiceberg.table.update.snapshot import _ManifestMergeManager, _MergeAppendFiles, _OverwriteFiles, _SnapshotProducer
from pyiceberg.table.update.spec import UpdateSpec
from pyiceberg.typedef import EMPTY_DICT, Record
from requests import Session

from lakeflow.lake.commit_time import in_order
from lakeflow.lake.encoding import worth_a_dictionary
from lakeflow.lake.manifests import LiveFile, manifest_bytes

MAIN = "main"
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 60.0
"""How long a REST catalog may take to answer. A commit that is not answered in time is looked up before it is sent again."""


class AnsweringRestCatalog(RestCatalog):
    """Iceberg's REST catalog; a request that is not answered in time fails, where PyIceberg waits for ever."""

    def _create_session(self) -> Session:
        session = super()._create_session()
        session.request = partial(session.request, timeout=(CONNECT_SECONDS, ANSWER_SECONDS))  # type: ignore[method-assign]
        return session


class _StagingTransaction(Transaction):
    """A transaction that is staged and read, never committed by itself.

    PyIceberg deep-copies the metadata at each look at `table_metadata`, a dozen times a commit; that copying is most
    of a commit's time on a table of many snapshots. This one copies once per staged update.
    """

    _seen: tuple[int, TableMetadata] | None = None

    @property
    def table_metadata(self) -> TableMetadata:
        if not self._updates:
            return self._table.metadata
        if self._seen is None or self._seen[0] != len(self._updates):
            self._seen = (len(self._updates), super().table_metadata)
        return self._seen[1]


class _PlacingManifestWriter(ManifestWriterV2):
    """A manifest whose added files take the sequence numbers that they are given, and not the commit's."""

    sequences: Mapping[str, int] = {}

    def add(self, entry: ManifestEntry) -> ManifestWriter:
        entry.sequence_number = self.sequences[entry.data_file.file_path]
        return super().add(entry)


class _ReplaceFiles(_OverwriteFiles):
    """Files in place of others that hold the same rows. PyIceberg makes no snapshot of this operation by itself.

    The specification lets the added files name an older data sequence number than the commit's.
    """

    def __init__(self, sequences: Mapping[str, int], transaction: Transaction, io: FileIO, summary: dict[str, str]) -> None:
        super().__init__(Operation.OVERWRITE, transaction, io, None, summary, MAIN)
        self._sequences = sequences

    def new_manifest_writer(self, spec: PartitionSpec) -> ManifestWriter:
        writer = _PlacingManifestWriter(spec, self.schema(), self.new_manifest_output(), self._snapshot_id, self._compression)
        writer.sequences = self._sequences
        return writer

    def _process_manifests(self, manifests: list[ManifestFile]) -> list[ManifestFile]:
        """Merged to the table's manifest size. Those that only name files which earlier commits removed go."""
        told = [one for one in manifests if one.has_added_files() or one.has_existing_files() or self._is_new(one)]
        data = [one for one in told if one.content == ManifestContent.DATA]
        merging = _ManifestMergeManager(manifest_bytes(self._transaction.table_metadata), 2, True, self)
        return merging.merge_manifests(data) + [one for one in told if one.content == ManifestContent.DELETES]

    def _is_new(self, manifest: ManifestFile) -> bool:
        return manifest.added_snapshot_id == self._snapshot_id

    def _summary(self, snapshot_properties: dict[str, str] = EMPTY_DICT) -> Summary:
        return Summary(Operation.REPLACE, **super()._summary(snapshot_properties).additional_properties)


@dataclass(frozen=True, slots=True)
class Layout:
    """Other columns or another partitioning for a table: updates of its metadata, and what they require of it."""

    updates: tuple[TableUpdate, ...]
    requirements: tuple[TableRequirement, ...]


def relaid(
    table: Table,
    columns: pa.Schema | None,
    repartition: Callable[[UpdateSpec], None] | None = None,
    *,
    restructure: Callable[[UpdateSchema], None] | None = None,
) -> tuple[Layout, Table]:
    """The layout that adds, widens and relaxes what `columns` differ in, and the table as it will be. Commits nothing.

    `restructure` is what else becomes of the columns: moved, renamed, dropped.

    Field ids are assigned after the highest one that the table ever had. Raises ValueError for what PyIceberg refuses.
    """
    transaction = _StagingTransaction(table)
    if columns is not None or restructure is not None:
        with transaction.update_schema() as columns_update:
            if columns is not None:
                columns_update.union_by_name(columns)
            if restructure is not None:
                restructure(columns_update)
    if repartition is not None:
        with transaction.update_spec() as spec_update:
            repartition(spec_update)
    unmoved = (
        AssertTableUUID(uuid=table.metadata.table_uuid),
        AssertLastAssignedFieldId.model_validate({"last-assigned-field-id": table.metadata.last_column_id}),
    )
    layout = Layout(transaction._updates, (*transaction._requirements, *unmoved))
    return layout, Table(table.name(), transaction.table_metadata, table.metadata_location, table.io, table.catalog)


@dataclass(frozen=True, slots=True)
class Staged:
    """One commit, ready to be sent: manifests are written, nothing is visible yet."""

    snapshot_id: int
    updates: tuple[TableUpdate, ...]
    requirements: tuple[TableRequirement, ...]
    _producer: _SnapshotProducer[Any]

    def discard(self) -> None:
        """Delete the manifests again. Only for a commit that is known not to have landed."""
        self._producer._clean_all_uncommitted()


def stage(
    table: Table,
    *,
    add: Sequence[DataFile],
    remove: Sequence[DataFile],
    sequences: Mapping[str, int] | None = None,
    layout: Layout | None = None,
    summary: Mapping[str, str],
    properties: Mapping[str, str],
    expire: Sequence[int],
) -> Staged:
    """Stage one snapshot on main: an append, or an overwrite where files are removed.

    With `sequences` it is a replacement: the rows stay what they were, each added file takes the data sequence number that
    is given for its path, and small manifests are merged. A `layout` comes before the snapshot, which is of it.

    The staged requirements hold main's head and the table's identity to what `table` shows; `properties` are set and
    the snapshots in `expire` dropped in the same commit.
    """
    transaction = _StagingTransaction(table)
    if layout is not None:
        transaction._stage(layout.updates, layout.requirements)
    producer: _SnapshotProducer[Any]
    if sequences is not None:
        producer = _ReplaceFiles(sequences, transaction, table.io, dict(summary))
    elif remove:
        producer = _OverwriteFiles(Operation.OVERWRITE, transaction, table.io, None, dict(summary), MAIN)
    else:
        producer = _MergeAppendFiles(Operation.APPEND, transaction, table.io, MAIN, None, dict(summary))
    for data_file in add:
        producer.append_data_file(data_file)
    for data_file in remove:
        producer.delete_data_file(data_file)
    try:
        updates, requirements = producer._commit()
    except BaseException:
        producer._clean_all_uncommitted()
        raise
    transaction._stage(in_order(updates, table.metadata), requirements)
    if properties:
        transaction.set_properties(dict(properties))
    if expire:
        transaction._stage((RemoveSnapshotsUpdate.model_validate({"snapshot-ids": list(expire)}),))
    return Staged(
        producer.snapshot_id,
        transaction._updates,
        (*transaction._requirements, AssertTableUUID(uuid=table.metadata.table_uuid)),
        producer,
    )


def validates_in_process(catalog: Catalog) -> bool:
    """Whether the catalog calls `validate` of each requirement in this process, against the metadata that it swaps.

    Those catalogs accept requirements of our own; a REST catalog gets them as JSON and knows the standard ones only.
    """
    return isinstance(catalog, MetastoreCatalog)


def forget_old_metadata(table: Table, before: TableMetadata, after: TableMetadata) -> None:
    """Delete the metadata files that write.metadata.previous-versions-max lets go, as every commit of PyIceberg does."""
    table.catalog._delete_old_metadata(table.io, before, after)


def live_files(
    table: Table, snapshot: Snapshot, after_sequence: int = -1, manifests: Sequence[ManifestFile] | None = None
) -> Iterator[LiveFile]:
    """The data files of `snapshot` that were added after `after_sequence`, read from its manifests once, unordered.

    Manifests that hold nothing newer are not opened. `manifests` are those of the snapshot, where they are known.
    """
    for manifest in snapshot.manifests(table.io) if manifests is None else manifests:
        if manifest.content != ManifestContent.DATA or manifest.sequence_number <= after_sequence:
            continue
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
            sequence = entry.sequence_number or 0
            if sequence > after_sequence and entry.data_file.content == DataFileContent.DATA:
                yield LiveFile(sequence, entry.data_file)


def manifests_of(table: Table, snapshot: Snapshot) -> list[ManifestFile]:
    """The manifests of a snapshot, from its list of them."""
    return snapshot.manifests(table.io)


def have_deletes(manifests: Iterable[ManifestFile]) -> bool:
    """Whether delete files belong to a snapshot, by its manifests: the totals in a summary are optional."""
    return any(manifest.content == ManifestContent.DELETES for manifest in manifests)


class FileReader:
    """Reads data files as record batches of a projected schema. It holds a whole file and some batches ahead of what is asked.

    `lakeflow.lake.read` reads files with the table's own columns itself, a row group at a time, and the others by this.

    `columns` selects and orders top-level columns (None: all). Position deletes and deletion vectors are applied,
    columns are found by field id, so that renamed, widened, dropped and re-added ones read right.
    """

    def __init__(self, table: Table, columns: Sequence[str] | None = None) -> None:
        projected = table.schema() if columns is None else Schema(*(table.schema().find_field(name) for name in columns))
        self._io = table.io
        self._scan = ArrowScan(table.metadata, table.io, projected, AlwaysTrue())
        self.schema: pa.Schema = schema_to_pyarrow(projected, include_field_ids=False)

    def read(self, task: FileScanTask) -> Iterator[pa.RecordBatch]:
        """The rows of one data file that no delete file takes away, with `schema`."""
        deletes = _read_all_delete_files(self._io, [task])
        for batch in self._scan._record_batches_from_scan_tasks_and_deletes([task], deletes):
            yield batch if batch.schema.equals(self.schema) else batch.cast(self.schema)


class ParquetFile:
    """One Parquet data file being written, in the table's own Arrow schema with field ids.

    `write` takes tables of exactly that schema and makes a row group of each; `close` gives the DataFile with the
    statistics of the footer. `abort` closes and deletes what is there. The file's name begins with `place`. The rows of the
    first table say which columns a dictionary pays for.
    """

    def __init__(self, table: Table, schema: pa.Schema, place: str, key: PartitionKey | None = None) -> None:
        self._table = table
        self._key = key
        provider = load_location_provider(table.location(), table.properties)
        self.path = provider.new_data_location(f"{place}-{uuid.uuid4()}.parquet", key)
        self._output = table.io.new_output(self.path)
        self._stream = self._output.create(overwrite=True)
        self._schema = schema
        self._opened: pq.ParquetWriter | None = None
        self.rows = 0

    def _writer_for(self, rows: pa.Table) -> pq.ParquetWriter:
        if self._opened is None:
            options = _get_parquet_writer_kwargs(self._table.properties)
            options.setdefault("use_dictionary", worth_a_dictionary(rows))
            self._opened = pq.ParquetWriter(self._stream, self._schema, store_decimal_as_integer=True, **options)
        return self._opened

    @property
    def _writer(self) -> pq.ParquetWriter:
        return self._writer_for(self._schema.empty_table())

    def write(self, rows: pa.Table) -> None:
        self._writer_for(rows).write_table(rows, row_group_size=max(1, rows.num_rows))
        self.rows += rows.num_rows

    def written_bytes(self) -> int:
        """Bytes that are in the file so far."""
        return int(self._stream.tell())

    def close(self) -> DataFile:
        self._writer.close()
        self._stream.close()
        schema = self._table.schema()
        statistics = data_file_statistics_from_parquet_metadata(
            parquet_metadata=self._writer.writer.metadata,
            stats_columns=compute_statistics_plan(schema, self._table.properties),
            parquet_column_mapping=parquet_path_to_id_mapping(schema),
        )
        data_file = DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=self.path,
            file_format=FileFormat.PARQUET,
            partition=self._key.partition if self._key else Record(),
            file_size_in_bytes=len(self._output),
            sort_order_id=None,
            spec_id=self._table.metadata.default_spec_id,
            equality_ids=None,
            key_metadata=None,
            **statistics.to_serialized_dict(),
        )
        data_file.spec_id = self._table.metadata.default_spec_id  # from_args takes it and drops it
        return data_file

    def abort(self) -> None:
        """Never fails for what failed the file: on a full disk there is no room for the footer either."""
        with suppress(OSError):
            self._writer.close()
        with suppress(OSError):
            self._stream.close()
        delete_files(self._table.io, [self.path])


def delete_files(io: FileIO, paths: Sequence[str]) -> None:
    """Delete files that no snapshot refers to. One that is gone already is no failure."""
    for path in paths:
        with suppress(FileNotFoundError):
            io.delete(path)


def drop_snapshots(catalog: Catalog, table: Table, snapshot_ids: Sequence[int], properties: Mapping[str, str]) -> None:
    """Drop snapshots and set properties in one commit, which requires that main is where `table` shows it.

    Raises what the catalog raises where another commit came first.
    """
    metadata = table.metadata
    transaction = Transaction(table)
    if properties:
        transaction.set_properties(dict(properties))
    transaction._stage((RemoveSnapshotsUpdate.model_validate({"snapshot-ids": list(snapshot_ids)}),))
    requirements = (
        *transaction._requirements,
        AssertRefSnapshotId.model_validate({"snapshot-id": metadata.current_snapshot_id, "ref": MAIN}),
        AssertTableUUID(uuid=metadata.table_uuid),
    )
    try:
        answer = catalog.commit_table(table, requirements, transaction._updates)
    except BadRequestError as error:  # what a REST catalog calls snapshots that have gone already
        raise CommitFailedException(str(error)) from error
    forget_old_metadata(table, metadata, answer.metadata)
