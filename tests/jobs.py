"""A lake to run jobs in, for tests: plan, carry out, and look at what came of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from lakeflow.declare import TableSpec
from lakeflow.job import Caps, Job, Mode
from lakeflow.lake.catalog import Lake, Table
from lakeflow.lake.commit import CommitProtocol, Committer
from lakeflow.lake.history import ancestors
from lakeflow.models.registry import ModelSet
from lakeflow.runner.engines import Engine, Threads
from lakeflow.runner.execute import JobRun, Runtime, run_job
from lakeflow.runner.load import Declarations
from lakeflow.runner.plan import JobPlan, Request, plan_job
from lakeflow.runner.sql_body import Queries
from lakeflow.runner.sql_functions import functions_for
from lakeflow.runner.sql_jobs import jobs_of
from lakeflow.runner.sql_names import ProjectNames
from lakeflow.sql.parse import parse_jobs
from tests import lakes

SOURCE = "bronze.flights"
CARRIERS = "dim.carriers"
TARGET = "gold.late"

FLIGHTS = pa.schema([("id", pa.int64()), ("carrier", pa.string()), ("delay", pa.float64())])
NAMES = pa.schema([("carrier", pa.string()), ("name", pa.string())])


def flights(*rows: tuple[int, str | None, float | None]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(FLIGHTS.names, row, strict=True)) for row in rows], schema=FLIGHTS)


@dataclass
class World:
    """Where jobs run. `commits`, where given, takes the place of the real protocol."""

    lake: Lake
    models: ModelSet = field(default_factory=lambda: ModelSet([]))
    declared: Mapping[str, TableSpec] = field(default_factory=dict)
    caps: Caps = field(default_factory=Caps)
    engine: Engine = field(default_factory=lambda: Threads(1))
    commits: CommitProtocol | None = None

    def append(self, rows: pa.Table, table: str = SOURCE) -> int:
        """One commit, of one file; its snapshot."""
        if not self.lake.exists(table):
            self.lake.ensure(TableSpec(table, rows.schema))
        return lakes.append(self.lake, rows, name=table).snapshot_id

    def runtime(self) -> Runtime:
        commits = self.commits or Committer(self.lake)
        queries = Queries(lambda compiled, lost: functions_for(compiled, self.models, lost=lost), 256 << 20, workers=2)
        return Runtime(self.lake, commits, self.models, self.engine, self.declared, self.caps, queries=queries)

    @property
    def declared_tables(self) -> Declarations:
        return Declarations(self.declared)

    def sql_job(self, text: str) -> Job:
        """The one job of a text, as a file of jobs/ would have it."""
        path = Path("jobs/made.sql")
        [made] = jobs_of(parse_jobs(text, path), path, self.declared)
        return made

    def plan(self, job: Job, mode: str | None = None, *, into: str | None = None, **moment: Any) -> JobPlan:
        request = Request(Mode(mode) if mode else None, into=into, **moment)
        return plan_job(job, request, self.lake, Committer(self.lake), self.caps, ProjectNames(self))

    def run(self, job: Job, mode: str | None = None, *, into: str | None = None, **moment: Any) -> JobRun | None:
        """Plan and carry out; what was done after the last step, None where there was no step."""
        return self.carry_out(self.plan(job, mode, into=into, **moment))

    def carry_out(self, plan: JobPlan, **hooks: Callable[..., Any]) -> JobRun | None:
        last = deque(run_job(plan, self.runtime(), **hooks), maxlen=1)
        return last[0] if last else None

    def table(self, name: str = TARGET) -> Table:
        return self.lake.table(name)

    def rows(self, name: str = TARGET, order: str = "ALL") -> list[tuple[Any, ...]]:
        """The table's rows by DuckDB, sorted."""
        return lakes.query(self.table(name), f"SELECT * FROM rows ORDER BY {order}")

    def snapshots(self, name: str = TARGET) -> int:
        return len(list(ancestors(self.table(name).metadata)))

    def stray_files(self, name: str = TARGET) -> set[Path]:
        """Data files in the table's folder that its head does not show."""
        table = self.table(name)
        return lakes.stored_files(table) - {lakes.path_of(path) for path in lakes.live_paths(table)}

    def progress(self, job: Job, name: str = TARGET) -> str | None:
        return Committer(self.lake).progress(name, job.writer)


def open_world(folder: Path) -> World:
    return World(lakes.open_lake(folder))


def moment_of(table: Table, snapshot_id: int) -> datetime:
    """When a snapshot was made."""
    snapshot = table.snapshot_by_id(snapshot_id)
    assert snapshot is not None
    return datetime.fromtimestamp(snapshot.timestamp_ms / 1000).astimezone()
