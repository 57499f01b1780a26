"""A clock that is set back between commits: the table's history stays in the order of time, and tells what it told."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Self

import pytest

from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.commit_time import last_change
from lakeflow.lake.maintain_expiry import Keep, due
from lakeflow.lake.read import snapshot_at
from tests.lakes import NAME, append, ids, live_paths, made, open_lake, query, written

HOUR = 3600


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = open_lake(tmp_path)
    made(lake)
    return lake


def set_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """From here on the clock that snapshots and metadata are stamped by is `seconds` from the machine's."""
    real = time.time
    monkeypatch.setattr("pyiceberg.table.snapshots.time.time", lambda: real() + seconds)

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(datetime.now(tz).timestamp() + seconds, tz)

    monkeypatch.setattr("pyiceberg.table.update.datetime", Clock)


def log_of(lake: Lake) -> list[int]:
    return [entry.timestamp_ms for entry in lake.table(NAME).metadata.snapshot_log]


@pytest.mark.parametrize("change", ["append", "overwrite"])
def test_a_snapshot_is_always_later_than_the_one_before(lake: Lake, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    append(lake, ids(1))
    before = lake.table(NAME).metadata.last_updated_ms
    with monkeypatch.context() as patch:
        set_clock(patch, -HOUR)
        replaces = change == "overwrite"
        Committer(lake).commit(Change(NAME, add=written(lake.table(NAME), ids(2)), replace_all=replaces))
    table = lake.table(NAME)
    assert log_of(lake) == sorted(log_of(lake))
    assert table.metadata.last_updated_ms == last_change(table.metadata) == before + 1
    append(lake, ids(3))
    assert log_of(lake)[-1] > before
    assert sorted(query(lake.table(NAME))) == ([(2,), (3,)] if replaces else [(1,), (2,), (3,)])


def test_a_table_that_is_ahead_of_the_clock_goes_on_from_where_it_is(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        set_clock(patch, 24 * HOUR)
        append(lake, ids(1))
    for number in (2, 3):
        append(lake, ids(number))
    assert len(log_of(lake)) == 3
    assert log_of(lake) == sorted(log_of(lake))
    assert len(live_paths(lake.table(NAME))) == 3


def test_the_table_as_of_a_moment_is_what_it_was_then(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    append(lake, ids(1))
    then = datetime.now(UTC)
    time.sleep(0.002)
    append(lake, ids(2))
    set_clock(monkeypatch, -HOUR)
    append(lake, ids(3))
    found = snapshot_at(lake.table(NAME), as_of=then)
    assert found is not None
    assert found.snapshot_id == lake.table(NAME).metadata.snapshot_log[0].snapshot_id


def test_no_snapshot_expires_because_the_clock_was_set_back(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    append(lake, ids(1))
    set_clock(monkeypatch, -48 * HOUR)
    append(lake, ids(2))
    append(lake, ids(3))
    keep = Keep(most=10, younger_than=datetime.now(UTC) - timedelta(hours=24))
    assert not due(lake.table(NAME), keep).snapshot_ids


def test_a_change_of_the_metadata_alone_is_no_earlier_than_the_rows(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    append(lake, ids(1))
    before = last_change(lake.table(NAME).metadata)
    set_clock(monkeypatch, -HOUR)
    for value in ("a", "b"):
        with lake.table(NAME).transaction() as transaction:
            transaction.set_properties({"owner": value})
    metadata = lake.table(NAME).metadata
    assert metadata.properties["owner"] == "b"
    assert metadata.last_updated_ms == before
    stamps = [entry.timestamp_ms for entry in metadata.metadata_log]
    assert stamps == sorted(stamps)


def test_a_snapshot_that_main_goes_back_to_comes_last_in_the_history(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    append(lake, ids(1))
    first = lake.table(NAME).metadata.current_snapshot_id
    assert first is not None
    append(lake, ids(2))
    set_clock(monkeypatch, -HOUR)
    lake.table(NAME).manage_snapshots().set_current_snapshot(snapshot_id=first).commit()
    metadata = lake.table(NAME).metadata
    assert metadata.snapshot_log[-1].snapshot_id == first
    assert log_of(lake) == sorted(log_of(lake))
    assert query(lake.table(NAME)) == [(1,)]
