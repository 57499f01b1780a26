"""How materialized tables are refreshed whose statements leave it open, once all jobs of a project are known. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lakeflow.job import Job, Mode, OnChange, Output, Read


def settled(jobs: Mapping[str, Job]) -> Mapping[str, Job]:
    """The jobs, by name. A materialized table over one whose rows change, as those of groups do, is read whole at each refresh:
    an incremental run would be refused. So is one over that."""
    found = dict(jobs)
    while changing := [job for job in found.values() if _is_open(job) and _reads_changes(job, found)]:
        for job in changing:
            found[job.name] = replace(job, mode=Mode.SNAPSHOT, output=Output.COMPLETE, windowed=None, within=None)
    return found


def _is_open(job: Job) -> bool:
    is_free = job.materialized is not None and job.materialized.is_free
    return is_free and job.mode is Mode.INCREMENTAL and job.on_change is OnChange.FAIL


def _reads_changes(job: Job, jobs: Mapping[str, Job]) -> bool:
    read = {source.table for source in job.inputs.values() if isinstance(source, Read)}
    return any(one.target in read and one.output is not Output.APPEND for one in jobs.values() if one is not job)
