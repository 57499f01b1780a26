"""What a project says to the compiler of queries, and the relations of the tables that a compiled query reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, assert_never

import pyarrow as pa

from lakeflow.declare import IndexSpec, first_rows
from lakeflow.errors import LakeflowError, UnknownName
from lakeflow.lake.catalog import Lake, Table
from lakeflow.lake.iceberg import FileReader
from lakeflow.lake.moments import at_ref, at_snapshot, at_time
from lakeflow.lake.read import Snapshot, snapshot_at
from lakeflow.models.failing import read_failing
from lakeflow.models.registry import ModelSet
from lakeflow.models.remote.rehearsal import is_remote
from lakeflow.models.spec import ModelSpec
from lakeflow.models.versions import reference, version_of
from lakeflow.runner.load import Declarations
from lakeflow.runner.querying import relation
from lakeflow.runner.sql_versions import versions_of
from lakeflow.runner.uses import index_over
from lakeflow.sql.compiled import AtRef, AtRow, AtSnapshot, AtStart, AtTime, Compiled, Moment, Signature, TableRead
from lakeflow.sql.relations import Relation
from lakeflow.sql.versions import VERSION_COLUMNS


class Named(Protocol):
    """The parts of a project that have names; each is opened when it is first asked for."""

    @property
    def lake(self) -> Lake: ...

    @property
    def models(self) -> ModelSet: ...

    @property
    def declared_tables(self) -> Declarations: ...


def _is_asked(spec: ModelSpec) -> bool:
    """Whether a service is asked. What is wrong with its provider is told as the model is opened."""
    try:
        return is_remote(spec)
    except LakeflowError:
        return True


class ProjectNames:
    """`Names` of a project. A table is looked up once a moment, so that a query that names it twice reads one snapshot."""

    def __init__(self, project: Named) -> None:
        self._project = project
        self._tables: dict[tuple[str, Moment | None], tuple[Table, Snapshot | None]] = {}

    def table(self, name: str, at: Moment | None) -> pa.Schema:
        """The columns of a table, at that moment. Raises UnknownName."""
        schema = FileReader(self.opened(name, at)[0]).schema
        return pa.schema([*schema, *VERSION_COLUMNS]) if isinstance(at, AtRow) else schema

    def model(self, name: str) -> Signature:
        """A model by `m`, `m$2` or, for evaluations, `m$all`; nothing is opened. Raises UnknownName, UsageError."""
        asked = reference(name)
        spec = self._project.models.spec(asked.name)
        if asked.version is not None:
            version_of(asked.name, asked.version, self._project.models.history(asked.name))
        return Signature(name, str(spec.task), spec.input, spec.output, read_failing(spec).loses_rows, _is_asked(spec))

    def index(self, table: str, column: str) -> IndexSpec | None:
        """The vector index over a column; of several the first by name."""
        return index_over(table, column, self._project.declared_tables.indexes.values())

    def opened(self, name: str, at: Moment | None = None) -> tuple[Table, Snapshot | None]:
        """The table as of that moment, and the snapshot that is read: None where it has none yet. Raises UnknownName."""
        key = (name, None if isinstance(at, AtStart | AtRow) else at)
        if key not in self._tables:
            self._tables[key] = self._open(name, at)
        return self._tables[key]

    def relations(self, compiled: Compiled) -> Mapping[str, Relation]:
        """What the views of the query read, by name."""
        return {read.view: self._relation(read) for read in compiled.reads}

    def _relation(self, read: TableRead) -> Relation:
        opened = self.opened(read.name, read.at)
        if isinstance(read.at, AtRow):
            return versions_of(read.name, *opened, self._project.declared_tables.tables)
        return relation(*opened)

    def _open(self, name: str, at: Moment | None) -> tuple[Table, Snapshot | None]:
        table = self._current(name)
        match at:
            case None | AtStart() | AtRow():
                return table, snapshot_at(table)
            case AtSnapshot(snapshot_id):
                return at_snapshot(table, snapshot_id)
            case AtTime(microseconds):
                return at_time(table, microseconds)
            case AtRef(ref):
                return at_ref(table, ref)
            case _:
                assert_never(at)

    def _current(self, name: str) -> Table:
        lake = self._project.lake
        if name.count(".") != 1:
            raise UnknownName("table", name, lake.names(), next_step="lakeflow tables")
        if (declared := self._project.declared_tables.tables.get(name)) is not None and not lake.exists(name):
            raise UnknownName("table", name, lake.names(), next_step=first_rows(declared))
        return lake.table(name)
