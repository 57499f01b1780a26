"""When materialized tables are refreshed: how old each may get by its FRESHNESS. Pure; the clock is passed in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from lakeflow.job import Job


class Refreshes:
    """Which jobs are due in the rounds of one process. `clock` gives seconds, from any beginning."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._begun: dict[str, float] = {}

    def take(self, job: Job) -> bool:
        """Whether a job is to run in this round; if so it counts as begun now. A materialized table that is fresh is not."""
        now, begun = self._clock(), self._begun.get(job.name)
        freshness = job.materialized.freshness if job.materialized else None
        if begun is not None and freshness is not None and now - begun < freshness.total_seconds():
            return False
        self._begun[job.name] = now
        return True


def is_stale(job: Job, updated: datetime | None, now: datetime) -> bool:
    """Whether a table that is behind what it reads, and was `updated` last then, is so for longer than its FRESHNESS allows."""
    freshness = job.materialized.freshness if job.materialized else None
    return freshness is not None and (updated is None or now - updated > freshness)
