"""Maintenance of the project's tables in a thread beside all else, in rounds of [maintain] interval_seconds."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from lakeflow.errors import LakeflowError
from lakeflow.lake.maintain import Maintained
from lakeflow.observe.maintain import ORPHANS_EVERY, Rounds, maintain, tables_of, upkeep_of
from lakeflow.runner.project import Project
from lakeflow.start.events import Event

logger = logging.getLogger("lakeflow.start")
LONGEST_WAIT = 1.0
"""Seconds between two looks at the clock."""


def keep_tables(
    project: Callable[[], Project],
    stop: Callable[[], bool],
    tell: Callable[[Event], None],
    *,
    sleep: Callable[[float], object],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Maintain the tables of `project()`, as it stands in each round, until a stop is asked for. The first round comes after
    one interval; orphans are looked for after a day. What fails is told, and tried again in the next round."""
    rounds = Rounds(0.0, clock() + project().settings.maintain.interval_seconds, clock() + ORPHANS_EVERY.total_seconds())
    while not stop():
        rounds.interval = project().settings.maintain.interval_seconds
        if rounds.interval and rounds.due(clock()):
            for event in maintained(project(), rounds.begin(clock()), stop):
                tell(event)
        sleep(min(LONGEST_WAIT, rounds.interval or LONGEST_WAIT))


def maintained(project: Project, orphans: bool, stop: Callable[[], bool]) -> Iterator[Event]:
    """One round over the tables: an event for each to which something was done, or that could not be maintained."""
    try:
        tables = tables_of(project)
    except LakeflowError as error:
        yield Event("maintenance", project.settings.project.name, "failed", error=error.message)
        return
    for table in tables:
        if stop():
            return
        upkeep = upkeep_of(project.settings, table)
        try:
            done = maintain(project, table, upkeep if orphans else replace(upkeep, orphan_age=None), mode="follow", stop=stop)
        except LakeflowError as error:
            yield Event("maintenance", table, "failed", error=error.message)
        else:
            if not done.did_nothing:
                yield Event("maintenance", table, "done", facts_of(done))


def facts_of(done: Maintained) -> dict[str, Any]:
    """What was done to a table, in figures."""
    return {
        "commits": len(done.snapshots),
        "files_before": done.compacted.files_before,
        "files_after": done.compacted.files_after,
        "snapshots_expired": done.expired.snapshots,
        "orphans": len(done.removed.orphans),
    }
