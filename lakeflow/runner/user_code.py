"""The border between lakeflow and a job's own code: what is raised there comes out with the job's name and line."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl

from lakeflow.errors import JobFailed
from lakeflow.job import Job
from lakeflow.models.predict import unwrap

SIGNALLED = (130, 143)
"""The exit codes with which a second SIGINT or SIGTERM ends the process, wherever it is."""


@contextmanager
def user_code(job: Job) -> Iterator[None]:
    """Run a job's function or its LazyFrame. Errors of lakeflow come out as themselves, all others as JobFailed.

    A panic of Polars and sys.exit(), which are no Exceptions, are among the others.
    """
    try:
        yield
    except (Exception, pl.exceptions.PanicException, SystemExit) as error:
        if isinstance(error, SystemExit) and error.code in SIGNALLED:
            raise
        if (own := unwrap(error)) is not None:
            raise own from (None if own is error else error)
        raise JobFailed(
            f"job {job.name!r} ({_place(job, error)}) failed: {_said(error)}",
            left_behind=f"{job.target}, as of the last step that was committed",
            next_step=f"mend the job, then: lakeflow run {job.name}",
        ) from error


def _place(job: Job, error: BaseException) -> str:
    """The last line of the job's own file in the trace."""
    file = job.function.__code__.co_filename
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{job.origin.path}:{lines[-1]}" if lines else str(job.origin)


def _said(error: BaseException) -> str:
    text = str(error).split("\n\nResolved plan until failure", maxsplit=1)[0].strip()
    if isinstance(error, pl.exceptions.PolarsError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
