from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence

import pytest

from lakeflow.errors import StorageUnavailable
from lakeflow.models.cache import Stored
from lakeflow.models.remote.keeping import Keeping
from lakeflow.testing.answers import MemoryAnswers


class Slow(MemoryAnswers):
    """Takes the first answers, and holds them until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go_on = threading.Event()
        self.sizes: list[int] = []
        self.fails = False

    def put(self, answers: Sequence[Stored]) -> Mapping[bytes, str]:
        self.sizes.append(len(answers))
        self.may_go_on.wait()
        if self.fails:
            raise StorageUnavailable("away")
        return super().put(answers)


def stored(number: int, answer: str = "a") -> Stored:
    return Stored(str(number).encode(), "m", answer)


async def begun(store: Slow, keeping: Keeping, numbers: Sequence[int]) -> list[asyncio.Task[Mapping[bytes, str]]]:
    """Puts that wait, the first of them at the store."""
    tasks = [asyncio.create_task(keeping.put([stored(number)])) for number in numbers]
    while not store.sizes:
        await asyncio.sleep(0.001)
    return tasks


def test_what_comes_while_the_store_is_busy_is_written_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakeflow.models.remote.keeping.MOST_AT_ONCE", 4)
    store = Slow()

    async def keep() -> None:
        keeping = Keeping(store)
        tasks = await begun(store, keeping, [0])
        tasks += [asyncio.create_task(keeping.put([stored(number)])) for number in range(1, 7)]
        await asyncio.sleep(0.01)
        store.may_go_on.set()
        assert await asyncio.gather(*tasks) == [{}] * 7
        assert await keeping.put([stored(9)]) == {}, "it begins anew once it was idle"

    asyncio.run(keep())
    assert store.sizes == [1, 4, 2, 1]
    assert len(store.get([str(number).encode() for number in range(10)])) == 8


def test_each_is_told_what_stood_in_place_of_its_own_answers() -> None:
    store = Slow()
    store.may_go_on.set()
    store.put([stored(1, "first")])

    async def keep() -> list[Mapping[bytes, str]]:
        keeping = Keeping(store)
        return list(await asyncio.gather(*(keeping.put([stored(number)]) for number in (0, 1, 2))))

    assert asyncio.run(keep()) == [{}, {b"1": "first"}, {}]


def test_a_failure_is_raised_for_all_whose_answers_it_concerns_and_the_next_are_tried() -> None:
    store = Slow()
    store.fails = True

    async def keep() -> None:
        keeping = Keeping(store)
        tasks = await begun(store, keeping, [0, 1])
        store.may_go_on.set()
        failed = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one) for one in failed] == [StorageUnavailable] * 2
        store.fails = False
        await keeping.put([stored(2)])

    asyncio.run(keep())
    assert store.get([b"0", b"1", b"2"]) == {b"2": "a"}


def test_an_answer_whose_asker_went_away_is_kept() -> None:
    store = Slow()

    async def keep() -> None:
        keeping = Keeping(store)
        tasks = await begun(store, keeping, [0, 1])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        store.may_go_on.set()
        await keeping.put([stored(2)])

    asyncio.run(keep())
    assert len(store.get([b"0", b"1", b"2"])) == 3
