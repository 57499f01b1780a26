"""What the catalog and the warehouse fail with, told as errors of the tree; disks that are full, and what stays whole."""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import requests
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import (
    AuthorizationExpiredError,
    BadRequestError,
    CommitStateUnknownException,
    ForbiddenError,
    OAuthError,
    ServerError,
    ServiceUnavailableError,
    TooManyRequestsError,
    UnauthorizedError,
)
from pyiceberg.io.pyarrow import PyArrowFileIO
from requests.exceptions import ChunkedEncodingError, ConnectTimeout, HTTPError
from requests.exceptions import ConnectionError as RequestsConnectionError
from sqlalchemy.exc import IntegrityError, OperationalError

from lakeflow.declare import PartitionField, TableSpec
from lakeflow.errors import (
    CatalogUnavailable,
    ConfigError,
    DeclarationError,
    LakeflowError,
    SchemaMismatch,
    StorageFull,
    StorageUnavailable,
    Terminal,
    UnknownName,
)
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, Committer, Progress
from lakeflow.lake.failures import lake_errors
from lakeflow.lake.write import DataWriter
from lakeflow.retry import Backoff
from tests.lakes import NAME, id_rows, ids, made, open_lake, path_of, stored_files, written


def from_sqlite(message: str) -> OperationalError:
    return OperationalError("UPDATE ..", {}, Exception(message))


TOLD: list[tuple[Exception, type[LakeflowError]]] = [
    (OSError(errno.ENOSPC, "No space left on device"), StorageFull),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), StorageFull),
    (OSError(errno.EFBIG, "File too large"), StorageFull),
    (OSError(errno.EROFS, "Read-only file system"), StorageFull),
    (PermissionError(errno.EACCES, "Permission denied"), StorageFull),
    (OSError(errno.EIO, "Input/output error"), StorageUnavailable),
    (FileNotFoundError(errno.ENOENT, "No such file"), StorageUnavailable),
    (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), CatalogUnavailable),
    (TimeoutError("timed out"), CatalogUnavailable),
    (requests.ConnectionError("refused"), CatalogUnavailable),
    (requests.Timeout("timed out"), CatalogUnavailable),
    (ServiceUnavailableError("503"), CatalogUnavailable),
    (ServerError("500"), CatalogUnavailable),
    (TooManyRequestsError("429"), CatalogUnavailable),
    (CommitStateUnknownException("504"), CatalogUnavailable),
    (RequestsConnectionError("connection refused"), CatalogUnavailable),
    (ConnectTimeout("timed out"), CatalogUnavailable),
    (ChunkedEncodingError("broken off"), CatalogUnavailable),
    (HTTPError("502"), CatalogUnavailable),
    (UnauthorizedError("401"), ConfigError),
    (ForbiddenError("403"), ConfigError),
    (AuthorizationExpiredError("419"), ConfigError),
    (OAuthError("invalid_client"), ConfigError),
    (BadRequestError("400"), Terminal),
    (from_sqlite("database is locked"), CatalogUnavailable),
    (from_sqlite("attempt to write a readonly database"), StorageFull),
    (from_sqlite("unable to open database file"), StorageFull),
    (from_sqlite("database or disk is full"), StorageFull),
]


@pytest.mark.parametrize(("raised", "told"), TOLD, ids=[f"{type(error).__name__} {error.args[-1]}" for error, _ in TOLD])
def test_each_failure_is_told_with_its_thing_and_a_next_step(raised: Exception, told: type[LakeflowError]) -> None:
    with pytest.raises(told, match=r"table bronze\.flights") as caught, lake_errors("table bronze.flights"):
        raise raised
    assert caught.value.__cause__ is raised
    assert caught.value.next_step


def test_a_rest_catalog_on_a_closed_port_is_a_catalog_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakeflow.lake.catalog.OPEN_BACKOFF", Backoff(attempts=1))
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(CatalogUnavailable, match="the catalog did not answer about its tables"):
            Lake.open({"type": "rest", "uri": f"http://127.0.0.1:{held.getsockname()[1]}"})


def test_errors_of_the_tree_pass_unchanged() -> None:
    mine = SchemaMismatch("rows do not fit")
    with pytest.raises(SchemaMismatch) as caught, lake_errors("table bronze.flights"):
        raise mine
    assert caught.value is mine


def test_errors_of_ours_that_are_no_failures_of_the_catalog_pass_as_they_are() -> None:
    with pytest.raises(ZeroDivisionError), lake_errors("table bronze.flights"):
        raise ZeroDivisionError


class TestNotWritable:
    def test_a_warehouse_under_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        lake = Lake.open({"type": "sql", "uri": f"sqlite:///{tmp_path}/c.db", "warehouse": f"file://{tmp_path}/file/warehouse"})
        with pytest.raises(StorageFull, match=r"no room or no right to write for table bronze\.flights"):
            made(lake)
        assert not lake.exists(NAME)

    def test_a_catalog_file_under_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StorageFull, match="the catalog file"):
            Lake.open({"type": "sql", "uri": f"sqlite:///{tmp_path}/file/c.db", "warehouse": f"file://{tmp_path}/w"})

    def test_a_folder_without_the_right_to_write(self, tmp_path: Path) -> None:
        if os.geteuid() == 0:
            pytest.skip("root may write anywhere")
        table = made(open_lake(tmp_path))
        data = path_of(table.location()) / "data"
        data.mkdir(parents=True)
        data.chmod(0o500)
        with pytest.raises(StorageFull, match=r"no room or no right to write for table bronze\.flights"):
            written(table, ids(1))

    def test_properties_that_mean_nothing(self) -> None:
        with pytest.raises(ConfigError, match=r"\[catalog\] cannot be opened"):
            Lake.open({"type": "no such kind"})


class TestEnsure:
    def test_an_existing_table_with_other_columns_shows_both_sides(self, tmp_path: Path) -> None:
        lake = open_lake(tmp_path)
        made(lake)
        with pytest.raises(SchemaMismatch, match="id: declared string, in the table int64"):
            made(lake, pa.schema([("id", pa.string())]))

    def test_an_existing_table_with_another_partitioning(self, tmp_path: Path) -> None:
        lake = open_lake(tmp_path)
        parts = [PartitionField("id", "bucket", 4)]
        made(lake, partitioning=parts)
        made(lake, partitioning=parts)
        with pytest.raises(SchemaMismatch, match=r"declared bucket\[8\]\(id\), in the table bucket\[4\]\(id\)"):
            made(lake, partitioning=[PartitionField("id", "bucket", 8)])

    @pytest.mark.parametrize("partitioned", [False, True])
    def test_what_another_process_made_in_the_meantime_is_compared_too(
        self, tmp_path: Path, partitioned: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lake = open_lake(tmp_path)
        made(lake)
        monkeypatch.setattr(lake, "exists", lambda name: False)
        assert made(lake).schema().as_arrow().names == ["id"]
        parts = (PartitionField("other"),) if partitioned else ()
        with pytest.raises(SchemaMismatch, match="id: declared nothing, in the table int64"):
            lake.ensure(TableSpec(NAME, pa.schema([("other", pa.int64())]), partitioning=parts))

    def test_a_namespace_that_another_process_makes_at_the_same_moment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lake = open_lake(tmp_path)
        create = lake.catalog.create_namespace

        def second(namespace: str) -> None:
            create(namespace)
            raise IntegrityError("INSERT ..", {}, Exception("UNIQUE constraint failed"))

        monkeypatch.setattr(lake.catalog, "create_namespace", second)
        assert made(lake).name() == ("bronze", "flights")

    def test_a_catalog_that_another_process_sets_up_at_the_same_moment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        attempts: list[str] = []

        def second(name: str, **properties: str) -> Any:
            attempts.append(name)
            if len(attempts) == 1:
                raise from_sqlite("table iceberg_tables already exists")
            return load_catalog(name, **properties)

        monkeypatch.setattr("lakeflow.lake.catalog.load_catalog", second)
        assert open_lake(tmp_path).names() == ()
        assert attempts == ["lakeflow", "lakeflow"]

    def test_a_partitioning_that_cannot_be(self, tmp_path: Path) -> None:
        schema = pa.schema([("t", pa.string())])
        with pytest.raises(DeclarationError, match=r"bronze\.flights cannot be made"):
            made(open_lake(tmp_path), schema, [PartitionField("t", "day")])

    def test_a_column_partitioned_twice(self, tmp_path: Path) -> None:
        with pytest.raises(DeclarationError, match="'id' is there twice"):
            made(open_lake(tmp_path), partitioning=[PartitionField("id"), PartitionField("id", "bucket", 4)])

    def test_an_unknown_table_lists_the_known_ones(self, tmp_path: Path) -> None:
        lake = open_lake(tmp_path)
        made(lake)
        with pytest.raises(UnknownName, match=r"unknown table 'bronze\.flight'; did you mean 'bronze\.flights'"):
            lake.table("bronze.flight")
        with pytest.raises(UnknownName, match="unknown table"):
            lake.drop("silver.flights")


class FullDisk(PyArrowFileIO):
    """A warehouse whose disk is full for the files that `fits` turns down, after `room` bytes of each."""

    fits: Callable[[str], bool] = staticmethod(lambda path: True)
    room = 100

    def new_output(self, location: str) -> Any:
        output = super().new_output(location)
        if self.fits(location):
            return output
        create = output.create

        def create_full(overwrite: bool = False) -> Any:
            return FullStream(create(overwrite), self.room)

        output.create = create_full  # type: ignore[method-assign]
        return output


class FullStream:
    def __init__(self, stream: Any, room: int) -> None:
        self._stream = stream
        self._room = room

    def write(self, data: Any) -> int:
        self._room -= memoryview(data).nbytes
        if self._room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return int(self._stream.write(data))

    def __enter__(self) -> FullStream:
        return self

    def __exit__(self, *raised: object) -> None:
        self._stream.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def full_for(lake: Lake, ending: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setitem(lake.catalog.properties, "py-io-impl", "tests.unit.lake.test_failures.FullDisk")
        patch.setattr(lake.catalog, "_known", OrderedDict())  # tables that were read have the disk as it was
        patch.setattr(FullDisk, "fits", staticmethod(lambda path: ending not in path))
        yield


def land(lake: Lake, committer: Committer, progress: Progress, value: int) -> None:
    """What a landing does with a batch: write, commit, and clean up whatever fails."""
    writer = DataWriter(lake.table(NAME))
    try:
        writer.write(ids(value))
        committer.commit(Change(NAME, writer.finish(), progress=progress))
    except LakeflowError:
        writer.abort()
        raise


def write_and_finish(writer: DataWriter, rows: pa.Table) -> None:
    writer.write(rows)
    writer.finish()


NAMES = {"data file": ".parquet", "manifest": "-m0.avro", "manifest list": "/snap-", "table metadata": ".metadata.json"}


@pytest.mark.parametrize("what", NAMES)
def test_a_disk_that_is_full_in_the_middle_of_a_file_leaves_the_table_whole_and_the_next_run_goes_on(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = open_lake(tmp_path)
    made(lake)
    committer = Committer(lake)
    land(lake, committer, Progress("landing", None, "a"), 1)
    before = sorted(path_of(lake.table(NAME).location()).rglob("*"))
    with full_for(lake, NAMES[what], monkeypatch), pytest.raises(StorageFull, match="No space left on device") as caught:
        land(lake, committer, Progress("landing", "a", "b"), 2)
    assert "as of its last commit" in str(caught.value)
    left = [path for path in sorted(path_of(lake.table(NAME).location()).rglob("*")) if path not in before]
    assert [path.name for path in left if what != "table metadata"] == []
    assert (id_rows(lake.table(NAME)), committer.progress(NAME, "landing")) == ([1], "a")
    land(lake, committer, Progress("landing", "a", "b"), 2)
    assert (id_rows(lake.table(NAME)), committer.progress(NAME, "landing")) == ([1, 2], "b")


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """The operating system itself refuses to let a file grow past `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_FSIZE behaves so on Linux")
@pytest.mark.parametrize("many_files", [False, True])
def test_a_write_that_the_system_refuses_can_be_aborted(many_files: bool, tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    table = made(lake)
    writer = DataWriter(table, target_file_bytes=1 if many_files else 128 << 20, buffer_bytes=1)
    writer.write(ids(1))
    values = pa.table({"id": [(value * 2654435761) % 2**61 for value in range(60_000)]})
    with files_no_larger_than(100_000):
        with pytest.raises(StorageFull, match=r"no room or no right to write for table bronze\.flights"):
            write_and_finish(writer, values)
        writer.abort()
    assert stored_files(table) == set()
    writer.write(values)
    Committer(lake).commit(Change(NAME, writer.finish()))
    assert len(id_rows(lake.table(NAME))) == 60_000
