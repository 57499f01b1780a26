"""The schedule of maintenance, and what runs beside a landing."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

import pytest

from lakeflow.config import settings_of
from lakeflow.errors import CatalogUnavailable
from lakeflow.lake.commit import Change, Committed, Progress
from lakeflow.landing.dead_letters import DEAD_LETTERS, Taken
from lakeflow.observe.maintain import (
    ORPHANS_EVERY,
    Rounds,
    maintain_beside,
    maintained_beside,
    table_readers,
    tables_of,
    upkeep_of,
)
from lakeflow.observe.runs import RUNS
from lakeflow.progress import KafkaOffsets
from lakeflow.runner.project import Project
from tests.lakes import append, id_rows, ids, live_paths, made

MAINTAIN = {"interval_seconds": 60, "compact_files": 2}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "tables").mkdir()
    (tmp_path / "jobs").mkdir()
    (tmp_path / "tables" / "all.sql").write_text(
        "CREATE TABLE bronze.flights (id BIGINT);\nCREATE TABLE bronze.none (id BIGINT);"
    )
    return Project(settings_of({"maintain": MAINTAIN}, tmp_path, None, {}))


class Clock:
    """Time that passes in sleeps, and a stop once it is over."""

    def __init__(self, ends: float) -> None:
        self.now = 0.0
        self._ends = ends

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def over(self) -> bool:
        return self.now >= self._ends


class TestRounds:
    def test_they_begin_at_the_interval(self) -> None:
        rounds = Rounds(60.0, next_at=60.0, orphans_at=1e9)
        assert not rounds.due(59.0)
        assert rounds.due(60.0)
        rounds.begin(70.0)
        assert not rounds.due(129.0)
        assert rounds.due(130.0)

    def test_orphans_are_looked_for_once_a_day(self) -> None:
        rounds = Rounds(3600.0, 0.0, 0.0)
        day = ORPHANS_EVERY.total_seconds()
        assert [rounds.begin(now) for now in (0.0, 3600.0, day - 1, day, day + 3600.0)] == [True, False, False, True, False]


class TestBeside:
    def run(self, project: Project, seconds: float) -> None:
        clock = Clock(seconds)
        maintain_beside(project, clock.over, sleep=clock.sleep, clock=lambda: clock.now)

    def test_small_files_are_compacted_after_an_interval(self, project: Project) -> None:
        made(project.lake)
        for value in range(3):
            append(project.lake, ids(value))
        self.run(project, 59.0)
        assert len(live_paths(project.lake.table("bronze.flights"))) == 3
        self.run(project, 62.0)
        assert len(live_paths(project.lake.table("bronze.flights"))) == 1
        assert id_rows(project.lake.table("bronze.flights")) == [0, 1, 2]
        (run,) = project.lake.table(RUNS).scan().to_arrow().to_pylist()
        assert (run["kind"], run["name"], run["mode"]) == ("maintain", "maintain.bronze.flights", "follow")

    def test_what_fails_is_logged_and_ends_nothing(self, project: Project, caplog: pytest.LogCaptureFixture) -> None:
        made(project.lake)
        append(project.lake, ids(1))
        append(project.lake, ids(2))

        class Failing:
            def commit(self, change: Change) -> Committed:
                raise CatalogUnavailable("the catalog is away")

            def progress(self, table: str, writer: str) -> str | None:
                raise CatalogUnavailable("the catalog is away")

        project.__dict__["commits"] = Failing()
        with caplog.at_level(logging.WARNING, "lakeflow"):
            self.run(project, 125.0)
        assert caplog.text.count("a compaction of bronze.flights is not known to have landed: the catalog is away") == 2
        assert id_rows(project.lake.table("bronze.flights")) == [1, 2]

    def test_with_an_interval_of_nothing_there_is_none(self, tmp_path: Path) -> None:
        maintain_beside(Project(settings_of({"maintain": {"interval_seconds": 0}}, tmp_path, None, {})), lambda: False)


def test_the_thread_beside_ends_with_the_block(tmp_path: Path, project: Project) -> None:
    made(project.lake)
    for value in range(3):
        append(project.lake, ids(value))
    often = Project(settings_of({"maintain": MAINTAIN | {"interval_seconds": 0.01}}, tmp_path, None, {}))
    with maintained_beside(often, lambda: False):
        while len(live_paths(project.lake.table("bronze.flights"))) > 1:
            time.sleep(0.01)
    assert not [thread for thread in threading.enumerate() if thread.name == "lakeflow-maintain"]
    assert id_rows(project.lake.table("bronze.flights")) == [0, 1, 2]


def test_the_tables_are_those_of_the_project_that_are_there(project: Project) -> None:
    made(project.lake)
    made(project.lake, name="foreign.table")
    made(project.lake, name=DEAD_LETTERS)
    assert tables_of(project) == ("bronze.flights", DEAD_LETTERS)
    assert tables_of(project, ["foreign.table"]) == ("foreign.table",)


def test_files_of_runs_stay_small_enough_to_be_read_whole(project: Project) -> None:
    sizes = upkeep_of(project.settings, RUNS).sizes
    assert sizes.below_bytes <= sizes.target_bytes == 1 << 20
    assert upkeep_of(project.settings, "bronze.flights").sizes.target_bytes == 128 << 20


def test_dead_letters_of_an_earlier_table_are_not_put_together_with_later_ones(project: Project) -> None:
    made(project.lake, name=DEAD_LETTERS)
    taken = Taken(KafkaOffsets({("t", 0): 4}), since=7, letters=2)
    append(project.lake, ids(1), Progress("landing.bronze.flights.uuid", None, taken.dumps()), name=DEAD_LETTERS)
    assert table_readers(project, DEAD_LETTERS).borders == frozenset([7])
