"""Old rows that cannot be removed, as while another process still writes among them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from lakeflow.errors import Fenced
from lakeflow.index.lance import LanceIndex
from lakeflow.index.lance_book import Entry
from lakeflow.index.lance_errors import mapped
from lakeflow.index.vectors import IndexState
from tests.contract.test_vector_index import EAST, IDENTITY, SCHEMA, UP, batch, contents, filled, position, spec_of


class Held(LanceIndex):
    """The first `times` removals find a file that was written meanwhile."""

    times = 0

    def _dropped(self, stored_in: str) -> None:
        if self.times:
            self.times -= 1
            with mapped("removing old rows of the index 'docs'", "/somewhere"):
                raise RuntimeError("lance error: LanceError(IO): Directory not empty (os error 39), local.rs:48:14")
        super()._dropped(stored_in)


def rebuilt(index: LanceIndex) -> IndexState:
    with index.rebuild(IDENTITY, SCHEMA) as writer:
        writer.upsert([batch([("a", 7, EAST), ("c", 8, UP)])], 2)
        writer.record(position(2))
    return index.state()


@pytest.mark.parametrize(("times", "left"), [(0, 1), (2, 1), (100, 2)])
def test_a_rebuild_that_is_in_place_stands(tmp_path: Path, caplog: pytest.LogCaptureFixture, times: int, left: int) -> None:
    index = Held(spec_of(), str(tmp_path))
    filled(index)
    index.times = times
    with caplog.at_level(logging.WARNING, "lakeflow.index"):
        assert rebuilt(index).position == position(2)
    assert contents(LanceIndex(spec_of(), str(tmp_path))) == {"a": 7, "c": 8}
    assert len(rows_stored(tmp_path)) == left
    assert ["are left behind" in line for line in caplog.messages] == [True] * (left - 1)
    index.times = 0
    rebuilt(index)
    assert len(rows_stored(tmp_path)) == 1, "the next rebuild removes them"


def test_a_writer_whose_rows_are_replaced_as_it_has_recorded_is_fenced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process rebuilds the index after the position stands, and before its state is read."""
    index = LanceIndex(spec_of(), str(tmp_path))
    filled(index)
    writer = index.writer(IDENTITY, SCHEMA)
    writer.upsert([batch([("z", 9, UP)])], 2)

    def others_rebuild(_writer: object) -> None:
        monkeypatch.undo()
        rebuilt(LanceIndex(spec_of(), str(tmp_path)))

    monkeypatch.setattr(type(writer), "_keep_up", others_rebuild)
    with pytest.raises(Fenced, match="was rebuilt by another process while this one wrote"):
        writer.record(position(2))
    assert contents(index) == {"a": 7, "c": 8}


@pytest.mark.parametrize("recorded", [False, True])
def test_a_rebuild_whose_rows_another_rebuild_takes_away_is_fenced(tmp_path: Path, recorded: bool) -> None:
    """Two rebuilds at once: the first to end removes the other's rows, wherever that one has come to."""
    index = LanceIndex(spec_of(), str(tmp_path))
    filled(index)

    def overtaken() -> None:
        with index.rebuild(IDENTITY, SCHEMA) as writer:
            writer.upsert([batch([("z", 9, UP)])], 2)
            if recorded:
                writer.record(position(2))
            rebuilt(LanceIndex(spec_of(), str(tmp_path)))
            writer.record(position(3))

    with pytest.raises(Fenced, match="was rebuilt by another process"):
        overtaken()
    assert contents(index) == {"a": 7, "c": 8}
    assert len(rows_stored(tmp_path)) == 1


def test_a_writer_that_is_about_to_open_replaced_rows_is_fenced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = LanceIndex(spec_of(), str(tmp_path))
    filled(index)
    opening = LanceIndex._open

    def others_rebuild(self: LanceIndex, entry: Entry) -> object:
        monkeypatch.undo()
        rebuilt(LanceIndex(spec_of(), str(tmp_path)))
        return opening(self, entry)

    monkeypatch.setattr(LanceIndex, "_open", others_rebuild)
    with pytest.raises(Fenced, match="was rebuilt by another process"):
        index.writer(IDENTITY, SCHEMA)


def test_a_reader_goes_on_with_what_rebuilds_put_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = LanceIndex(spec_of(), str(tmp_path))
    filled(index)
    opening, rounds = LanceIndex._open, iter(range(3))

    def others_rebuild(self: LanceIndex, entry: Entry) -> object:
        if self is index and next(rounds, None) is not None:
            rebuilt(LanceIndex(spec_of(), str(tmp_path)))
        return opening(self, entry)

    monkeypatch.setattr(LanceIndex, "_open", others_rebuild)
    assert index.state().position == position(2)


def rows_stored(place: Path) -> list[Path]:
    return [folder for folder in place.glob("docs*.lance") if folder.is_dir()]
