"""Holds what a job makes against what is expected of it, step by step: rows on their way to the target, the table as a batch
makes it.

Where an expectation must hold (`fail`), a step's commit goes by way of a branch: see lakeflow/lake/publish.py.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any, assert_never

import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.declare import TableSpec
from lakeflow.errors import DeclarationError, ExpectationFailed, JobFailed, UsageError
from lakeflow.expect import Expectation, Finding, OnViolation
from lakeflow.job import Job
from lakeflow.lake.catalog import Lake, Table, arrow_schema
from lakeflow.lake.commit import Change, CommitProtocol, Committed, Committer
from lakeflow.lake.publish import AuditedCommitter
from lakeflow.lake.read import Snapshot, snapshot_at
from lakeflow.lake.schema import fit
from lakeflow.models.lost import Lost, LostRow, row_key, row_text
from lakeflow.runner.expected import Expected, expectations_of, expected, must_hold
from lakeflow.runner.expected_table import SAMPLE, Look, relations_of
from lakeflow.runner.querying import spilling
from lakeflow.sql.conditions import (
    violating,
)
from lakeflow.sql.execute import Limits

if TYPE_CHECKING:
    from lakeflow.runner.execute import Runtime
    from lakeflow.runner.plan import JobPlan

logger = logging.getLogger("lakeflow.runner")

LEAST_BYTES = 64 << 20
"""What a check may hold, however many run at once."""

SAMPLE_WIDTH = 300
EXPECTATION = "expectation"
"""The kind of a dead letter that is a row which violates one."""


def branch_of(job: Job) -> str:
    """The branch on which a batch of the job waits until it is seen to be as expected."""
    return f"lakeflow_audit_{job.name}"


@dataclass(frozen=True, slots=True)
class _Violation:
    """Why a row that is not as expected is left out."""

    message: str
    kind: str = EXPECTATION


@dataclass(slots=True)
class _Counted:
    violations: int = 0
    sample: list[str] = field(default_factory=list)

    def add(self, violations: int, sample: Sequence[str]) -> None:
        self.violations += violations
        self.sample += sample[: SAMPLE - len(self.sample)]


class Expecting:
    """The expectations of one run of a job. `memory_bytes` bounds what a check holds, `spool` is where it spills; `of_several`:
    the job makes a row of several, and makes it anew as more of them come."""

    def __init__(
        self,
        job: Job,
        target: str,
        declared: Mapping[str, TableSpec],
        lake: Lake,
        *,
        memory_bytes: int,
        of_several: bool = False,
        spool: Path | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.expectations = expectations_of(job, declared)
        self._job = job
        self._target = target
        self._lake = lake
        self._of_several = of_several
        self._memory_bytes = memory_bytes
        self._spool = spool or Path(gettempdir())
        self._clock = clock
        self._expected: Expected | None = None
        self._lock = threading.Lock()
        self._done = {one.name: _Counted() for one in self.expectations}
        self._step = {one.name: _Counted() for one in self.expectations}

    @classmethod
    def of(cls, plan: JobPlan, runtime: Runtime) -> Expecting:
        """The expectations of a run of a plan."""
        queries = runtime.queries
        return cls(
            plan.job,
            plan.target,
            runtime.declared,
            runtime.lake,
            memory_bytes=max(LEAST_BYTES, queries.memory_bytes // queries.workers),
            of_several=plan.keyed is not None or bool(plan.job.by) or plan.job.windowed is not None,
            spool=runtime.spool or queries.spool,
        )

    def bind(self, schema: pa.Schema) -> None:
        """Hold the expectations against the target's columns, once. Raises as `expected` does."""
        if self.expectations and self._expected is None:
            job = self._job
            where = f"{job.origin}: job {job.name!r}"
            letters = [one for one in self.expectations if one.on_violation is OnViolation.DEAD_LETTER]
            if self._of_several and letters:
                raise DeclarationError(
                    f"{where}, expectation {letters[0].name!r}: a row that is made of several has no dead letter; "
                    "valid: warn, drop, fail"
                )
            self._expected = expected(self.expectations, schema, where, self._target, self._lake)

    def commits(self, commits: CommitProtocol) -> CommitProtocol:
        """`commits`, by way of a branch where an expectation must hold, and looked at where one is of the table."""
        return _Looking(self, commits, self._target) if self.expectations else commits

    def begin(self) -> None:
        """Another step begins."""
        for name, counted in self._step.items():
            self._done[name].add(counted.violations, counted.sample)
        self._step = {one.name: _Counted() for one in self.expectations}

    def findings(self) -> tuple[Finding, ...]:
        """How each expectation has fared in the run so far."""
        found = []
        for one in self.expectations:
            total = _Counted()
            for counted in (self._done[one.name], self._step[one.name]):
                total.add(counted.violations, counted.sample)
            found.append(Finding(one, total.violations, tuple(total.sample)))
        return tuple(found)

    def tell(self) -> None:
        """Log what was violated."""
        for finding in self.findings():
            if finding.violations:
                logger.warning("job %s: %s", self._job.name, _said(finding))

    def kept(self, chunks: Iterator[pa.Table], target: Table, lost: Lost, *, again: bool = False) -> Iterator[pa.Table]:
        """The rows that are to be written, as they come; the others are counted, or left with `lost`.

        `again`: rows that were held against expectations before, of which nothing is told twice.
        """
        if self._expected is None or not self._expected.rows:
            yield from chunks
            return
        schema = arrow_schema(target)
        for chunk in chunks:
            rows = fit(chunk, schema, self._target)
            yield self._judged(rows, lost, again) if rows.num_rows else rows

    @property
    def holds_back(self) -> bool:
        """Whether a batch may be kept off main."""
        return must_hold(self.expectations)

    def _judged(self, rows: pa.Table, lost: Lost, again: bool) -> pa.Table:
        assert self._expected is not None, "expectations are bound before rows are read"
        with self._working_out():
            masks = self._masks(rows, self._expected)
        judged = [(one, mask) for (one, _), mask in zip(self._expected.rows, masks, strict=True) if mask.true_count]
        with self._lock:
            for one, mask in () if again else judged:
                self._step[one.name].add(mask.true_count, [_shown(row) for row in _first(rows.filter(mask))])
        out = [(one, mask) for one, mask in judged if one.on_violation.leaves_out]
        return self._left_out(rows, out, lost) if out else rows

    def _masks(self, rows: pa.Table, expected: Expected) -> list[pa.BooleanArray]:
        """For each expectation of rows, which of them violate it. Only what refers to other tables may have to spill."""
        conditions = [condition for _, condition in expected.rows]
        if not expected.relations:
            return violating(rows, conditions, {}, Limits(memory_bytes=self._memory_bytes, threads=1, in_order=True))
        with spilling(self._spool, self._memory_bytes) as limits:
            return violating(rows, conditions, expected.relations, replace(limits, threads=1, in_order=True))

    @contextmanager
    def _working_out(self) -> Iterator[None]:
        """What a condition meets in the rows, such as a text that is no number, is the job's failure."""
        try:
            yield
        except UsageError as error:
            raise JobFailed(
                f"job {self._job.name!r} ({self._job.origin}): an expectation of {self._target} cannot be worked out: "
                f"{error.message}",
                left_behind=f"{self._target}, as of the last step that was committed",
                next_step=f"mend it (TRY_CAST gives null in place of an error), then: lakeflow run {self._job.name}",
            ) from error

    def _left_out(self, rows: pa.Table, out: Sequence[tuple[Expectation, pa.BooleanArray]], lost: Lost) -> pa.Table:
        """The rows that stay. One that violates several becomes a dead letter where one of them says so."""
        gone = reduce(pc.or_, (mask for _, mask in out))
        letters = [(one, mask) for one, mask in out if one.on_violation is OnViolation.DEAD_LETTER]
        told = reduce(pc.or_, (mask for _, mask in letters)) if letters else None
        if told is not None:
            places = pc.indices_nonzero(told).to_pylist()
            names = [next(one.name for one, mask in letters if mask[place].as_py()) for place in places]
            self._leave(rows.filter(told).to_pylist(), names, lost)
        lost.skip(gone.true_count - (told.true_count if told is not None else 0))
        return rows.filter(pc.invert(gone))

    def _leave(self, rows: Sequence[Mapping[str, Any]], names: Sequence[str], lost: Lost) -> None:
        """Rows that have a letter already, of an earlier try at the step, get no second one."""
        keys = [row_key(EXPECTATION, row) for row in rows]
        held = lost.held(keys) if lost.holds else [False] * len(keys)
        new = [
            LostRow(None, key, row_text(row), _Violation(f"expectation {name!r} is violated"))
            for row, name, key, is_held in zip(rows, names, keys, held, strict=True)
            if not is_held
        ]
        if new:
            lost.keep(new)

    def look(self, table: Table, snapshot: Snapshot, change: Change) -> None:
        """Hold what is expected of the table against what the change made of it."""
        assert self._expected is not None, "expectations are bound before a commit"
        if not self._expected.facts:
            return
        relations = relations_of(table, snapshot, change)
        with self._working_out(), spilling(self._spool, self._memory_bytes) as limits:
            looking = Look(table, snapshot, change, relations, limits, self._lake, self._job, self._clock())
            found = {one.name: looking.at(one, condition) for one, condition in self._expected.facts}
        with self._lock:
            for name, (violations, sample) in found.items():
                self._step[name] = _Counted(violations, [_shown(row) for row in sample])

    def require(self, table: Table, snapshot: Snapshot, change: Change) -> None:
        """See `look`. Raises ExpectationFailed where the batch violates what must hold."""
        self.look(table, snapshot, change)
        broken = [
            Finding(one, counted.violations, tuple(counted.sample))
            for one in self.expectations
            if one.on_violation is OnViolation.FAIL and (counted := self._step[one.name]).violations
        ]
        if not broken:
            return
        branch, job = branch_of(self._job), self._job
        said = "\n".join(f"  {_said(finding)}" for finding in broken)
        raise ExpectationFailed(
            f"job {job.name!r} ({job.origin}): a batch for {self._target} is not as expected, and does not go to main:\n{said}",
            self.findings(),
            left_behind=f"the batch, on branch {branch!r} of {self._target} until the job runs again; main, as it was before",
            next_step=f"lakeflow query \"SELECT * FROM {self._target} FOR VERSION AS OF '{branch}'\" shows it; "
            f"mend the job, what it reads or what is expected, then: lakeflow run {job.name}",
        )


class _Looking:
    """The commits of a job with expectations; those to other tables go as they are."""

    def __init__(self, expecting: Expecting, commits: CommitProtocol, target: str) -> None:
        self._expecting = expecting
        self._commits = commits
        self._target = target
        if expecting.holds_back and not isinstance(commits, Committer):
            raise UsageError("an expectation that must hold needs the branches of a catalog's tables")

    def progress(self, table: str, writer: str) -> str | None:
        return self._commits.progress(table, writer)

    def commit(self, change: Change) -> Committed:
        expecting = self._expecting
        if change.table != self._target:
            return self._commits.commit(change)
        if expecting.holds_back:
            assert isinstance(self._commits, Committer), "looked at as this was made"
            return AuditedCommitter(self._commits, branch_of(expecting._job), expecting.require).commit(change)
        committed = self._commits.commit(change)
        table = expecting._lake.table(change.table)
        snapshot = snapshot_at(table, snapshot_id=committed.snapshot_id)
        assert snapshot is not None, "it has just been made"
        expecting.look(table, snapshot, change)
        return committed


def _first(rows: pa.Table) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = rows.slice(0, SAMPLE).to_pylist()
    return found


def _shown(row: Mapping[str, Any]) -> str:
    text = row_text(row).decode()
    return text if len(text) <= SAMPLE_WIDTH else text[: SAMPLE_WIDTH - 1] + "…"


def _said(finding: Finding) -> str:
    one = finding.expectation
    match one.on_violation:
        case OnViolation.WARN | OnViolation.FAIL:
            outcome = ""
        case OnViolation.DROP:
            outcome = " and left out"
        case OnViolation.DEAD_LETTER:
            outcome = " and kept as dead letters"
        case _:
            assert_never(one.on_violation)
    times = f"{finding.violations:,} time{'s' if finding.violations > 1 else ''}"
    return f"expectation {one.name!r} is violated {times}{outcome}, as in {' '.join(finding.sample)}"
