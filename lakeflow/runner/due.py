"""Which jobs are due: by their cron expression, or by how old they let their target get. Pure; the moments are passed in.

A job is due once a moment of its schedule has come after its last run that came to its end began. Of several moments that were
missed, one run makes up for all. A job without a schedule is due whenever it is asked for, one that never ran is due at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import assert_never

from lakeflow.job import Job
from lakeflow.schedule import Cron

AHEAD = timedelta(hours=1)
"""How far a run may lie ahead of the clock, which was set back then, and still count as the last one."""
ALWAYS = datetime.min.replace(tzinfo=UTC)
"""The moment from which on a job is due that has no schedule, or never ran."""


def due_at(job: Job, last: datetime | None, now: datetime) -> datetime:
    """When a job is due next, or has been since: the first moment that was missed. `last` is when its last run began.

    A `last` far ahead of the clock is taken for now, so that a clock which is set right does not hold a job up.
    """
    if job.schedule is None or last is None:
        return ALWAYS
    if last > now + AHEAD:
        last = now
    match job.schedule:
        case Cron() as cron:
            return cron.after(last)
        case timedelta() as freshness:
            return min(last, now) + freshness
        case _:
            assert_never(job.schedule)


def is_stale(job: Job, updated: datetime | None, now: datetime) -> bool:
    """Whether a table that is behind what it reads, and was `updated` last then, is so for longer than its freshness allows."""
    freshness = job.schedule
    return isinstance(freshness, timedelta) and (updated is None or now - updated > freshness)


class Timetable:
    """Which jobs are due in the rounds of one process. `begun` says when the last run of each began, as far as known.

    `clock` gives aware moments.
    """

    def __init__(self, clock: Callable[[], datetime], begun: Mapping[str, datetime]) -> None:
        self._clock = clock
        self._begun = dict(begun)
        self._before: dict[str, datetime | None] = {}

    def take(self, job: Job) -> bool:
        """Whether a job is to run in this round; if so it counts as begun now."""
        now = self._clock()
        if due_at(job, self._begun.get(job.name), now) > now:
            return False
        self._before[job.name] = self._begun.get(job.name)
        self._begun[job.name] = now
        return True

    def failed(self, name: str) -> None:
        """The run that a job was taken for did not come to its end: it stays due."""
        if (before := self._before.pop(name, None)) is None:
            self._begun.pop(name, None)
        else:
            self._begun[name] = before

    def due_at(self, job: Job) -> datetime:
        """When a job is due next, or has been since."""
        return due_at(job, self._begun.get(job.name), self._clock())

    def is_due(self, job: Job) -> bool:
        """Whether `take` would take it."""
        return self.due_at(job) <= self._clock()

    def know(self, begun: Mapping[str, datetime]) -> None:
        """Take in when the last runs of further jobs began."""
        self._begun = {**begun, **self._begun}
