"""What a job in SQL keeps by key between its runs, and where that stands: a table of the namespace `lakeflow`. Metadata only.

A step of such a job is two commits. The first puts what is kept of the groups that the step touches into the state table, each
row with the step's number, and with progress that says which step that was. The second puts the rows of those groups into the
target, with the job's progress. A run that dies in between leaves the state table one step ahead: the next run makes the
target's rows of the rows with that number, and reads no source.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from lakeflow.declare import SYSTEM_NAMESPACE
from lakeflow.errors import SourceChanged, Terminal, UsageError
from lakeflow.job import Job, SqlQuery
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import CommitProtocol, fenced
from lakeflow.sql.compile import compile_query
from lakeflow.sql.compiled import Compiled, Names
from lakeflow.sql.incremental_keys import Column, Incremental
from lakeflow.sql.keyed import fingerprint, keyed_query


@dataclass(frozen=True, slots=True)
class Kept:
    """The progress of a state table: its last step took the job from `start` to `end` and has the number `step`.

    `target` is the identity of the table that the job writes, `query` the fingerprint of the query that rows are kept for.
    With `whole`, the step read everything, and the target is to be replaced. It read `read` rows, of which models left so many
    without an answer: `dead_lettered`, and `skipped`.
    """

    start: str | None
    end: str
    step: int
    target: str
    query: str
    whole: bool = False
    read: int = 0
    dead_lettered: int = 0
    skipped: int = 0

    def dumps(self) -> str:
        """A JSON object with the fields."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__}, separators=(",", ":"))

    @staticmethod
    def loads(text: str | None) -> Kept | None:
        """The inverse of `dumps`; None where nothing is kept yet. Raises Terminal where the string is of another form."""
        if text is None:
            return None
        try:
            fields = json.loads(text)
            counts = (int(fields[name]) for name in ("read", "dead_lettered", "skipped"))
            target, query, whole = str(fields["target"]), str(fields["query"]), bool(fields["whole"])
            return Kept(fields["start"], str(fields["end"]), int(fields["step"]), target, query, whole, *counts)
        except (ValueError, KeyError, TypeError) as error:
            raise Terminal(f"progress of what a job keeps is not readable: {text[:200]!r}") from error


class Standing(Enum):
    """How what is kept stands to the target."""

    LEVEL = auto()
    """Both are after the same step."""
    AHEAD = auto()
    """The last step of what is kept has not come to the target."""
    NOTHING = auto()
    """Nothing is kept for this target, which has had no step either."""


@dataclass(frozen=True, slots=True)
class KeyedPlan:
    """How a planned job goes on by key: the query in its parts, `compiled` its first, and the state table.

    `kept` is what the table shows, `fingerprint` the query's, `written` whether the job has written the target before.
    """

    query: Incremental
    compiled: Compiled
    table: str
    writer: str
    fingerprint: str
    kept: Kept | None

    def ahead(self, job: Job, target: str | None, start: str | None, now: Callable[[], str | None]) -> str | None:
        """Up to where a step has been kept that has not come to the target; None where there is none. Raises as `standing`."""
        standing = self.standing(job, self.kept, target, start, now)
        return self.kept.end if self.kept is not None and standing is Standing.AHEAD else None

    def standing(
        self, job: Job, kept: Kept | None, target: str | None, start: str | None, now: Callable[[], str | None]
    ) -> Standing:
        """Where `kept` stands to a target of this identity, whose progress was `start`; `now` looks what it is by now.

        Raises SourceChanged where what is kept is not of the rows that the target was made of, Fenced where another run of the
        job has come between the two looks.
        """
        mine = kept is not None and kept.target == target and kept.query == self.fingerprint
        if kept is not None and mine and kept.start == start and kept.end != start:
            return Standing.AHEAD
        if start is None:
            return Standing.NOTHING
        if kept is not None and mine and kept.end == start:
            return Standing.LEVEL
        if (found := now()) != start:
            raise fenced(job.target, job.writer, start, found)
        raise _astray(job, self, kept, target)


def keyed_plan(job: Job, target: str, lake: Lake, commits: CommitProtocol, compiled: Compiled, names: Names) -> KeyedPlan:
    """The plan of a job by key. `compiled` is its query as written. Raises UsageError for what cannot be kept."""
    query = job.body
    assert isinstance(query, SqlQuery), "the caller looked"
    keyed = keyed_query(query.text)
    assert keyed is not None, "the declaration said so"
    try:
        first = compile_query(keyed.new, names)
        columns = [Column(name, kind) for name, kind in zip(first.columns.names, first.types, strict=True)]
        bound = keyed.bound(columns, compiled.columns.names)
        first = first if bound.new == keyed.new else compile_query(bound.new, names)
    except UsageError as error:
        raise UsageError(
            f"{job.origin.path}: job {job.name!r}: what the query would keep by key between runs cannot be computed: "
            f"{error.message}",
            next_step=f"lakeflow run {job.name} --mode snapshot, or INSERT OVERWRITE {job.target} in its file",
        ) from error
    table, writer = state_table(job, target), f"state.{job.name}"
    return KeyedPlan(bound, first, table, writer, fingerprint(query.text), Kept.loads(commits.progress(table, writer)))


def state_table(job: Job, target: str) -> str:
    """Where a job keeps what it keeps: lakeflow.state_NAME; a name with other signs, or another target, makes it longer."""
    plain = re.sub(r"\W", "_", job.name, flags=re.ASCII)
    same = plain == job.name.lower() and target == job.target
    more = "" if same else f"_{hashlib.sha256(f'{job.name} {target}'.encode()).hexdigest()[:8]}"
    return f"{SYSTEM_NAMESPACE}.state_{plain.lower()}{more}"


def identity(lake: Lake, target: str) -> str | None:
    """The identity of a table; None where there is none."""
    table = lake.find(target)
    return None if table is None else str(table.metadata.table_uuid)


def _astray(job: Job, plan: KeyedPlan, kept: Kept | None, target: str | None) -> SourceChanged:
    if kept is None:
        why = f"{plan.table}, which keeps what it must know of earlier rows, holds nothing"
    elif kept.target != target:
        why = f"{plan.table} keeps what it must know of earlier rows for a table that {job.target} took the place of"
    elif kept.query != plan.fingerprint:
        why = f"its query is another than the one that {plan.table} keeps earlier rows for"
    else:
        why = f"{plan.table}, which keeps what it must know of earlier rows, and its target are not after the same step"
    return SourceChanged(
        f"job {job.name!r} ({job.origin}) cannot go on from its last run: {why}",
        left_behind=f"{job.target}, as of the last run",
        next_step=f"lakeflow run {job.name} --mode snapshot, which reads the tables whole and goes on from there",
    )
