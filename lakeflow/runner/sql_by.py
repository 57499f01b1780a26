"""What SET 'lakeflow.by' makes of a job in SQL: it is given all rows of the keys that new rows have. Pure."""

from __future__ import annotations

from dataclasses import replace

from lakeflow.declare import Origin
from lakeflow.errors import DeclarationError
from lakeflow.job import Job, Mode, Output, Read, SqlQuery


def by_keys(job: Job, said: str | None, statement_set: Origin | None) -> Job:
    """The job by whole keys of the columns that SET names, with commas between. Raises DeclarationError where it cannot be."""
    if said is None:
        return job
    names = tuple(part.strip() for part in said.split(","))
    label = f"{job.origin}: job {job.name!r}: SET 'lakeflow.by' = {said!r}"
    if not all(names) or len(set(names)) != len(names):
        raise DeclarationError(f"{label}; valid: each column once, with commas between: 'tenant, doc_id'")
    if (why := _obstacle(job, statement_set)) is not None:
        raise DeclarationError(f"{label} does not go with {why}", next_step="RESET 'lakeflow.by' before the statement")
    return replace(job, by=names, output=Output.UPDATE if job.mode is Mode.INCREMENTAL else job.output)


def _obstacle(job: Job, statement_set: Origin | None) -> str | None:
    query = job.body
    assert isinstance(query, SqlQuery), "of a job in SQL"
    reads = [one for one in job.inputs.values() if isinstance(one, Read)]
    found = {
        "a PRIMARY KEY of the target: rows of whole keys replace others": bool(job.key) or job.history is not None,
        "a query over windows": job.windowed is not None,
        "a query of groups or ranks, which goes on by its own keys": query.is_keyed,
        "a query that needs rows of other keys": query.obstacle is not None and job.mode is Mode.INCREMENTAL,
        f"a query over {len(reads)} tables that bring new rows": len(reads) != 1,
        "a materialized table": job.materialized is not None,
        "a statement set": statement_set is not None,
    }
    return next((why for why, holds in found.items() if holds), None)
