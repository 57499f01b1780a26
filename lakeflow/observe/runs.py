"""The system tables lakeflow.runs, one row a run of a landing, a job or an index, and lakeflow.usage, one a run and model."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

import pyarrow as pa

from lakeflow.config import Settings, redact
from lakeflow.declare import TableSpec
from lakeflow.errors import ExpectationFailed, LakeflowError, Suspended
from lakeflow.expect import Finding, together
from lakeflow.lake.catalog import SYSTEM_NAMESPACE, Lake
from lakeflow.lake.commit import Change, CommitProtocol
from lakeflow.lake.write import DataWriter
from lakeflow.landing.counts import Landed
from lakeflow.models.usage import Asked
from lakeflow.observe import expectations
from lakeflow.observe.expectations import expectation_rows

logger = logging.getLogger("lakeflow.observe")

RUNS = f"{SYSTEM_NAMESPACE}.runs"
USAGE = f"{SYSTEM_NAMESPACE}.usage"
EVALUATION = "evaluation"
"""The kind of a run that is named after a model, for what that was asked; its rows are counted in lakeflow.evaluations."""


class Status(StrEnum):
    """How a run ended. `stopped`: by a signal, with its last commit finished."""

    DONE = "done"
    EMPTY = "empty"
    STOPPED = "stopped"
    SUSPENDED = "suspended"
    FAILED = "failed"


@dataclass(slots=True)
class Run:
    """One execution, as it is recorded. Counts are rows: read = written + dead_lettered + skipped + filtered.

    `written` is more than `read` where a job makes several rows of one. `start_position` and `end_position` are the
    progress before and after. `usage` is what each model was asked, `models` the versions that were used, as `m$2`,
    `findings` how its expectations fared.
    """

    kind: str
    name: str
    table: str
    mode: str
    run_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended_at: datetime | None = None
    status: Status = Status.DONE
    read: int = 0
    written: int = 0
    dead_lettered: int = 0
    skipped: int = 0
    filtered: int = 0
    start_position: str | None = None
    end_position: str | None = None
    snapshot_ids: tuple[int, ...] = ()
    error: str | None = None
    usage: Mapping[str, Asked] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    def add(self, landed: Landed) -> None:
        """Add what a landing did to the run, which may be of several, one after the other."""
        counts = landed.counts
        self.read += counts.read
        self.written += counts.written
        self.dead_lettered += counts.dead_lettered
        self.skipped += counts.skipped
        self.filtered += counts.filtered
        self.start_position = self.start_position or landed.start.dumps()
        self.end_position = landed.end.dumps()
        self.snapshot_ids += landed.snapshots
        self.findings = together(self.findings, landed.findings)

    @property
    def asked(self) -> Asked:
        """What all models together were asked."""
        return sum(self.usage.values(), Asked())

    @property
    def seconds(self) -> float:
        return ((self.ended_at or datetime.now(UTC)) - self.started_at).total_seconds()


_TIME = pa.timestamp("us", "UTC")
SCHEMA = pa.schema(
    [
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("table", pa.string()),
        pa.field("mode", pa.string()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("started_at", _TIME, nullable=False),
        pa.field("ended_at", _TIME, nullable=False),
        pa.field("read", pa.int64()),
        pa.field("written", pa.int64()),
        pa.field("dead_lettered", pa.int64()),
        pa.field("skipped", pa.int64()),
        pa.field("filtered", pa.int64()),
        pa.field("start_position", pa.string()),
        pa.field("end_position", pa.string()),
        pa.field("snapshot_ids", pa.list_(pa.int64())),
        pa.field("error", pa.string()),
        pa.field("model_calls", pa.int64()),
        pa.field("model_tokens", pa.int64()),
        pa.field("model_cost", pa.float64()),
        pa.field("models", pa.list_(pa.string())),
    ]
)
USAGE_SCHEMA = pa.schema(
    [
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("started_at", _TIME, nullable=False),
        pa.field("rows", pa.int64()),
        pa.field("calls", pa.int64()),
        pa.field("cached", pa.int64()),
        pa.field("failed", pa.int64()),
        pa.field("input_tokens", pa.int64()),
        pa.field("output_tokens", pa.int64()),
        pa.field("cost", pa.float64()),
        pa.field("seconds", pa.float64()),
        pa.field("answered", pa.int64()),
        pa.field("reused", pa.int64()),
    ]
)


class RunLog:
    """Records runs in lakeflow.runs, what models were asked in lakeflow.usage, how expectations fared in lakeflow.expectations.

    That a run could not be recorded is logged, and changes nothing about the run.
    """

    def __init__(self, lake: Lake, commits: CommitProtocol, settings: Settings) -> None:
        self._lake = lake
        self._commits = commits
        self._settings = settings

    @contextmanager
    def recorded(self, run: Run, *, even_empty: bool = True) -> Iterator[Run]:
        """The block is the run: it fills in `run`, and how it ends is recorded. What it raises is raised on.

        Without `even_empty`, a run that ends as `Status.EMPTY` is not recorded.
        """
        try:
            yield run
        except BaseException as error:
            run.status = Status.SUSPENDED if isinstance(error, Suspended) else Status.FAILED
            if isinstance(error, ExpectationFailed):
                run.findings = error.findings
            run.error = redact(str(error) or type(error).__name__, self._settings)
            raise
        finally:
            run.ended_at = datetime.now(UTC)
            if even_empty or run.status is not Status.EMPTY:
                self._record(run)

    def _record(self, run: Run) -> None:
        asked = run.asked
        totals = {
            "model_calls": asked.requests,
            "model_tokens": asked.input_tokens + asked.output_tokens,
            "model_cost": asked.cost,
        }
        try:
            spec = TableSpec(RUNS, SCHEMA, comment="one row a run of a landing, a job or an index")
            self._append(spec, [{**asdict(run), "status": str(run.status), **totals}])
            if run.usage:
                self._append(TableSpec(USAGE, USAGE_SCHEMA, comment="one row a run and model"), usage_rows(run))
            if run.findings:
                told = expectation_rows(run.run_id, run.name, run.table, run.started_at, run.findings, self._settings)
                self._append(expectations.SPEC, told)
        except LakeflowError as error:
            said = redact(error.message, self._settings)
            logger.warning("run %s of %s could not be recorded in %s: %s", run.run_id, run.name, RUNS, said)

    def _append(self, spec: TableSpec, rows: Sequence[Mapping[str, object]]) -> None:
        writer = DataWriter(self._lake.ensure(spec, evolve=True, wider=True))
        writer.write(pa.Table.from_pylist(rows, schema=spec.schema))
        self._commits.commit(Change(spec.name, writer.finish()))


def usage_rows(run: Run) -> list[dict[str, object]]:
    """A row a model, of the schema of lakeflow.usage. `calls` are requests to a service; a local model has none."""
    shared = {"run_id": run.run_id, "name": run.name, "started_at": run.started_at}
    return [{**shared, **asdict(asked), "model": model, "calls": asked.requests} for model, asked in sorted(run.usage.items())]
