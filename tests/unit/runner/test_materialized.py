"""When materialized tables are due, and when they are stale."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from lakeflow.job import Job, Materialized, Read, SqlQuery
from lakeflow.runner.materialized import Refreshes, is_stale

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def job(freshness: timedelta | None, *, materialized: bool = True) -> Job:
    kept = Materialized(freshness) if materialized else None
    return Job("daily", "gold.t", {"s.t": Read("s.t")}, SqlQuery("FROM s.t"), materialized=kept)


def test_a_table_is_refreshed_once_its_freshness_is_over() -> None:
    seconds = iter([100.0, 159.9, 160.0, 219.9])
    refreshes = Refreshes(lambda: next(seconds))
    one = job(timedelta(minutes=1))
    assert [refreshes.take(one) for _ in range(4)] == [True, False, True, False]


def test_what_has_no_freshness_is_due_in_every_round() -> None:
    refreshes = Refreshes(lambda: 0.0)
    assert all(refreshes.take(one) for one in (job(None), job(None), job(None, materialized=False)) * 2)


def test_stale_is_what_was_not_updated_for_longer_than_its_freshness() -> None:
    one = job(timedelta(minutes=1))
    assert not is_stale(one, NOW - timedelta(seconds=60), NOW)
    assert is_stale(one, NOW - timedelta(seconds=61), NOW)
    assert is_stale(one, None, NOW)
    assert not is_stale(job(None), None, NOW)
