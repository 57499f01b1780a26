"""What every store of paid answers keeps to: a file, a database that machines share, and the fake."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lakeflow.errors import CacheBroken, ConfigError, StorageFull, StorageUnavailable
from lakeflow.models.cache import KeptAnswers, SqliteAnswers, Stored, answer_key
from lakeflow.models.postgres_cache import TABLE, PostgresAnswers
from lakeflow.postgres import read_place
from lakeflow.testing.answers import MemoryAnswers
from tests.rig.postgres import Postgres

REPOSITORY = Path(__file__).parents[2]
MACHINE = """
import json, sys
from pathlib import Path
from lakeflow.models.cache import SqliteAnswers, Stored, answer_key
from lakeflow.models.postgres_cache import PostgresAnswers
from lakeflow.postgres import read_place

place, me, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = PostgresAnswers(read_place(place)) if "://" in place else SqliteAnswers(Path(place))
print("ready", flush=True)
sys.stdin.readline()
said = {}
numbers = range(count) if me == "a" else range(count - 1, -1, -1)
for start in range(0, count, 5):
    some = [Stored(answer_key("f", {"n": n}), "m", f"{me}{n}") for n in list(numbers)[start : start + 5]]
    stood = store.put(some)
    said |= {one.key.hex(): stood.get(one.key, one.answer) for one in some}
print(json.dumps(said))
store.close()
"""

Opener = Callable[..., KeptAnswers]


@pytest.fixture(params=["sqlite", "memory", "postgres"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens a store on one and the same place, any number of times."""
    opened: list[KeptAnswers] = []
    memory: list[MemoryAnswers] = []
    server: Postgres | None = request.getfixturevalue("postgres") if request.param == "postgres" else None

    def open_one(**settings: Any) -> KeptAnswers:
        match request.param:
            case "sqlite":
                opened.append(SqliteAnswers(tmp_path / "answers.db", **settings))
            case "memory":
                memory[:] = memory or [MemoryAnswers(**settings)]
                opened.append(memory[0])
            case _:
                assert server is not None
                opened.append(PostgresAnswers(read_place(server.uri), **settings))
        return opened[-1]

    yield open_one
    if server is not None:
        drop(server.uri)
    for one in opened:
        one.close()


def drop(uri: str) -> None:
    tell(uri, f"DROP TABLE IF EXISTS {TABLE}")


def tell(uri: str, statements: str) -> None:
    """What another client does."""
    import psycopg2

    connection = psycopg2.connect(**{**read_place(uri).parameters(), "application_name": "other"})
    with connection, connection.cursor() as cursor:
        cursor.execute(statements)
    connection.close()


def stored(number: int, answer: str = '["a"]', model: str = "m") -> Stored:
    return Stored(answer_key("f", {"n": number}), model, answer, tokens=2)


def test_what_is_put_is_there_for_another_to_get(opener: Opener) -> None:
    with_one, other = opener(), opener()
    assert with_one.get([]) == {}
    assert with_one.get([stored(1).key]) == {}
    assert with_one.put([]) == {}
    assert with_one.put([stored(number, json.dumps([f"é\u0000{number} ' % \\ 雪"])) for number in range(1200)]) == {}
    keys = [stored(number).key for number in range(1300)]
    found = other.get(keys)
    assert found == {keys[number]: json.dumps([f"é\u0000{number} ' % \\ 雪"]) for number in range(1200)}


def test_the_first_answer_stays_and_is_told_to_who_comes_second(opener: Opener) -> None:
    one, other = opener(), opener()
    assert one.put([stored(1, '["first"]'), stored(2, '["same"]')]) == {}
    assert other.put([stored(0), stored(1, '["second"]'), stored(2, '["same"]')]) == {stored(1).key: '["first"]'}
    assert other.get([stored(1).key]) == {stored(1).key: '["first"]'}


def test_an_answer_counts_for_so_many_days_and_may_then_be_given_anew(opener: Opener) -> None:
    now = [1e9]
    answers = opener(days=2, clock=lambda: now[0])
    answers.put([stored(1)])
    now[0] += 1.9 * 86_400
    assert answers.get([stored(1).key])
    now[0] += 0.2 * 86_400
    assert not answers.get([stored(1).key])
    assert answers.put([stored(1, '["new"]')]) == {}
    assert list(answers.get([stored(1).key]).values()) == ['["new"]']


def test_past_its_bound_the_oldest_go(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("cache", "postgres_cache"):
        monkeypatch.setattr(f"lakeflow.models.{module}.EVICT_EVERY_BYTES", 10_000)
    now = [1.0]
    answers = opener(most_bytes=50_000, clock=lambda: now[0])
    for number in range(100):
        now[0] += 1
        answers.put([stored(number, "x" * 1000)])
    [kept] = answers.stats()
    assert 35_000 <= kept.bytes <= 60_000
    assert (kept.newest, kept.oldest) == (101.0, 101.0 - kept.answers + 1), "what is left is the newest"


def test_stats_and_clear_go_by_model(opener: Opener) -> None:
    answers = opener(clock=lambda: 5.0)
    assert answers.stats() == []
    assert answers.clear() == 0
    answers.put([stored(1), stored(2), stored(3, '["é"]', model="a; DROP TABLE x"), stored(4, model="Z")])
    assert [(one.model, one.answers, one.tokens, one.bytes, one.oldest) for one in answers.stats()] == [
        ("Z", 1, 2, 5, 5.0),
        ("a; DROP TABLE x", 1, 2, 6, 5.0),
        ("m", 2, 4, 10, 5.0),
    ]
    assert answers.clear("m") == 2
    assert [one.model for one in answers.stats()] == ["Z", "a; DROP TABLE x"]
    assert answers.clear() == 2
    assert answers.get([stored(4).key]) == {}


def test_a_closed_store_opens_anew(opener: Opener) -> None:
    answers = opener()
    answers.put([stored(1)])
    answers.close()
    answers.close()
    assert answers.get([stored(1).key])


def test_threads_of_two_put_and_get_at_once(opener: Opener) -> None:
    two = [opener(), opener()]
    failed: list[BaseException] = []

    def put(thread: int) -> None:
        try:
            for number in range(20):
                two[thread % 2].put([stored(thread * 100 + number), stored(1000 + number)])
                assert two[thread % 2].get([stored(1000 + number).key])
        except BaseException as error:  # noqa: BLE001  # looked at below
            failed.append(error)

    threads = [threading.Thread(target=put, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert two[0].stats()[0].answers == 100


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_two_machines_that_race_from_an_empty_place_end_with_the_same_answers(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """They go through the same questions from both ends, answer them otherwise, and make the table both."""
    place = str(tmp_path / "a.db") if kind == "sqlite" else request.getfixturevalue("postgres").uri
    if kind == "postgres":
        drop(place)
    command = [sys.executable, "-W", "error", "-c", MACHINE, place]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": REPOSITORY}
    machines = [subprocess.Popen([*command, name, "200"], **pipes) for name in "ab"]
    for machine in machines:
        assert machine.stdout is not None
        assert machine.stdout.readline() == "ready\n"
    outs = []
    for machine in machines:
        assert machine.stdin is not None
        machine.stdin.write("\n")
        machine.stdin.flush()
    for machine in machines:
        outs.append(machine.communicate()[0])
        assert machine.returncode == 0
    first, second = map(json.loads, outs)
    assert len(first) == 200
    assert first == second
    store = SqliteAnswers(Path(place)) if kind == "sqlite" else PostgresAnswers(read_place(place))
    assert {key.hex(): answer for key, answer in store.get([bytes.fromhex(key) for key in first]).items()} == first
    store.close()
    if kind == "postgres":
        drop(place)


class TestPostgres:
    """What befalls a database, which has no table when a test begins."""

    @pytest.fixture(autouse=True)
    def _empty(self, postgres: Postgres) -> None:
        drop(postgres.uri)

    def test_a_wrong_password_a_missing_database_and_a_wrong_host_say_what_to_do(self, postgres: Postgres) -> None:
        place = read_place(postgres.uri)
        wrong = PostgresAnswers(replace(place, password="hunter22-wrong"))
        with pytest.raises(ConfigError, match=r"refuses the user.*password authentication failed") as refused:
            wrong.get([b"k"])
        assert "hunter22" not in str(refused.value)
        with pytest.raises(ConfigError, match='database "nowhere" does not exist'):
            PostgresAnswers(replace(place, database="nowhere")).get([b"k"])
        waited: list[float] = []
        away = PostgresAnswers(replace(place, port=1), sleep=waited.append)
        with pytest.raises(StorageUnavailable, match=rf"{place.user}@127.0.0.1:1/lakeflow does not answer") as unavailable:
            away.put([stored(1)])
        assert len(waited) == 7, "it is waited for: the answer is paid for"
        assert str(place.password) not in str(unavailable.value)

    def test_a_table_of_somebody_else_is_left_alone(self, postgres: Postgres) -> None:
        with _table(postgres.uri, f"CREATE TABLE {TABLE} (mine int)"), pytest.raises(CacheBroken, match="marked None"):
            PostgresAnswers(read_place(postgres.uri)).clear()

    def test_who_may_only_read_is_told_so(self, postgres: Postgres) -> None:
        place = read_place(postgres.uri)
        first = PostgresAnswers(place)
        first.put([stored(1)])
        first.close()
        grants = f"CREATE ROLE reader LOGIN PASSWORD 'reads'; GRANT SELECT ON {TABLE} TO reader"
        with _table(postgres.uri, grants, f"DROP TABLE {TABLE}; DROP ROLE reader"):
            reader = PostgresAnswers(replace(place, user="reader", password="reads"))
            assert reader.get([stored(1).key])
            with pytest.raises(StorageFull, match="permission denied"):
                reader.put([stored(2)])
            reader.close()

    def test_a_connection_that_was_cut_is_made_anew(self, postgres: Postgres) -> None:
        answers = PostgresAnswers(read_place(postgres.uri), sleep=lambda seconds: None)
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'lakeflow'"
        answers.put([stored(1)])
        with _table(postgres.uri, cut, f"DROP TABLE {TABLE}"):
            answers.put([stored(2)])
            assert len(answers.get([stored(1).key, stored(2).key])) == 2
            answers.close()


@contextmanager
def _table(uri: str, before: str, after: str = f"DROP TABLE {TABLE}") -> Iterator[None]:
    """Statements of another client before the block and after it."""
    tell(uri, before)
    try:
        yield
    finally:
        tell(uri, after)
