"""What SET 'lakeflow.on-change' makes of a job in SQL. Pure."""

from __future__ import annotations

from dataclasses import replace

from lakeflow.declare import TableSpec
from lakeflow.errors import DeclarationError, did_you_mean
from lakeflow.job import Job, OnChange, SqlQuery, check_on_change


def following(job: Job, said: str | None, declared: TableSpec | None) -> Job:
    """A job in SQL with what SET says of its `on_change`, and which columns of the table that it reads are its key.

    `declared` is how its target is declared. Raises DeclarationError where the job cannot do it.
    """
    if said is None:
        return job
    if said.lower() not in list(OnChange):
        valid = did_you_mean(said.lower(), [str(one) for one in OnChange])
        raise DeclarationError(f"{job.origin}: on-change of job {job.name!r} is {said!r}{valid}")
    made = replace(job, on_change=OnChange(said.lower()))
    check_on_change(made)
    if made.on_change is not OnChange.RECOMPUTE:
        return made
    return replace(made, key_from=_key_from(made, declared))


def _key_from(job: Job, declared: TableSpec | None) -> tuple[str, ...]:
    from lakeflow.sql.passed import passed_columns

    query = job.body
    assert isinstance(query, SqlQuery), "the caller looked"
    passed = passed_columns(query.text)
    if passed is None:
        return ()
    names = list(query.columns) or (list(declared.schema.names) if declared else [])
    if len(names) != len(passed):
        names = [name for name, _ in passed]
    found: list[str] = []
    for column in job.key:
        source = passed[names.index(column)][1] if column in names else column
        if source is None:
            raise DeclarationError(
                f"{job.origin}: job {job.name!r} is to follow rows that changed (on-change 'recompute'), and its "
                f"key column {column!r} is computed, or is of a table that is joined",
                next_step="key the target by columns that the query passes on unchanged, or say 'fail' or 'ignore_deletes'",
            )
        found.append(source)
    return tuple(found)
