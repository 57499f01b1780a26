"""Runs tests of jobs: each in a lake of its own in a temporary folder, with models whose answers are given.

No catalog, topic or service of the user's is touched: the project's files alone are read. An incremental job is run over all
given rows at once, and over each row as it comes; both must end in the rows that are expected.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from lakeflow.config import Settings
from lakeflow.declare import TableSpec
from lakeflow.errors import DeclarationError, LakeflowError, ModelError, SchemaMismatch, UnknownName
from lakeflow.fill import Environment
from lakeflow.job import Job, Mode, Read
from lakeflow.lake.catalog import arrow_schema
from lakeflow.lake.commit import Change
from lakeflow.lake.read import read, snapshot_at, splits_at
from lakeflow.lake.schema import fit, storable
from lakeflow.lake.write import DataWriter
from lakeflow.lookup import LookupFile, LookupPostgres, Outside
from lakeflow.models.providers.base import Provider
from lakeflow.models.registry import ModelSet, new_provider
from lakeflow.models.remote.rehearsal import is_remote
from lakeflow.models.spec import ModelSpec
from lakeflow.runner.execute import run_job
from lakeflow.runner.job_tests import JobTest, Row, Rows
from lakeflow.runner.model_registry import spec_of
from lakeflow.runner.plan import Request
from lakeflow.runner.project import Project
from lakeflow.runner.row_diff import Diff, diff
from lakeflow.sql.clauses import parse_columns
from lakeflow.sql.execute import run_query
from lakeflow.sql.relations import name_text

AT_ONCE, ROW_BY_ROW = "at once", "row by row"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one run of a test ended: the diff, which is empty where it passed, or what it failed of."""

    test: JobTest
    run: str
    diff: Diff
    seconds: float
    error: LakeflowError | None = None

    @property
    def passed(self) -> bool:
        return self.error is None and self.diff.is_empty


def run_test(test: JobTest, settings: Settings) -> Iterator[Outcome]:
    """The test's runs, one after the other. What one fails of is its outcome."""
    runs = [AT_ONCE]
    try:
        job = _job(test, settings)
        if job.mode is Mode.INCREMENTAL and test.row_by_row:
            runs.append(ROW_BY_ROW)
    except LakeflowError as error:
        yield Outcome(test, AT_ONCE, Diff(), 0.0, error)
        return
    for run in runs:
        start = time.monotonic()
        try:
            with tempfile.TemporaryDirectory(prefix="lakeflow-test-") as folder:
                found = _Run(test, job, TestProject(settings, Path(folder), test)).found(run)
            yield Outcome(test, run, found, time.monotonic() - start)
        except LakeflowError as error:
            yield Outcome(test, run, Diff(), time.monotonic() - start, error)


def _job(test: JobTest, settings: Settings) -> Job:
    jobs = Project(settings).declarations.jobs
    if test.job not in jobs:
        raise UnknownName(f"job of {test.path}:", test.job, jobs, next_step="write job: NAME in the file")
    return jobs[test.job]


class _NoSecrets(Environment):
    """An environment in which a secret that is not set is no failure: nobody is asked with it."""

    def secret(self, name: str, where: str) -> str:
        return "not set in a test"


class TestProject(Project):
    """A project over an empty lake in `folder`, whose models answer as a test says."""

    __test__ = False

    def __init__(self, settings: Settings, folder: Path, test: JobTest) -> None:
        catalog = {"type": "sql", "uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{folder}/warehouse"}
        index = replace(settings.index, uri=str(folder / "index"), storage=type(settings.index.storage)({}))
        super().__init__(replace(settings, catalog=type(settings.catalog)(catalog), index=index))
        self._test = test
        self.folder = folder

    @cached_property
    def models(self) -> ModelSet:
        """The declared models; those that the test answers for are never opened, and none of a service is."""
        environment = _NoSecrets(self.settings.environment.variables, self.settings.environment.folder)
        settings = replace(self.settings, environment=environment)
        declared = self.declared_tables.models
        for name in self._test.models:
            if name not in declared:
                raise UnknownName(f"model of {self._test.path}:", name, declared)
        return ModelSet((spec_of(one, settings) for one in declared.values()), self._provider)

    def _provider(self, spec: ModelSpec) -> Provider:
        if spec.name in self._test.models:
            return Stub(spec, self._test.models[spec.name])
        if is_remote(spec):
            raise ModelError(
                f"{spec.label} is asked of a service, which a test does not do",
                next_step=f"write its answers into {self._test.path}: models: {{{spec.name}: [{{..}}]}}",
            )
        return new_provider(spec)


class Stub:
    """A provider that answers as it is told: with the OUTPUT columns of the first row whose INPUT columns are the row's."""

    def __init__(self, spec: ModelSpec, rows: Sequence[Row] = ()) -> None:
        self._spec = spec
        self._rows = rows

    def identity(self) -> Mapping[str, str | Path]:
        return {}

    def check(self) -> None:
        known = [*self._spec.input.names, *self._spec.output.names]
        for name in (name for row in self._rows for name in row if name not in known):
            raise UnknownName(f"column of {self._spec.label}", name, known)

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        answers = [self._answer(row) for row in rows.to_pylist()]
        return pa.RecordBatch.from_pylist([typed(answer, self._spec.output) for answer in answers], self._spec.output)

    def close(self) -> None:
        """Nothing is open."""

    def _answer(self, row: Row) -> Row:
        inputs = self._spec.input
        for told in self._rows:
            given = typed({name: value for name, value in told.items() if name in inputs.names}, inputs)
            if all(row[name] == value for name, value in given.items()):
                return {name: value for name, value in told.items() if name not in inputs.names}
        raise ModelError(
            f"{self._spec.label}: the test gives no answer to {row}", next_step="add a row for it, or one without INPUT columns"
        )


class _Run:
    """One run of a test, in a lake that is empty."""

    def __init__(self, test: JobTest, job: Job, project: TestProject) -> None:
        self._test, self._project = test, project
        read_by_name = [*job.reads, *map(name_of, job.outside.values())]
        for table in test.given:
            if table not in read_by_name:
                raise UnknownName(f"table read by job {job.name!r}, given in {test.path}:", table, read_by_name)
        self._job = replace(job, outside={parameter: self._outside(parameter, one) for parameter, one in job.outside.items()})

    def found(self, run: str) -> Diff:
        """What the target holds otherwise than expected."""
        given = {name: self._made(name) for name in dict.fromkeys(self._job.reads)}
        moving = {source.table for source in self._job.inputs.values() if isinstance(source, Read)}
        with self._project.models:
            if run == AT_ONCE:
                for name, rows in given.items():
                    self._append(name, rows)
                self._carry_out()
            else:
                self._one_by_one(given, moving)
        return self._compared()

    def _one_by_one(self, given: Mapping[str, pa.Table], moving: set[str]) -> None:
        for name in given.keys() - moving:
            self._append(name, given[name])
        self._carry_out()
        for name in (name for name in given if name in moving):
            for place in range(given[name].num_rows):
                self._append(name, given[name].slice(place, 1))
                self._carry_out()

    def _carry_out(self) -> None:
        for _ in run_job(self._project.plan(self._job, Request()), self._project.runtime):
            pass

    def _outside(self, parameter: str, lookup: Outside) -> Outside:
        """A file of the project as it is; of what is given, a file of that. Nothing else is asked or read."""
        name = name_of(lookup)
        by_key = isinstance(lookup, LookupPostgres) and bool(lookup.key)
        if name in self._test.given and not by_key:
            rows = arrow_of(self._test.given[name], self._columns(name), f"{self._test.path}: test {self._test.name!r}, {name}")
            path = self._project.folder / f"{parameter}.parquet"
            pq.write_table(rows, path)
            return LookupFile(str(path))
        if isinstance(lookup, LookupFile) and "://" not in lookup.path:
            return lookup
        raise DeclarationError(
            f"{self._test.path}: test {self._test.name!r}: the job looks rows up in {name}, which a test does not ask"
            + (" and cannot stand in for, since it is asked by key" if by_key else ""),
            next_step=None if by_key else f"add to its given: {{table: {name}, rows: [..]}}",
        )

    def _columns(self, name: str) -> pa.Schema | None:
        """Those that the test says beside the rows."""
        given = self._test.given.get(name)
        if given is None or given.columns is None:
            return None
        return parse_columns(", ".join(f"{name_text(column)} {kind}" for column, kind in given.columns.items()))

    def _append(self, name: str, rows: pa.Table) -> None:
        if rows.num_rows:
            writer = DataWriter(self._project.lake.table(name))
            writer.write(rows)
            self._project.commits.commit(Change(name, writer.finish()))

    def _made(self, name: str) -> pa.Table:
        """The rows of a table that the job reads; the table is made, with no row in it."""
        given = self._test.given.get(name)
        declared = self._project.declared_tables.tables.get(name)
        schema = None if declared is None else pa.schema([*declared.schema, *(each.column for each in declared.metadata)])
        schema = self._columns(name) or schema
        if given is None and (schema is None or not schema.names):
            raise DeclarationError(
                f"{self._test.path}: test {self._test.name!r} gives no rows of {name}, which job {self._job.name!r} reads",
                next_step=f"add to its given: {{table: {name}, columns: {{a: INT}}, rows: []}}",
            )
        rows = arrow_of(given or Rows(), schema, f"{self._test.path}: test {self._test.name!r}, table {name}")
        self._project.lake.ensure(TableSpec(name, pa.schema([field.with_nullable(True) for field in rows.schema])))
        return rows

    def _compared(self) -> Diff:
        project, target = self._project, self._job.target
        table = project.lake.table(target)
        schema = arrow_schema(table)
        where = f"{self._test.path}: test {self._test.name!r}, expect"
        expected = self._test.expected
        names = list(dict.fromkeys(name for row in expected.rows for name in row))
        if expected.sql is not None:
            names = run_query(expected.sql, {}).schema.names
        for name in names:
            if name not in schema.names:
                raise UnknownName(f"column of {target}, in {where}:", name, schema.names)
        kept = pa.schema([schema.field(name) for name in names or schema.names])
        wanted = arrow_of(expected, kept, where)
        splits = splits_at(table, snapshot_at(table))
        found = [row for batch in read(table, splits, kept.names) for row in batch.to_pylist()]
        return diff(wanted.to_pylist(), found)


def name_of(lookup: Outside) -> str:
    """As what a test gives the rows of a dimension outside of the lake: its path, or its table."""
    return lookup.path if isinstance(lookup, LookupFile) else lookup.table


def arrow_of(given: Rows, schema: pa.Schema | None, where: str) -> pa.Table:
    """Rows of a test as a table of `schema`; None: of the types that the values have. Raises SchemaMismatch, UnknownName."""
    if given.sql is not None:
        with run_query(given.sql, {}) as reader:
            rows = reader.read_all()
        return rows if schema is None else fit(rows, _nullable(schema), where)
    if schema is None or not schema.names:
        if not given.rows:
            raise DeclarationError(f"{where}: no row tells its columns; valid: columns: {{a: INT}} beside rows: []")
        return pl.DataFrame(list(given.rows), infer_schema_length=None).to_arrow()
    for name in (name for row in given.rows for name in row if name not in schema.names):
        raise UnknownName(f"column, in {where}:", name, schema.names)
    wanted = _nullable(storable(schema, where))
    try:
        return pa.Table.from_pylist([typed(row, wanted) for row in given.rows], schema=wanted)
    except (pa.ArrowException, TypeError, ValueError, InvalidOperation, OverflowError) as error:
        raise SchemaMismatch(f"{where}: a value does not fit its column: {error}") from error


def _nullable(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.with_nullable(True) for field in schema])


def typed(row: Row, schema: pa.Schema) -> Row:
    """The row with values as the columns' types have them: texts of times, dates and decimals are read. Pure."""
    return {name: _value(value, schema.field(name).type) for name, value in row.items()}


def _value(value: Any, arrow: pa.DataType) -> Any:
    types = pa.types
    if types.is_timestamp(arrow) and isinstance(value, str | date):
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        if arrow.tz is None:
            return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if types.is_date(arrow) and isinstance(value, str):
        return date.fromisoformat(value)
    if types.is_decimal(arrow) and isinstance(value, str | int | float):
        return Decimal(str(value))
    if types.is_floating(arrow) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if types.is_binary(arrow) and isinstance(value, str):
        return value.encode()
    return value
