"""How far each landing, job, index and sink has come, and how stale it is. Reads metadata only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from lakeflow.errors import LakeflowError, SourceChanged
from lakeflow.job import Caps, Job, Mode, Read
from lakeflow.lake.catalog import Lake, Table
from lakeflow.lake.commit import CommitProtocol
from lakeflow.lake.history import PROGRESS, ancestors
from lakeflow.landing.ledger import WRITER
from lakeflow.landing.plan import LandingPlan, plan_landings
from lakeflow.landing.produce_open import SinkPlan, declared_sink, plan_sink, run_name
from lakeflow.landing.produce_spec import has_sink
from lakeflow.landing.spec import is_landed
from lakeflow.runner.due import is_stale
from lakeflow.runner.index_plan import IndexPlan, plan_index
from lakeflow.runner.on_change import batches_of
from lakeflow.runner.project import Project
from lakeflow.runner.suspension import is_suspended


@dataclass(frozen=True, slots=True)
class Standing:
    """One landing, job, index or sink. `behind` is records of a topic for a landing, else rows of a table; None: not known.

    `files_behind` are the data files that these rows are in. `updated` is its last commit that is kept. `records_per_second`
    is what a landing read over its last RATED commits, time without records included.
    """

    kind: str
    name: str
    table: str
    state: str
    behind: int | None = None
    files_behind: int | None = None
    updated: datetime | None = None
    records_per_second: float | None = None


RATED = 10


def standings(project: Project, *, timeout: float) -> Iterator[Standing]:
    """Landings, then jobs and indexes in the order of the graph, then sinks. Brokers get `timeout` seconds for an answer, once.

    What cannot be told, for its table cannot be read, says why as its state. Raises CatalogUnavailable, ConfigError where
    the catalog cannot be opened at all.
    """
    lake = project.lake
    yield from _landings(project, timeout)
    for node in project.nodes:
        try:
            if isinstance(node.work, Job):
                yield job_standing(node.work, lake, project.commits)
            else:
                yield index_standing(plan_index(node.work, project.index_room))
        except LakeflowError as error:
            kind = "job" if isinstance(node.work, Job) else "index"
            yield _not_told(kind, node.name, node.writes or node.reads[0], error)
    yield from _sinks(project, timeout)


def _sinks(project: Project, timeout: float) -> Iterator[Standing]:
    """Each sink against its table's head; after one whose brokers do not answer the others are not asked."""
    away: str | None = None
    for table in filter(has_sink, project.declared_tables.tables.values()):
        name = run_name(table.name)
        try:
            spec = declared_sink(table, project.settings)
        except LakeflowError as error:
            yield _not_told("sink", name, table.name, error)
            continue
        plan = SinkPlan(spec, problem=away) if away else plan_sink(spec, project.settings, project.lake, timeout=timeout)
        away = plan.problem if plan.is_away else away
        state = plan.problem or ("never ran" if plan.is_new else "behind" if plan.transactions else "up to date")
        yield Standing("sink", name, table.name, state, plan.rows, plan.files if plan.rows is not None else None)


def _landings(project: Project, timeout: float) -> Iterator[Standing]:
    """Each landing. After one that cannot be told the plan of the others is begun anew, brokers and all."""
    left = [spec for spec in project.declared_tables.tables.values() if is_landed(spec)]
    while left:
        try:
            for plan in plan_landings(tuple(left), project.settings, project.lake, project.commits, timeout=timeout):
                yield landing_standing(plan, project.lake)
                left.pop(0)
        except LakeflowError as error:
            spec = left.pop(0)
            yield _not_told("landing", spec.name, spec.name, error)


def _not_told(kind: str, name: str, table: str, error: LakeflowError) -> Standing:
    return Standing(kind, name, table, f"cannot be told: {error.message}")


def landing_standing(plan: LandingPlan, lake: Lake) -> Standing:
    """A landing against its topic's end."""
    if plan.problem:
        state = plan.problem
    elif plan.waiting:
        state = "behind"
    else:
        state = "up to date"
    if plan.is_new or not lake.exists(plan.table):
        return Standing("landing", plan.table, plan.table, state, plan.waiting)
    commits = landing_commits(lake.table(plan.table))
    updated = commits[0].at if commits else None
    return Standing("landing", plan.table, plan.table, state, plan.waiting, updated=updated, records_per_second=rate(commits))


@dataclass(frozen=True, slots=True)
class LandingCommit:
    """When a landing committed, and how many records it had read for it."""

    at: datetime
    records: int


def landing_commits(table: Table, most: int = RATED) -> list[LandingCommit]:
    """A landing's newest commits on main that are kept, the newest first."""
    found: list[LandingCommit] = []
    for snapshot in ancestors(table.metadata):
        facts = {} if snapshot.summary is None else snapshot.summary.additional_properties
        if PROGRESS + WRITER in facts:
            records = int(facts.get("lakeflow.records-read", "0"))
            found.append(LandingCommit(datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC), records))
        if len(found) == most:
            break
    return found


def rate(commits: Sequence[LandingCommit]) -> float | None:
    """Records a second from the oldest of the commits, the newest first, to the newest; None for fewer than two. Pure."""
    if len(commits) < 2 or commits[0].at <= commits[-1].at:
        return None
    seconds = (commits[0].at - commits[-1].at).total_seconds()
    return round(sum(commit.records for commit in commits[:-1]) / seconds, 1)


def job_standing(job: Job, lake: Lake, commits: CommitProtocol) -> Standing:
    """A job against the head of the first table that it reads, whose position is its progress."""
    if missing := [table for table in job.reads if not lake.exists(table)]:
        return Standing("job", job.name, job.target, f"waits for {', '.join(missing)}, not there yet")
    source = next(source for source in job.inputs.values() if isinstance(source, Read))
    start = commits.progress(job.target, job.writer)
    updated = committed_at(lake, job.target, job.writer)
    try:
        table = lake.table(source.table)
        batches = tuple(batches_of(job, source.table, table, start, Caps()))
    except SourceChanged as change:
        state = "behind" if job.mode is Mode.SNAPSHOT else f"needs a snapshot run: {change.message}"
        return Standing("job", job.name, job.target, state, updated=updated)
    splits = [split for batch in batches for split in (*batch.splits, *batch.removed)]
    state = "never ran" if start is None else "behind" if splits else "up to date"
    if splits and is_stale(job, updated, datetime.now(UTC)):
        state = f"stale: {state}, and its freshness is {job.schedule}"
    if is_suspended(job, lake):
        state = f"suspended, {state}"
    return Standing("job", job.name, job.target, state, sum(split.rows for split in splits), len(splits), updated)


def index_standing(plan: IndexPlan) -> Standing:
    """An index against its table's head."""
    updated = plan.state.updated_at if plan.state else None
    known = plan.table_exists and not plan.refused
    return Standing(
        "index",
        plan.spec.name,
        plan.spec.table,
        plan.standing,
        plan.rows if known else None,
        plan.files if known else None,
        updated,
    )


def committed_at(lake: Lake, table: str, writer: str) -> datetime | None:
    """When the writer's last commit on main was made, as far as snapshots are kept; None for a table that is not there."""
    if not lake.exists(table):
        return None
    for snapshot in ancestors(lake.table(table).metadata):
        if snapshot.summary is not None and PROGRESS + writer in snapshot.summary.additional_properties:
            return datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC)
    return None
