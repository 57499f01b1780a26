"""When each file of a table was there, by appends, rewrites, deletes and compactions, beside each snapshot read by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.table import Table

from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.follow import ChangeKind, TableChange
from lakeflow.lake.history import ancestors
from lakeflow.lake.read import read, snapshot_at, splits_at
from lakeflow.lake.versions import Lifetime, _lifetimes, lifetimes
from tests.lakes import NAME, append, ids, made, open_lake, written


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(tmp_path)


def change(lake: Lake, remove: int | None, *values: int) -> None:
    """Put rows in place of the file that holds `remove`, or append them."""
    table = lake.table(NAME)
    head = snapshot_at(table)
    gone = [split.task.file for split in splits_at(table, head) if remove in held(table, (split,))] if remove else []
    added = written(table, ids(*values)) if values else ()
    Committer(lake, keep_snapshots=100).commit(
        Change(NAME, added, tuple(gone), base=head.snapshot_id if head else None, on_base=bool(gone))
    )


def held(table: Table, splits: tuple[object, ...]) -> set[int]:
    return {value for batch in read(table, splits) for value in batch.column("id").to_pylist()}  # type: ignore[arg-type]


def as_of(table: Table, found: tuple[Lifetime, ...], microseconds: int) -> list[int]:
    there = [one for one in found if one.since <= microseconds and (one.until is None or microseconds < one.until)]
    return sorted(value for one in there for value in held(table, one.splits))


def rows_of(table: Table, snapshot: object) -> list[int]:
    batches = read(table, splits_at(table, snapshot))  # type: ignore[arg-type]
    return sorted(value for batch in batches for value in batch.column("id").to_pylist())


def test_the_files_of_any_time_are_the_snapshots_of_that_time(lake: Lake) -> None:
    made(lake)
    append(lake, ids(1, 2))
    append(lake, ids(3))
    change(lake, 2, 1, 20)
    change(lake, 3)
    append(lake, ids(4))
    table = lake.table(NAME)
    found = lifetimes(table, snapshot_at(table))
    for snapshot in ancestors(table.metadata):
        assert as_of(table, found, snapshot.timestamp_ms * 1_000) == rows_of(table, snapshot)
    assert as_of(table, found, 0) == []
    assert sum(len(one.splits) for one in found) == 4, "each file once"


def test_later_snapshots_than_the_pinned_one_do_not_show(lake: Lake) -> None:
    made(lake)
    append(lake, ids(1))
    pinned = snapshot_at(lake.table(NAME))
    change(lake, 1, 2)
    table = lake.table(NAME)
    [only] = lifetimes(table, pinned)
    assert only.until is None
    assert held(table, only.splits) == {1}
    assert lifetimes(table, None) == ()


def test_what_expired_begins_with_the_oldest_snapshot_that_is_kept(lake: Lake) -> None:
    made(lake)
    for value in (1, 2, 3):
        append(lake, ids(value), keep=2)
    table = lake.table(NAME)
    oldest = list(ancestors(table.metadata))[-1]
    found = lifetimes(table, snapshot_at(table))
    assert as_of(table, found, oldest.timestamp_ms * 1_000) == [1, 2]
    assert as_of(table, found, oldest.timestamp_ms * 1_000 - 1) == []


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=8))
@settings(max_examples=30)
def test_a_clock_that_runs_backwards_stood_still(steps: list[tuple[int, bool]]) -> None:
    """At any time each file is there once at the most, and the files of now are those that nothing removed."""

    class File:
        def __init__(self, path: str) -> None:
            self.path = path

    alive: list[Any] = []
    changes: list[tuple[int, Any]] = []
    for number, (time, removes) in enumerate(steps):
        new: Any = File(f"{number}")
        gone = tuple(alive[-1:] if removes else ())
        alive = [*(alive[:-1] if removes else alive), new]
        changes.append((time, TableChange(number, number, ChangeKind.OVERWRITE, (new,), gone)))
    found = list(_lifetimes(0, (), changes))
    assert {split.path for one in found if one.until is None for split in one.splits} == {file.path for file in alive}
    assert all(one.until is None or one.since < one.until for one in found)
