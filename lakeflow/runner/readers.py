"""Who of the project reads a table incrementally, and how far each has come."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lakeflow.errors import LakeflowError, Terminal
from lakeflow.job import Job, Mode, OnChange, Read
from lakeflow.lake.compact_plan import Readers
from lakeflow.progress import JobProgress, SnapshotPosition
from lakeflow.runner.graph import Node
from lakeflow.runner.indexing import index_state
from lakeflow.runner.project import Project

logger = logging.getLogger("lakeflow.runner")


@dataclass(frozen=True, slots=True)
class Reading:
    """A job or an index that reads a table. `position` of None: it has not begun.

    One that `begins_anew` by itself, as an index does, needs nothing kept before it has begun. `by_key` says whether
    it goes by the order of rows in the whole table, since the last row of a key wins.
    """

    name: str
    position: SnapshotPosition | None
    by_key: bool
    incremental: bool = True
    begins_anew: bool = False


def readers_of(project: Project, table: str) -> Readers:
    """The readers of a table. Raises CatalogUnavailable, StorageUnavailable, and DeclarationError for jobs that do not load."""
    if not project.lake.exists(table):
        return Readers()
    return readers_at(_readings(project, table), str(project.lake.table(table).metadata.table_uuid))


def readers_at(readings: Iterable[Reading], table_uuid: str) -> Readers:
    """What `readings` mean for a table of that identity: positions in an earlier table of its name bind nothing. Pure."""
    readings = tuple(readings)
    live = [one for one in readings if one.incremental]
    positions = tuple(one.position for one in live if one.position is not None and one.position.table_uuid == table_uuid)
    unread = tuple(one.name for one in live if one.position is None and not one.begins_anew)
    return Readers(positions, unread, any(one.by_key for one in readings))


def followed_from(project: Project, table: str) -> int | None:
    """From which sequence number on jobs that follow changed rows need the snapshots of a table; None where none does.

    Where jobs do not load, or cannot tell how far they are, all are needed.
    """
    if _is_sent_by_key(project, table):
        return 0
    try:
        following = [job for job in _jobs_over(project, table) if job.on_change is not OnChange.FAIL]
        if not following:
            return None
        known = [_position(project, job, table) for job in following]
        table_uuid = str(project.lake.table(table).metadata.table_uuid)
    except LakeflowError as error:
        logger.warning("snapshots of %s are kept, since it cannot be told who needs them: %s", table, error.message)
        return 0
    return min((one.sequence for one in known if one is not None and one.table_uuid == table_uuid), default=None)


def _is_sent_by_key(project: Project, table: str) -> bool:
    """Whether the table's sink follows changed rows. How far it is the brokers know, which no commit is to wait for."""
    spec = project.declared_tables.tables.get(table)
    if spec is None or "sink.topic" not in spec.options:
        return False
    keyed = bool(spec.options.get("sink.key") or spec.primary_key)
    return keyed and spec.options.get("sink.on_change", "follow") == "follow"


def _jobs_over(project: Project, table: str) -> Iterator[Job]:
    for node in project.nodes:
        if isinstance(node.work, Job) and Read(table) in node.work.inputs.values():
            yield node.work


def _readings(project: Project, table: str) -> Iterator[Reading]:
    for node in project.nodes:
        if table in node.reads:
            yield from _reading(project, node, table)


def _reading(project: Project, node: Node, table: str) -> Iterator[Reading]:
    if isinstance(node.work, Job):
        job = node.work
        if any(isinstance(source, Read) and source.table == table for source in job.inputs.values()):
            incremental = job.mode is Mode.INCREMENTAL
            position = _position(project, job, table) if incremental else None
            yield Reading(f"job {job.name}", position, bool(job.key), incremental)
        return
    try:
        state = index_state(node.work, project.index_room)
    except Terminal:  # it is built anew before it is read from again
        state = None
    yield Reading(f"index {node.name}", state.position if state else None, True, begins_anew=True)


def _position(project: Project, job: Job, table: str) -> SnapshotPosition | None:
    """The job's position in a table; one that cannot be told binds like one that has not begun."""
    table_uuid = str(project.lake.table(table).metadata.table_uuid)
    first = next(source.table for source in job.inputs.values() if isinstance(source, Read))
    try:
        return JobProgress.loads(project.commits.progress(job.target, job.writer), first).of(table, table_uuid)
    except Terminal:
        return None
