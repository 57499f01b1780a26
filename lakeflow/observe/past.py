"""What ran: the newest rows of lakeflow.runs, read from its newest files on. A run is recorded as it ends."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lakeflow.job import Job
from lakeflow.lake.catalog import Lake
from lakeflow.lake.read import read, snapshot_at, splits_at
from lakeflow.observe.runs import EVALUATION, RUNS, Status
from lakeflow.observe.status import committed_at
from lakeflow.runner.due import AHEAD, due_at

Row = dict[str, Any]
LOOKED_AT = 1000
FAILURES = (Status.FAILED, Status.SUSPENDED)
ENDED_WELL = (Status.DONE, Status.EMPTY)


def recent_runs(lake: Lake, *, last: int, name: str | None = None, failed: bool = False) -> list[Row]:
    """The `last` runs that ended last, the last one first; of one landing, job or index, or those that failed, where asked for.

    Holds no more than these and one file's rows. Files are read newest first, and no more of them than needed.
    """

    def wanted(row: Row) -> bool:
        return (name is None or row["name"] == name) and (not failed or row["status"] in FAILURES)

    return newest(_files(lake), last, wanted)


def last_runs(lake: Lake, names: Iterable[str]) -> dict[str, Row]:
    """The newest run of each landing, job or index of these names, among the newest thousand files of runs."""
    missing = set(names)
    found: dict[str, Row] = {}
    for number, rows in enumerate(_files(lake)):
        for row in sorted(rows, key=_ended, reverse=True):
            if row["name"] in missing and row["kind"] != EVALUATION:
                missing.remove(row["name"])
                found[row["name"]] = row
        if not missing or number == LOOKED_AT:
            break
    return found


def last_begun(lake: Lake, jobs: Iterable[Job]) -> dict[str, datetime]:
    """When the last run of each job that came to its end began, as far as that is known, for `due_at`.

    As the newest thousand files of runs tell, or else the job's last commit that its target keeps. A run that
    says to have begun later than the clock allows is passed over: the clock was wrong then.
    """
    wanted = {job.name: job for job in jobs}
    believed = datetime.now(UTC) + AHEAD
    found: dict[str, datetime] = {}
    for number, rows in enumerate(_files(lake) if wanted else ()):
        for row in rows:
            name, began = row["name"], row["started_at"]
            counts = row["kind"] == "job" and row["status"] in ENDED_WELL and began <= believed
            if counts and name in wanted and row["table"] == wanted[name].target:
                found[name] = max(began, found.get(name, began))
        if len(found) == len(wanted) or number == LOOKED_AT:
            break
    for name, job in wanted.items():
        if name not in found and (committed := committed_at(lake, job.target, job.writer)) is not None:
            found[name] = committed
    return found


@dataclass(frozen=True, slots=True)
class Due:
    """When a job's last run that came to its end began, and since when it is due or will be; None: never ran, so due now."""

    last: datetime | None
    at: datetime | None


def due_times(lake: Lake, jobs: Iterable[Job]) -> dict[str, Due]:
    """The jobs that have a schedule, by name. Raises CatalogUnavailable."""
    scheduled = [job for job in jobs if job.schedule is not None]
    last, now = last_begun(lake, scheduled), datetime.now(UTC)
    return {
        job.name: Due(last.get(job.name), due_at(job, last[job.name], now) if job.name in last else None) for job in scheduled
    }


def newest(files: Iterable[Iterable[Row]], last: int, wanted: Callable[[Row], bool]) -> list[Row]:
    """The `last` newest rows that are wanted, out of files whose rows are older from file to file. Pure."""
    kept: list[tuple[Any, int, Row]] = []
    number = 0
    for rows in files:
        for row in filter(wanted, rows):
            number += 1
            heapq.heappush(kept, (_ended(row), number, row))
            if len(kept) > last:
                heapq.heappop(kept)
        if len(kept) == last:
            break
    return [row for _, _, row in sorted(kept, reverse=True)]


def _files(lake: Lake) -> Iterator[list[Row]]:
    """The rows of each file of lakeflow.runs, the last committed file first; none where nothing ran yet."""
    if not lake.exists(RUNS):
        return
    table = lake.table(RUNS)
    for split in reversed(splits_at(table, snapshot_at(table))):
        yield [row for batch in read(table, [split]) for row in batch.to_pylist()]


def _ended(row: Row) -> Any:
    return row["ended_at"]
