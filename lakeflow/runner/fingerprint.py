"""Whether a job is still what it was when it wrote its target last: its text, its declaration, the versions of its models."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from lakeflow.job import Job, SqlQuery
from lakeflow.lake.catalog import Table
from lakeflow.lake.history import PROGRESS, ancestors
from lakeflow.runner.sql_windows import in_case
from lakeflow.window import Windowed

CODE: Final = "lakeflow.job-code"
MODELS: Final = "lakeflow.job-models"
"""What each commit of a job says in its snapshot's summary: a fingerprint, and the versions of models asked in its run."""


def code_of(job: Job) -> str:
    """A fingerprint of the job's query or of its function's text, and of what decides its rows beside it: hexadecimal digits.

    Blanks between the words of a query do not count. What a function calls from other modules does not show.
    """
    text = " ".join(job.body.text.split()) if isinstance(job.body, SqlQuery) else job.source
    settings = (job.target, job.mode, job.output, job.key, job.by, _windows_of(job), job.history, job.inputs, job.outside)
    joined = () if job.within is None else (job.within,)
    return hashlib.sha256(f"{text}\n{(*settings, *joined)!r}".encode()).hexdigest()[:16]


def _windows_of(job: Job) -> Windowed | None:
    """A query may write the columns of its windows large or small; once it is planned they are as the table writes them."""
    windowed = job.windowed
    if windowed is None or not isinstance(job.body, SqlQuery):
        return windowed
    return in_case(windowed, [name.lower() for name in (windowed.window.column, *windowed.by)])


def facts_of_job(job: Job, models: Sequence[str]) -> Mapping[str, str]:
    """What a commit of the job says of it. `models` are the versions asked, as `m$2`."""
    return {CODE: code_of(job), **({MODELS: ",".join(models)} if models else {})}


def changed_since(job: Job, target: Table, versions: Mapping[str, int]) -> tuple[str, ...]:
    """What is other than at the job's last commit to its target: its code, or models by name. Nothing where none is known.

    `versions` is the version that each model means now which the job names by its name alone.
    """
    for snapshot in ancestors(target.metadata):
        facts = {} if snapshot.summary is None else snapshot.summary.additional_properties
        if PROGRESS + job.writer in facts:
            return tuple(_changes(code_of(job), facts, versions))
    return ()


def _changes(code: str, facts: Mapping[str, str], versions: Mapping[str, int]) -> list[str]:
    found = ["its code"] if facts.get(CODE, code) != code else []
    for one in filter(None, facts.get(MODELS, "").split(",")):
        name, _, version = one.partition("$")
        now = versions.get(name)
        if now is not None and str(now) != version:
            found.append(f"model {name}, from version {version} to {now}")
    return found


def told(job: Job, changes: Sequence[str]) -> str:
    """What is said of changes, and what may be done."""
    return (
        f"{' and '.join(changes)} changed since {job.target} was last written: new rows are of the new, those there of "
        f"the old; lakeflow run {job.name} --mode snapshot makes all of them anew"
    )
