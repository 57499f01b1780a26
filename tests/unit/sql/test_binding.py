"""The database that types are asked of: one that nothing failed in is the next query's, and knows nothing of the one before."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pyarrow as pa
import pytest

from lakeflow.errors import UsageError
from lakeflow.sql import binding
from lakeflow.sql.binding import Binder

NUMBERS = pa.schema([("x", pa.int64())])


@pytest.fixture(autouse=True)
def no_idle_database() -> Iterator[None]:
    binding._idle.clear()
    yield
    binding._idle.clear()


def integer(_name: str, _given: tuple[pa.DataType, ...]) -> pa.DataType:
    return pa.int32()


def test_a_database_is_taken_again_and_is_empty() -> None:
    with Binder({"a.b": NUMBERS}, integer) as first:
        first.probe("probe_0", 1)
        assert first.columns("SELECT probe_0(x, 1) AS y FROM a.b") == [("y", "INTEGER")]
    [idle] = binding._idle
    with Binder({"A.c": NUMBERS}, integer) as second:
        assert second._connection is idle
        assert binding._idle == []
        for text in ("SELECT x FROM a.b", "SELECT probe_0(x, 1) FROM A.c"):
            with pytest.raises(duckdb.Error):
                second.columns(text)
        second.probe("probe_0", 2)
        assert second.columns("SELECT probe_0(x, 1, 2) AS y FROM A.c") == [("y", "INTEGER")]
    assert binding._idle == [idle]


def test_one_in_which_something_failed_is_not_taken_again() -> None:
    with pytest.raises(duckdb.Error), Binder({"a.b": NUMBERS}, integer) as binder:
        binder.columns("SELECT nothing FROM a.b")
    assert binding._idle == []


def test_a_namespace_that_every_database_has_takes_it_along() -> None:
    with Binder({"main.b": NUMBERS}, integer) as binder:
        assert binder.columns("SELECT x FROM main.b") == [("x", "BIGINT")]
    assert binding._idle == []


@pytest.mark.parametrize("namespace", ["temp", "System", "pg_catalog", "information_schema"])
def test_a_namespace_of_duckdbs_own_is_refused_and_named(namespace: str) -> None:
    with pytest.raises(UsageError, match=f"table '{namespace}.b': DuckDB keeps the names"):
        Binder({f"{namespace}.b": NUMBERS}, integer)


def test_a_namespace_may_be_called_as_duckdb_calls_what_is_in_memory() -> None:
    for _ in range(2):
        with Binder({"memory.b": NUMBERS}, integer) as binder:
            assert binder.columns("SELECT x FROM memory.b") == [("x", "BIGINT")]
        assert len(binding._idle) == 1


def test_two_at_once_have_one_each() -> None:
    with Binder({"a.b": NUMBERS}, integer) as first, Binder({"a.c": NUMBERS}, integer) as second:
        assert first.columns("SELECT x FROM a.b") == second.columns("SELECT x FROM a.c")
        assert first._connection is not second._connection
    assert len(binding._idle) == 1
