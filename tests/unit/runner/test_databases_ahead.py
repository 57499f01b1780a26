"""Databases that are opened before their queries come."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from lakeflow.runner.querying import Ready, databases_ahead
from lakeflow.sql.compiled import Compiled
from lakeflow.sql.execute import run_compiled


def answer(ready: Ready) -> tuple[bool, list[dict[str, object]]]:
    """Whether the query's database was opened ahead, and its rows."""
    with ready() as (limits, opening):
        reader = run_compiled(Compiled("SELECT 1 AS one", "SELECT 1 AS one", ()), {}, (), limits, opening)
        return opening is not None, pa.Table.from_batches(list(reader)).to_pylist()


def test_queries_take_those_that_are_open_and_then_their_own(tmp_path: Path) -> None:
    with databases_ahead(tmp_path, 1 << 28, 2) as ready:
        assert len(list(tmp_path.iterdir())) == 2  # a folder each: what one spills, none of the others finds
        assert [answer(ready)[0] for _ in range(3)] == [True, True, False]
        assert answer(ready)[1] == [{"one": 1}]
    assert list(tmp_path.iterdir()) == []


def test_those_that_nobody_took_are_closed(tmp_path: Path) -> None:
    with databases_ahead(tmp_path, 1 << 28, 1):
        pass
    assert list(tmp_path.iterdir()) == []
