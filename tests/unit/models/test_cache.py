from __future__ import annotations

import threading
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


def test_what_is_put_is_there_for_another_process_to_get(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "answers.db"
    with_one, other = store(path), store(path)
    assert with_one.get([stored(1).key]) == {}
    assert not path.exists(), "a read makes no file"
    with_one.put([stored(number) for number in range(1200)])
    keys = [stored(number).key for number in range(1300)]
    assert other.get(keys) == dict.fromkeys(keys[:1200], '["a"]')


def test_the_first_answer_to_a_question_stays(tmp_path: Path) -> None:
    answers = store(tmp_path / "a.db")
    answers.put([stored(1, '["first"]')])
    answers.put([stored(1, '["second"]')])
    assert list(answers.get([stored(1).key]).values()) == ['["first"]']


def test_an_answer_counts_for_so_many_days_and_may_then_be_given_anew(tmp_path: Path) -> None:
    now = [1e9]
    answers = store(tmp_path / "a.db", days=2, clock=lambda: now[0])
    answers.put([stored(1)])
    now[0] += 1.9 * 86_400
    assert answers.get([stored(1).key])
    now[0] += 0.2 * 86_400
    assert not answers.get([stored(1).key])
    answers.put([stored(1, '["new"]')])
    assert list(answers.get([stored(1).key]).values()) == ['["new"]']


def test_past_its_bound_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakeflow.models.cache.EVICT_EVERY_BYTES", 10_000)
    now = [1.0]
    answers = store(tmp_path / "a.db", most_bytes=50_000, clock=lambda: now[0])
    for number in range(100):
        now[0] += 1
        answers.put([stored(number, "x" * 1000)])
    [kept] = answers.stats()
    assert 35_000 <= kept.bytes <= 60_000
    assert kept.newest == 101.0
    assert kept.oldest == 101.0 - kept.answers + 1, "what is left is the newest"


def test_stats_and_clear_go_by_model(tmp_path: Path) -> None:
    answers = store(tmp_path / "a.db", clock=lambda: 5.0)
    assert answers.stats() == []
    assert answers.clear() == 0
    answers.put([stored(1), stored(2), stored(3, model="other")])
    assert [(one.model, one.answers, one.tokens, one.oldest) for one in answers.stats()] == [
        ("m", 2, 4, 5.0),
        ("other", 1, 2, 5.0),
    ]
    assert answers.clear("m") == 2
    assert [one.model for one in answers.stats()] == ["other"]


def test_threads_put_and_get_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    two = [store(path), store(path)]

    def put(thread: int) -> None:
        for number in range(50):
            two[thread % 2].put([stored(thread * 100 + number)])

    threads = [threading.Thread(target=put, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert two[0].stats()[0].answers == 200


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
