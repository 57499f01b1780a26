"""Crashes on purpose, for tests: a BaseException out of the middle of things, so that nothing on the way may catch it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import polars as pl
import pytest

from lakeflow.lake.catalog import Lake
from lakeflow.lake.write import DataWriter
from lakeflow.testing.source import Crash


class Where(Enum):
    """Where a run dies."""

    BEFORE_COMMIT = auto()
    """As the catalog is asked; nothing lands."""
    AFTER_COMMIT = auto()
    """After the catalog has done it; nobody hears of it."""
    WRITER = auto()
    """As rows are handed to the writer."""
    FILES = auto()
    """When the files are written and nothing is committed."""
    JOB = auto()
    """In the job's own code, as rows come. Only where the job calls `trap`."""
    POLL = auto()
    """As the source is read. Only where the source is asked through `polls`."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The `number`th time (from 0) that a run comes to `where`, it dies."""

    where: Where
    number: int


class Crashes:
    """Brings a run down where a plan says so; counts how often."""

    def __init__(self) -> None:
        self._plan: Plan | None = None
        self._left = 0
        self.happened = 0

    def reach(self, where: Where) -> None:
        """The run is at `where`."""
        if self._plan is None or self._plan.where is not where:
            return
        if self._left == 0:
            self._plan = None
            self.happened += 1
            raise Crash(where.name)
        self._left -= 1

    def trap(self, values: pl.Series) -> pl.Series:
        """For `map_batches` in a job."""
        self.reach(Where.JOB)
        return values

    @contextmanager
    def elsewhere(self) -> Iterator[None]:
        """The block is another process, which does not die."""
        plan, self._plan = self._plan, None
        try:
            yield
        finally:
            self._plan = plan

    @contextmanager
    def survived(self, plan: Plan | None, lake: Lake) -> Iterator[None]:
        """The block is a process: it may die as planned, and what comes after the block goes on from the tables."""
        self._plan, self._left = plan, plan.number if plan else 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lake.catalog, "commit_table", self._committing(lake.catalog.commit_table))
            patch.setattr(DataWriter, "write", self._reaching(Where.WRITER, DataWriter.write))
            patch.setattr(DataWriter, "finish", self._reaching(Where.FILES, DataWriter.finish, after=True))
            try:
                yield
            except Crash:
                pass
            finally:
                self._plan = None

    def _committing(self, commit_table: Callable[..., Any]) -> Callable[..., Any]:
        def commit(*args: Any, **kwargs: Any) -> Any:
            self.reach(Where.BEFORE_COMMIT)
            answer = commit_table(*args, **kwargs)
            self.reach(Where.AFTER_COMMIT)
            return answer

        return commit

    def _reaching(self, where: Where, method: Callable[..., Any], *, after: bool = False) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not after:
                self.reach(where)
            result = method(*args, **kwargs)
            if after:
                self.reach(where)
            return result

        return call
