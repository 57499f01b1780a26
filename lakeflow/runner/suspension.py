"""Materialized tables that are suspended: their runs are left out until they are resumed. A property of the table says so."""

from __future__ import annotations

from typing import Final

from lakeflow.errors import UnknownName
from lakeflow.job import Job
from lakeflow.lake.alter import keep
from lakeflow.lake.catalog import Lake
from lakeflow.lake.declared import OWN_PROPERTIES

SUSPENDED: Final = f"{OWN_PROPERTIES}suspended"


def suspend(lake: Lake, name: str) -> None:
    """Leave a table's runs out from now on. Raises UnknownName for one that no run has made yet."""
    if not lake.exists(name):
        raise UnknownName("table", name, lake.names(), next_step="the first run makes it: lakeflow run")
    keep(lake, name, SUSPENDED, "true")


def resume(lake: Lake, name: str) -> None:
    """Take a table's runs up again; the next one goes on from where the table is. One that is not suspended stays as it is."""
    if lake.exists(name):
        keep(lake, name, SUSPENDED, None)


def is_suspended(job: Job, lake: Lake) -> bool:
    """Whether a job's runs are to be left out. Reads metadata only."""
    if job.materialized is None or not lake.exists(job.target):
        return False
    return SUSPENDED in lake.table(job.target).properties
