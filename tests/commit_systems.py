"""The implementations of the commit protocol, each with what a test needs of it beside, and the faults of a catalog."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import CommitStateUnknownException, ServiceUnavailableError
from pyiceberg.manifest import DataFile
from pyiceberg.table import CommitTableResponse, Table
from sqlalchemy.exc import OperationalError

from lakeflow.lake.catalog import Lake, arrow_schema
from lakeflow.lake.commit import CommitProtocol, Committer, Fence, ProgressFence, SnapshotFence
from lakeflow.lake.history import ancestors
from lakeflow.lake.iceberg import Layout
from lakeflow.lake.schema import storable
from lakeflow.lake.schema_change import SchemaChange, plan_schema
from lakeflow.retry import Backoff
from lakeflow.testing.lake import MemoryCommits, Outage
from tests.lakes import NAME, RestLikeCatalog, id_rows, ids, is_stored, made, open_lake, written

Fault = Callable[[Callable[[], CommitTableResponse]], CommitTableResponse]


class FaultyCatalog:
    """A catalog whose commits meet the queued faults, one each; a fault gets the real commit to call, or not."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.faults: deque[Fault] = deque()
        self.sent: list[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def commit_table(self, table: Table, requirements: Any, updates: Any) -> CommitTableResponse:
        self.sent.append([update.action for update in updates])

        def send() -> CommitTableResponse:
            return cast(CommitTableResponse, self._inner.commit_table(table, requirements, updates))

        return self.faults.popleft()(send) if self.faults else send()


def lost_answer(send: Callable[[], CommitTableResponse]) -> CommitTableResponse:
    send()
    raise ConnectionError("the answer was lost")


def no_answer(send: Callable[[], CommitTableResponse]) -> CommitTableResponse:
    raise ServiceUnavailableError("try later")


def state_unknown_landed(send: Callable[[], CommitTableResponse]) -> CommitTableResponse:
    send()
    raise CommitStateUnknownException("504")


def state_unknown_not_landed(send: Callable[[], CommitTableResponse]) -> CommitTableResponse:
    raise CommitStateUnknownException("504")


def sent_twice(send: Callable[[], CommitTableResponse]) -> CommitTableResponse:
    """A proxy that repeats a request whose answer it lost, and hands on the refusal of the repetition."""
    send()
    return send()


def locked(send: Callable[[], CommitTableResponse]) -> CommitTableResponse:
    raise OperationalError("UPDATE iceberg_tables", {}, Exception("database is locked"))


class System(Protocol):
    """What the suite needs of an implementation beside the protocol."""

    def commits(self, attempts: int = 4) -> CommitProtocol: ...
    def file(self, *values: int) -> DataFile: ...
    def with_column(self, name: str, *values: int) -> tuple[SchemaChange, DataFile]: ...
    def schema_id(self) -> int: ...
    def rows(self) -> list[int]: ...
    def snapshots(self) -> int: ...
    def head(self) -> int | None: ...
    def rollback(self, snapshot_id: int) -> None: ...
    def is_deleted(self, data_file: DataFile) -> bool: ...
    def fail(self, *outages: Outage) -> None: ...


@dataclass
class RealSystem:
    lake: Lake
    fence: Fence
    catalog: FaultyCatalog

    def commits(self, attempts: int = 4) -> Committer:
        backoff = Backoff(attempts=attempts, base=0.001, cap=0.002)
        return Committer(Lake(cast(Catalog, self.catalog)), self.fence, backoff=backoff)

    def table(self) -> Table:
        return self.lake.table(NAME)

    def file(self, *values: int) -> DataFile:
        (data_file,) = written(self.table(), ids(*values))
        return data_file

    def with_column(self, name: str, *values: int) -> tuple[SchemaChange, DataFile]:
        """A column to be added, and a file that has it: as many `x` as there are ids."""
        table = self.table()
        columns = storable(arrow_schema(table), NAME).append(pa.field(name, pa.string()))
        planned = plan_schema(table, columns)
        rows = ids(*values).append_column(name, pa.array(["x"] * len(values)))
        (data_file,) = written(planned.table, rows)
        return planned.change, data_file

    def schema_id(self) -> int:
        return self.table().metadata.current_schema_id

    def rows(self) -> list[int]:
        return id_rows(self.table())

    def snapshots(self) -> int:
        return len(list(ancestors(self.table().metadata)))

    def head(self) -> int | None:
        return self.table().metadata.current_snapshot_id

    def rollback(self, snapshot_id: int) -> None:
        self.table().manage_snapshots().rollback_to_snapshot(snapshot_id).commit()

    def is_deleted(self, data_file: DataFile) -> bool:
        return not is_stored(self.table(), data_file)

    def fail(self, *outages: Outage) -> None:
        self.catalog.faults.extend({Outage.NO_ANSWER: no_answer, Outage.LOST_ANSWER: lost_answer}[o] for o in outages)


@dataclass
class FakeSystem:
    memory: MemoryCommits
    values: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def commits(self, attempts: int = 4) -> MemoryCommits:
        self.memory._attempts = attempts
        return self.memory

    def file(self, *values: int) -> DataFile:
        path = f"memory://{len(self.values)}.parquet"
        self.values[path] = values
        return DataFile.from_args(file_path=path, record_count=len(values))

    def with_column(self, name: str, *values: int) -> tuple[SchemaChange, DataFile]:
        start = self.schema_id()
        return SchemaChange(start, start + 1, 1, Layout((), ())), self.file(*values)

    def schema_id(self) -> int:
        return self.memory._schemas.get(NAME, 0)

    def rows(self) -> list[int]:
        return sorted(value for path in self.memory.paths(NAME) for value in self.values[path])

    def snapshots(self) -> int:
        return len(self.memory.history(NAME))

    def head(self) -> int | None:
        return self.memory.head(NAME)

    def rollback(self, snapshot_id: int) -> None:
        self.memory.rollback(NAME, snapshot_id)

    def is_deleted(self, data_file: DataFile) -> bool:
        return data_file in self.memory.discarded

    def fail(self, *outages: Outage) -> None:
        self.memory.fail(*outages)


REAL = ("progress fence", "snapshot fence", "rest catalog")


def real_system(kind: str, folder: Path) -> RealSystem:
    lake = open_lake(folder)
    made(lake)
    inner: Any = RestLikeCatalog(lake.catalog) if kind == "rest catalog" else lake.catalog
    return RealSystem(lake, ProgressFence() if kind == "progress fence" else SnapshotFence(), FaultyCatalog(inner))
