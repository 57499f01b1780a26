"""A job that is planned while another process runs it for the first time."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from lakeflow.errors import Fenced
from lakeflow.job import Read, job
from lakeflow.lake.commit import Change, Committed, Committer
from lakeflow.runner.plan import Request, plan_job
from tests.jobs import SOURCE, TARGET, World, flights


@job(target=TARGET)
def copied(rows: Any = Read(SOURCE)) -> pl.LazyFrame:
    frame: pl.LazyFrame = rows
    return frame


class BeforeTheFirstCommit:
    """Answers as the target was before the other process's first commit."""

    def __init__(self, commits: Committer) -> None:
        self._commits = commits

    def progress(self, table: str, writer: str) -> str | None:
        return None

    def commit(self, change: Change) -> Committed:
        return self._commits.commit(change)


def test_a_job_whose_rival_commits_first_is_fenced_not_taken_for_another_writer(world: World) -> None:
    world.append(flights((1, "AA", 1.0)))
    world.run(copied)
    late = BeforeTheFirstCommit(Committer(world.lake))
    plan = plan_job(copied, Request(), world.lake, late, world.caps)
    assert plan.start is None
    with pytest.raises(Fenced):
        world.carry_out(plan)
    assert world.rows() == [(1, "AA", 1.0)]
