"""When jobs are due, and when tables are stale, on a clock that the test sets."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lakeflow.declare import Origin
from lakeflow.errors import DeclarationError
from lakeflow.job import Job, Read, SqlQuery, schedule_of
from lakeflow.runner.due import AHEAD, ALWAYS, Timetable, due_at, is_stale
from lakeflow.schedule import Cron

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def job(schedule: Cron | timedelta | None, name: str = "daily") -> Job:
    return Job(name, "gold.t", {"s.t": Read("s.t")}, SqlQuery("FROM s.t"), schedule=schedule)


HOURLY = job(Cron("0 * * * *"))
FRESH = job(MINUTE)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.mark.parametrize("one", [HOURLY, FRESH, job(None)])
def test_what_never_ran_is_due_at_once(one: Job) -> None:
    assert due_at(one, None, NOW) == ALWAYS


def test_what_has_no_schedule_is_always_due() -> None:
    assert due_at(job(None), NOW, NOW) == ALWAYS


def test_a_cron_job_is_due_from_the_first_moment_on_that_was_missed() -> None:
    assert due_at(HOURLY, NOW, NOW) == NOW + HOUR
    assert due_at(HOURLY, NOW - 5 * HOUR - MINUTE, NOW) == NOW - 5 * HOUR


def test_a_freshness_counts_from_the_begin_of_the_last_run() -> None:
    assert due_at(FRESH, NOW - timedelta(seconds=59), NOW) == NOW + timedelta(seconds=1)


def test_a_clock_that_was_set_back_a_little_repeats_no_moment() -> None:
    assert due_at(HOURLY, NOW + 10 * MINUTE, NOW) == NOW + HOUR


@pytest.mark.parametrize("one", [HOURLY, FRESH])
def test_a_run_of_a_clock_that_was_far_ahead_does_not_hold_a_job_up(one: Job) -> None:
    assert due_at(one, NOW + 1000 * AHEAD, NOW) <= NOW + HOUR


class TestTimetable:
    def test_several_missed_moments_are_made_up_for_by_one_run(self) -> None:
        clock = Clock()
        timetable = Timetable(clock, {"daily": NOW - 5 * HOUR})
        assert timetable.due_at(HOURLY) == NOW - 4 * HOUR
        assert [timetable.take(HOURLY), timetable.take(HOURLY)] == [True, False]
        clock.now += HOUR
        assert [timetable.take(HOURLY), timetable.take(HOURLY)] == [True, False]

    def test_a_table_is_refreshed_once_its_freshness_is_over(self) -> None:
        clock = Clock()
        timetable = Timetable(clock, {})
        taken = []
        for seconds in (0.0, 59.9, 60.0, 119.9):
            clock.now = NOW + timedelta(seconds=seconds)
            taken.append(timetable.take(FRESH))
        assert taken == [True, False, True, False]

    def test_what_has_no_schedule_is_due_in_every_round(self) -> None:
        timetable = Timetable(Clock(), {})
        assert all(timetable.take(job(None)) for _ in range(3))

    @pytest.mark.parametrize("begun", [{}, {"daily": NOW - 2 * HOUR}])
    def test_a_run_that_failed_stays_due(self, begun: dict[str, datetime]) -> None:
        timetable = Timetable(Clock(), begun)
        assert timetable.take(HOURLY)
        timetable.failed("daily")
        assert timetable.take(HOURLY)
        assert not timetable.take(HOURLY)


def test_stale_is_what_was_not_updated_for_longer_than_its_freshness() -> None:
    assert not is_stale(FRESH, NOW - timedelta(seconds=60), NOW)
    assert is_stale(FRESH, NOW - timedelta(seconds=61), NOW)
    assert is_stale(FRESH, None, NOW)
    assert not is_stale(replace(FRESH, schedule=None), None, NOW)
    assert not is_stale(HOURLY, None, NOW)


@pytest.mark.parametrize(
    ("cron", "timezone", "freshness", "said"),
    [
        ("0 6 * * *", "UTC", "10m", "a schedule, '0 6 \\* \\* \\*', and a freshness"),
        (None, "Europe/Berlin", None, "has the timezone 'Europe/Berlin' and no schedule"),
        ("x", "UTC", None, "schedule of job 'daily' is 'x'"),
        (None, "UTC", "soon", "freshness of job 'daily' is 'soon'"),
    ],
)
def test_a_job_that_contradicts_itself_is_refused(cron: str | None, timezone: str, freshness: str | None, said: str) -> None:
    with pytest.raises(DeclarationError, match=said):
        schedule_of(cron, timezone, freshness, "daily", Origin(Path("jobs/a.py"), 1))
