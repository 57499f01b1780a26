"""Cron expressions: what each comes to, daylight saving in both directions, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from lakeflow.declare import Origin
from lakeflow.errors import DeclarationError
from lakeflow.schedule import Cron, cron_of, duration_of

HERE = Origin(Path("jobs/daily.py"), 3)
NEW_YORK = ZoneInfo("America/New_York")


def cron(expression: str, timezone: str = "UTC") -> Cron:
    return cron_of(expression, timezone, "schedule of job 'daily'", HERE)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


def moments(schedule: Cron, after: datetime, count: int) -> list[datetime]:
    found = []
    for _ in range(count):
        after = schedule.after(after)
        found.append(after)
    return found


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("0 6 * * *", utc(2026, 1, 31, 6), utc(2026, 2, 1, 6)),
        ("0 6 * * *", utc(2026, 1, 31, 5, 59, 59, 999_999), utc(2026, 1, 31, 6)),
        ("*/15 * * * *", utc(2026, 1, 31, 6, 1), utc(2026, 1, 31, 6, 15)),
        ("0 0 29 2 *", utc(2026, 1, 1), utc(2028, 2, 29)),
        ("0 12 * * MON-FRI", utc(2026, 1, 30, 12), utc(2026, 2, 2, 12)),
        ("30 1 L * *", utc(2026, 2, 1), utc(2026, 2, 28, 1, 30)),
        ("@daily", utc(2026, 1, 31, 6), utc(2026, 2, 1)),
        ("  0   6 * *  * ", utc(2026, 1, 31, 6), utc(2026, 2, 1, 6)),
    ],
)
def test_the_moment_after_another(expression: str, after: datetime, expected: datetime) -> None:
    assert cron(expression).after(after) == expected


def test_an_hour_is_that_of_the_time_zone() -> None:
    assert cron("0 6 * * *", "America/New_York").after(utc(2026, 1, 31)) == utc(2026, 1, 31, 11)
    assert cron("0 6 * * *", "America/New_York").after(utc(2026, 7, 31)) == utc(2026, 7, 31, 10)


class TestDaylightSaving:
    """New York: on 2026-03-08 the hour from 2:00 is skipped, on 2026-11-01 the one from 1:00 comes twice."""

    def test_a_fixed_time_that_is_skipped_comes_right_after_the_gap_and_once(self) -> None:
        found = moments(cron("30 2 * * *", "America/New_York"), utc(2026, 3, 7, 12), 2)
        assert [at.astimezone(NEW_YORK).strftime("%d %H:%M %Z") for at in found] == ["08 03:00 EDT", "09 02:30 EDT"]

    def test_a_fixed_time_that_comes_twice_is_taken_the_first_time_alone(self) -> None:
        found = moments(cron("30 1 * * *", "America/New_York"), utc(2026, 10, 31, 12), 2)
        assert [at.astimezone(NEW_YORK).strftime("%d %H:%M %Z") for at in found] == ["01 01:30 EDT", "02 01:30 EST"]

    def test_a_run_between_the_two_is_not_followed_by_a_moment_of_the_past(self) -> None:
        in_the_second_hour = utc(2026, 11, 1, 6, 15)
        assert in_the_second_hour.astimezone(NEW_YORK).strftime("%H:%M %Z") == "01:15 EST"
        assert cron("30 1 * * *", "America/New_York").after(in_the_second_hour) == utc(2026, 11, 2, 6, 30)

    @pytest.mark.parametrize("day", [utc(2026, 3, 8), utc(2026, 11, 1)])
    def test_what_runs_every_hour_runs_by_elapsed_time(self, day: datetime) -> None:
        found = moments(cron("0 * * * *", "America/New_York"), day, 24)
        assert found == [day + timedelta(hours=hour) for hour in range(1, 25)]


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("61 * * * *", "the minute is '61'; valid: 0 to 59"),
        ("0 6-25 * * *", "the hour is '6-25'; valid: 0 to 23"),
        ("0 6 31 2 *", "the month '2' has no day 31"),
        ("0 6 * MAYBE *", "the month is 'MAYBE'; valid: 1 to 12, or JAN to DEC"),
        ("0 6 * * 8", "the day-of-week is '8'"),
        ("*/0 * * * *", "the minute is '*/0'"),
        ("0 6 * *", "valid: five fields"),
        ("0 0 6 * * *", "valid: five fields"),
        ("", "valid: five fields"),
        ("@often", "or one of @hourly"),
        ("* * */20 * 1L", "comes to no moment within 50 years"),
    ],
)
def test_a_wrong_expression_is_refused_where_it_stands(expression: str, said: str) -> None:
    with pytest.raises(DeclarationError) as refused:
        cron(expression)
    assert refused.value.message.startswith("jobs/daily.py:3: schedule of job 'daily'")
    assert said in refused.value.message


@pytest.mark.parametrize("timezone", ["Europe/Berln", "", "../etc/passwd", "CET+1"])
def test_an_unknown_time_zone_is_refused(timezone: str) -> None:
    with pytest.raises(DeclarationError, match="valid: a name of the IANA database") as refused:
        cron("0 6 * * *", timezone)
    assert ("did you mean 'Europe/Berlin'" in refused.value.message) == (timezone == "Europe/Berln")


def test_durations() -> None:
    assert duration_of("10m", "freshness", HERE) == timedelta(minutes=10)
    assert duration_of(" 2 h ", "freshness", HERE) == timedelta(hours=2)


@pytest.mark.parametrize("text", ["", "0m", "10", "m", "10 weeks", "-1h", "1.5h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(DeclarationError, match="valid: a whole number and s, m, h or d"):
        duration_of(text, "freshness of job 'daily'", HERE)
