"""A database that is opened in a thread: taken once, or freed."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest

from lakeflow.errors import ConfigError
from lakeflow.sql.database import Limits, Opening


def test_it_is_taken_with_as_many_threads_as_the_query_needs() -> None:
    with Opening(Limits(threads=2)) as opening:
        connection = opening.take(3)
    with connection:
        assert connection.execute("SELECT current_setting('threads')").fetchall() == [(3,)]


def test_what_nobody_took_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[duckdb.DuckDBPyConnection] = []
    connect = duckdb.connect

    def connecting(place: str, config: dict[str, Any]) -> duckdb.DuckDBPyConnection:
        made.append(connect(place, config=config))
        return made[-1]

    monkeypatch.setattr(duckdb, "connect", connecting)
    with pytest.raises(KeyError), Opening(Limits()):
        raise KeyError
    with pytest.raises(duckdb.ConnectionException, match="closed"):
        made[0].execute("SELECT 1")


def test_limits_that_are_not_valid_are_told_to_who_takes_it() -> None:
    with Opening(Limits(threads=-1)) as opening, pytest.raises(ConfigError, match="the limits of a query are not valid"):
        opening.take(2)
