from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lakeflow.errors import CacheBroken, StorageFull
from lakeflow.models.cache import SqliteAnswers, Stored, answer_key

_opened: list[SqliteAnswers] = []


def store(path: Path, **settings: Any) -> SqliteAnswers:
    _opened.append(SqliteAnswers(path, **settings))
    return _opened[-1]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


def stored(number: int, answer: str = '["a"]', model: str = "m") -> Stored:
    return Stored(answer_key("f", {"n": number}), model, answer, tokens=2)


def test_a_read_and_a_clearing_make_no_file(tmp_path: Path) -> None:
    answers = store(tmp_path / "deep" / "a.db")
    assert (answers.get([stored(1).key]), answers.stats(), answers.clear()) == ({}, [], 0)
    assert list(tmp_path.iterdir()) == []
    answers.put([stored(1)])
    assert (tmp_path / "deep" / "a.db").exists()


@pytest.mark.parametrize("damage", ["noise", "version"])
def test_a_file_that_cannot_be_read_says_how_to_go_on(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.db"
    answers = store(path)
    answers.put([stored(number) for number in range(100)])
    if damage == "version":
        with answers._connection() as connection:
            connection.execute("PRAGMA user_version = 9")
    answers.close()
    if damage == "noise":
        path.write_bytes(b"no database" * 1000)
    with pytest.raises(CacheBroken, match=r"a\.db") as caught:
        answers.get([stored(1).key])
    assert caught.value.next_step
    answers.clear()
    assert answers.get([stored(1).key]) == {}
    answers.put([stored(1)])
    assert answers.get([stored(1).key])


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFull, match=r"file/a\.db cannot be written"):
        store(tmp_path / "file" / "a.db").put([stored(1)])


def test_keys_differ_where_any_value_does() -> None:
    values: list[object] = [None, 0, 0.5, False, "", "0", "None", b"0", date(2013, 1, 1), Decimal("0.50"), [], [0], {}]
    values += [datetime(2013, 1, 1, tzinfo=UTC), 'x","y', float("nan")]
    rows = [{"a": value} for value in values] + [{"a": "x", "b": "y"}]
    keys = {answer_key("f", row) for row in rows}
    assert len(keys) == len(rows)
    assert keys == {answer_key("f", row) for row in rows}
    assert answer_key("g", rows[0]) not in keys
