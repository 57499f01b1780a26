"""A lake in a temporary folder for tests, and a reader of it that shares no code with lakeflow's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import duckdb
import pyarrow as pa
import pyarrow.dataset
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem, S3FileSystem
from pyiceberg.catalog import Catalog
from pyiceberg.manifest import DataFile
from pyiceberg.table import CommitTableRequest, CommitTableResponse, Namespace, Table, TableIdentifier
from pyiceberg.table.update import TableRequirement, TableUpdate

from lakeflow.declare import PartitionField, TableSpec
from lakeflow.job import Caps
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, Committed, Committer, Progress
from lakeflow.lake.write import DataWriter

NAME = "bronze.flights"
ID_SCHEMA = pa.schema([("id", pa.int64())])
NO_CAPS = Caps()


def catalog_in(folder: Path) -> dict[str, str]:
    return {"type": "sql", "uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{folder}/warehouse"}


def open_lake(folder: Path) -> Lake:
    return Lake.open(catalog_in(folder))


def made(
    lake: Lake,
    schema: pa.Schema = ID_SCHEMA,
    partitioning: Sequence[PartitionField] = (),
    properties: dict[str, str] | None = None,
    name: str = NAME,
) -> Table:
    return lake.ensure(TableSpec(name, schema, partitioning=tuple(partitioning)), properties)


def written(table: Table, rows: pa.Table, **limits: int) -> tuple[DataFile, ...]:
    writer = DataWriter(table, **limits)
    writer.write(rows)
    return writer.finish()


def ids(*values: int) -> pa.Table:
    return pa.table({"id": pa.array(values, pa.int64())})


def append(lake: Lake, rows: pa.Table, progress: Progress | None = None, *, keep: int = 100, name: str = NAME) -> Committed:
    return Committer(lake, keep_snapshots=keep).commit(Change(name, add=written(lake.table(name), rows), progress=progress))


def path_of(data_file: DataFile | str) -> Path:
    """Where a file is on the disk, or in which bucket and folder of the object store."""
    return Path(
        (data_file if isinstance(data_file, str) else data_file.file_path).removeprefix("file://").removeprefix("s3://")
    )


def files_of(table: Table) -> FileSystem:
    """The disk, or the object store with the table's own keys."""
    if not table.location().startswith("s3://"):
        return LocalFileSystem()
    options = table.io.properties
    return S3FileSystem(
        access_key=options["s3.access-key-id"],
        secret_key=options["s3.secret-access-key"],
        endpoint_override=options["s3.endpoint"],
        region=options["s3.region"],
    )


def stored_files(table: Table, suffix: str = ".parquet") -> set[Path]:
    """Every file with this suffix in the table's folder, referred to or not."""
    everything = FileSelector(str(path_of(table.location())), recursive=True, allow_not_found=True)
    return {Path(found.path) for found in files_of(table).get_file_info(everything) if found.path.endswith(suffix)}


def is_stored(table: Table, data_file: DataFile) -> bool:
    return bool(files_of(table).get_file_info(str(path_of(data_file))).type == FileType.File)


def live_paths(table: Table) -> list[str]:
    """The data files of the current snapshot, planned by PyIceberg."""
    return sorted(task.file.file_path for task in table.scan().plan_files())


def query(table: Table, sql: str = "SELECT * FROM rows") -> list[tuple[Any, ...]]:
    """`sql` by DuckDB over `rows`, the Parquet files of the current snapshot."""
    paths = [str(path_of(path)) for path in live_paths(table)]
    if not paths:
        return []
    with _database().cursor() as connection:
        if isinstance(files_of(table), LocalFileSystem):
            rows = connection.read_parquet(paths, hive_partitioning=False, union_by_name=True)
        else:
            rows = connection.from_arrow(pa.dataset.dataset(paths, filesystem=files_of(table), format="parquet").to_table())
        found = rows.query("rows", sql)
        assert found is not None, f"no query: {sql}"
        return found.fetchall()


@cache
def _database() -> duckdb.DuckDBPyConnection:
    """One for all queries, for it takes longer to open than to ask. It keeps nothing of the files that it has read."""
    return duckdb.connect(config={"enable_external_file_cache": False})


def id_rows(table: Table) -> list[int]:
    return [row[0] for row in query(table, "SELECT id FROM rows ORDER BY id")]


class RestLikeCatalog:
    """A catalog that does to a commit what a REST catalog does: it travels as JSON and is read by standard models only.

    Everything else goes to `inner` as it is.
    """

    def __init__(self, inner: Catalog) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def commit_table(
        self, table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
    ) -> CommitTableResponse:
        identifier = table.name()
        request = CommitTableRequest(
            identifier=TableIdentifier(namespace=Namespace(list(identifier[:-1])), name=identifier[-1]),
            requirements=requirements,
            updates=updates,
        )
        received = CommitTableRequest.model_validate_json(request.model_dump_json())
        answer = self._inner.commit_table(table, received.requirements, received.updates)
        return CommitTableResponse.model_validate_json(answer.model_dump_json(by_alias=True))


def rest_like(lake: Lake) -> Lake:
    return Lake(cast(Catalog, RestLikeCatalog(lake.catalog)))


def batches_of(rows: pa.Table, size: int) -> Iterator[pa.Table]:
    for start in range(0, rows.num_rows, size):
        yield rows.slice(start, size)
