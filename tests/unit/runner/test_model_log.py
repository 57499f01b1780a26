"""The table lakeflow.models: what is read of it, and writers that meet."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow.declare import ModelDeclaration
from lakeflow.errors import CatalogUnavailable, CommitConflict, Terminal
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, Committed, Committer
from lakeflow.models.versions import Entry, Event, History, Identified, Source, entry_of
from lakeflow.runner.model_log import ATTEMPTS, MODELS, SCHEMA, ModelLog, entry_of_row, row_of
from tests.lakes import open_lake, rest_like, stored_files

AT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
M = ModelDeclaration(
    "m",
    pa.schema([pa.field("x", pa.float64(), nullable=False)]),
    pa.schema([pa.field("y", pa.list_(pa.field("element", pa.float32())), metadata={"doc": "it's"})]),
    {"provider": "onnx", "Task": "regression", "key": "{{ secret.K }}"},
    "a model",
)


@pytest.fixture(params=["sql", "rest"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    return open_lake(tmp_path) if request.param == "sql" else rest_like(open_lake(tmp_path))


def log_of(lake: Lake) -> ModelLog:
    return ModelLog(lambda: lake, lambda: Committer(lake))


def register(log: ModelLog, fingerprint: str, declaration: ModelDeclaration = M) -> Entry | None:
    def entry(found: Mapping[str, History]) -> Entry | None:
        history = found.get(declaration.name, History())
        return entry_of(history, declaration, Identified(fingerprint, {"graph": "aa"}), Source.STATEMENT, AT)

    return log.append(entry)


@pytest.mark.parametrize(
    "entry",
    [
        Entry(Event.VERSION, "m", AT, 3, Source.TABLES, M, Identified("f", {"graph": "aa", "b": "c"})),
        Entry(Event.OPTIONS, "m", AT, 1, Source.STATEMENT, M, Identified("f")),
        Entry(Event.DEFAULT, "m", AT, 2),
        Entry(Event.DEFAULT, "m", AT),
        Entry(Event.RENAME, "m", AT, renamed_to="n"),
        Entry(Event.DROP, "m", AT),
    ],
    ids=lambda entry: str(entry.event),
)
def test_an_entry_goes_to_a_row_and_back(entry: Entry) -> None:
    [row] = pa.Table.from_pylist([row_of(entry, 7)], schema=SCHEMA).to_pylist()
    again = entry_of_row(row)
    if again.declaration is not None:
        assert str(again.declaration.origin) == "lakeflow.models:7"
        assert entry.declaration is not None
        assert again.declaration.output.equals(entry.declaration.output, check_metadata=True)
    assert row_of(again, 7) == row_of(entry, 7) | {"declared": row_of(again, 7)["declared"]}


def test_what_is_appended_is_what_another_process_reads(lake: Lake) -> None:
    log = log_of(lake)
    assert log.histories() == {}
    register(log, "f1")
    register(log, "f2")
    assert register(log, "f2") is None
    log.append(lambda found: Entry(Event.DEFAULT, "m", AT, 1))
    assert dict(log_of(lake).histories()) == dict(log.histories())
    history = log.histories()["m"]
    assert (sorted(history.versions), history.default, history.current) == ([1, 2], 1, 2)


def test_of_two_that_write_the_same_one_is_told_and_writes_nothing(lake: Lake, caplog: pytest.LogCaptureFixture) -> None:
    first, second = log_of(lake), log_of(lake)
    assert (first.histories(), second.histories()) == ({}, {})
    with caplog.at_level(logging.WARNING):
        assert register(first, "f1") is not None
        assert caplog.text == ""
        assert register(second, "f1") is None
    assert "another process wrote first; going on from what it wrote" in caplog.text
    assert dict(second.histories()) == dict(first.histories())
    assert len(stored_files(lake.table(MODELS))) == 1, "the file of the refused entry is gone"


def test_of_two_that_write_something_else_both_do_and_no_number_comes_twice(lake: Lake) -> None:
    first, second = log_of(lake), log_of(lake)
    assert (first.histories(), second.histories()) == ({}, {})
    made = [register(first, "f1"), register(second, "f2"), register(first, "f3"), register(second, "f4")]
    assert [entry.version for entry in made if entry] == [1, 2, 3, 4]
    assert sorted(log_of(lake).histories()["m"].versions) == [1, 2, 3, 4]


def test_one_that_another_process_dropped_meanwhile_is_seen(lake: Lake) -> None:
    first, second = log_of(lake), log_of(lake)
    register(first, "f1")
    second.histories()
    first.append(lambda found: Entry(Event.DROP, "m", AT))
    entry = register(second, "f2")
    assert entry is not None
    assert entry.version == 2
    assert sorted(second.histories()["m"].versions) == [2]


def test_who_always_comes_second_gives_up(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    log, other = log_of(lake), log_of(lake)

    def entry(found: Mapping[str, History]) -> Entry:
        other.append(lambda known: Entry(Event.DEFAULT, "n", AT, len(known)))
        return Entry(Event.DEFAULT, "m", AT)

    with pytest.raises(CommitConflict, match=f"an entry of lakeflow.models came second {ATTEMPTS} times"):
        log.append(entry)


def test_a_commit_whose_answer_was_lost_is_not_made_twice(tmp_path: Path) -> None:
    """The entry is there though the writer was told that it failed: run again, it finds its version."""
    lake = open_lake(tmp_path)

    class Lost:
        def commit(self, change: Change) -> Committed:
            Committer(lake).commit(change)
            raise CatalogUnavailable("the answer was lost")

        def progress(self, table: str, writer: str) -> str | None:
            return None

    with pytest.raises(CatalogUnavailable):
        register(ModelLog(lambda: lake, Lost), "f1")
    assert register(log_of(lake), "f1") is None
    assert sorted(log_of(lake).histories()["m"].versions) == [1]


def test_nothing_is_opened_before_it_is_asked_for() -> None:
    def never() -> Lake:
        raise AssertionError("the lake is opened")

    ModelLog(never, lambda: Committer(never()))


def test_what_another_release_wrote_is_refused() -> None:
    with pytest.raises(Terminal, match=r"lakeflow\.models: entry 7 cannot be read: 'merge' is not a valid Event"):
        entry_of_row(row_of(Entry(Event.DROP, "m", AT), 7) | {"event": "merge"})


def test_a_table_rolled_back_takes_the_registry_along(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    log = log_of(lake)
    register(log, "f1")
    before = lake.table(MODELS).current_snapshot()
    assert before is not None
    register(log, "f2")
    lake.table(MODELS).manage_snapshots().rollback_to_snapshot(before.snapshot_id).commit()
    again = log_of(lake)
    assert sorted(again.histories()["m"].versions) == [1]
    entry = register(again, "f3")
    assert entry is not None
    assert entry.version == 2
