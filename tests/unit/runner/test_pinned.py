"""Searches as of a snapshot of an index's table."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from lakeflow.errors import UnknownName, UsageError
from lakeflow.runner.indexing import update_index
from lakeflow.runner.vector_search import Searches
from tests.jobs import World
from tests.unit.runner.test_vector_search import QUERIES, SCHEMA, SPEC, TABLE, rows, searches

__all__ = ["searches"]

LATER = [(1, "write a file", [0.0, 1.0]), (4, "open a door", [0.9, 0.1]), (4, "open a file", [1.0, 0.0])]


def plain(found: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(row["id"], row["id0"], row["text"], round(row["distance"], 6), round(row["score"], 6)) for row in found]


def appended(world: World) -> tuple[int, int]:
    """Rows come, of which one replaces another by its key; the snapshots before and behind."""
    before = world.table(TABLE).current_snapshot()
    given = [dict(zip(SCHEMA.names, row, strict=True)) for row in LATER]
    world.append(pa.Table.from_pylist(given, schema=SCHEMA), TABLE)
    after = world.table(TABLE).current_snapshot()
    assert before is not None
    assert after is not None
    return before.snapshot_id, after.snapshot_id


def test_what_an_index_found_then_is_found_again(world: World, searches: Searches) -> None:
    settings: list[dict[str, Any]] = [{}, {"where": "text LIKE '%file'"}, {"max_distance": 0.5}, {"mmr": 0.3}]
    said = [plain(rows(searches, QUERIES, "docs", "v", 2, columns=["id", "text"], **some)) for some in settings]
    by_text = plain(rows(searches, QUERIES, "docs", "q", 1, columns=["id", "text"]))
    before, after = appended(world)
    update_index(SPEC, searches.room())
    for some, then in zip(settings, said, strict=True):
        now = plain(rows(searches, QUERIES, "docs", "v", 2, columns=["id", "text"], **some))
        assert plain(rows(searches, QUERIES, "docs", "v", 2, columns=["id", "text"], snapshot_id=before, **some)) == then
        assert plain(rows(searches, QUERIES, "docs", "v", 2, columns=["id", "text"], snapshot_id=after, **some)) == now
        assert now != then
    assert plain(rows(searches, QUERIES, "docs", "q", 1, columns=["id", "text"], snapshot_id=before)) == by_text


def test_the_last_row_of_a_key_counts_and_hits_tell_the_snapshot(world: World, searches: Searches) -> None:
    _, after = appended(world)
    asked = ["id", "text", "index_snapshot_id"]
    found = rows(searches, QUERIES, "docs", "v", 5, columns=asked, snapshot_id=after)
    assert {row["index_snapshot_id"] for row in found} == {after}
    first = [(row["id0"], row["text"]) for row in found if row["id"] == 10]
    assert sorted(first) == [(1, "write a file"), (2, "sort a list"), (3, "sort a file"), (4, "open a file")]


@pytest.mark.parametrize("mode", ["fts", "hybrid"])
def test_words_are_looked_up_in_the_index_as_it_is(searches: Searches, mode: str) -> None:
    with pytest.raises(UsageError, match=f"its mode is {mode}"):
        rows(searches, QUERIES, "docs", "q", mode=mode, snapshot_id=1)


def test_a_snapshot_that_is_not_there_and_a_column_that_the_index_does_not_keep(world: World, searches: Searches) -> None:
    with pytest.raises(UnknownName, match=r"snapshot of gold\.docs"):
        rows(searches, QUERIES, "docs", "v", snapshot_id=7)
    before, _ = appended(world)
    with pytest.raises(UnknownName, match="nowhere"):
        rows(searches, QUERIES, "docs", "v", where="nowhere = 1", snapshot_id=before)
    zero = pl.LazyFrame({"v": [[0.0, 0.0]]}, schema={"v": pl.List(pl.Float32)})
    with pytest.raises(Exception, match="zeros"):
        rows(searches, zero, "docs", "v", snapshot_id=before)
    assert np.isfinite([row["score"] for row in rows(searches, QUERIES, "docs", "v", snapshot_id=before)]).all()
