"""How fast a landing was, by its commits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from lakeflow.observe.status import LandingCommit, rate

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def commits(*pairs: tuple[float, int]) -> list[LandingCommit]:
    """(seconds before noon, records), the newest first."""
    return [LandingCommit(NOON - timedelta(seconds=ago), records) for ago, records in pairs]


def test_the_records_of_the_oldest_commit_came_before_the_time_that_counts() -> None:
    assert rate(commits((0, 300), (5, 100), (20, 999_999))) == 20.0


def test_of_fewer_than_two_commits_or_none_apart_in_time_nothing_can_be_told() -> None:
    assert rate([]) is None
    assert rate(commits((0, 300))) is None
    assert rate(commits((0, 300), (0, 100))) is None
