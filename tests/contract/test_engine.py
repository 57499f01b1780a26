"""The engine protocol: one suite for the threads and for a fake that ends tasks in the reverse of their order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import count

import pytest

from lakeflow.runner.engines import Engine, Threads
from lakeflow.runner.engines.engine import Result, Task


class Reversing:
    """An engine in this thread: of `workers` tasks under way, the last one ends first."""

    def __init__(self, workers: int) -> None:
        self._workers = workers

    def map(self, work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        for start in range(0, len(tasks), self._workers):
            together = tasks[start : start + self._workers]
            ended: list[Callable[[], Result]] = [_attempt(work, task) for task in reversed(together)]
            for result in reversed(ended):
                yield result()


def _attempt(work: Callable[[Task], Result], task: Task) -> Callable[[], Result]:
    try:
        result = work(task)
    except BaseException as error:  # noqa: BLE001  raised again when its turn comes
        failure = error

        def fail() -> Result:
            raise failure

        return fail
    return lambda: result


WORKERS = {"threads-1": 1, "threads-2": 2, "threads-3": 3, "reversing-2": 2}


@pytest.fixture(params=WORKERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def workers(name: str) -> int:
    return WORKERS[name]


@pytest.fixture
def engine(name: str, workers: int) -> Engine:
    return Reversing(workers) if name.startswith("reversing") else Threads(workers)


class Stop(BaseException):
    """No Exception."""


def test_results_come_in_the_order_of_the_tasks_each_once(engine: Engine) -> None:
    assert list(engine.map(lambda task: task * 10, range(50))) == [task * 10 for task in range(50)]


def test_a_slow_first_task_does_not_lose_its_place(engine: Engine, workers: int) -> None:
    second_ended = threading.Event()

    def work(task: int) -> int:
        if task == 0 and workers > 1 and isinstance(engine, Threads):
            assert second_ended.wait(30)
        if task == 1:
            second_ended.set()
        return task

    assert list(engine.map(work, range(4))) == [0, 1, 2, 3]


def test_no_tasks_no_results(engine: Engine) -> None:
    assert list(engine.map(lambda task: task, ())) == []


@pytest.mark.parametrize("error", [ValueError("the third"), KeyboardInterrupt(), Stop()])
def test_the_error_of_a_task_is_raised_as_itself(engine: Engine, error: BaseException) -> None:
    def work(task: int) -> int:
        if task == 2:
            raise error
        return task

    results = engine.map(work, range(6))
    with pytest.raises(type(error)) as caught:
        list(results)
    assert caught.value is error


def test_of_two_errors_the_first_in_the_order_of_tasks_is_raised(engine: Engine) -> None:
    def work(task: int) -> int:
        raise ValueError(task)

    with pytest.raises(ValueError, match=r"^0$"):
        list(engine.map(work, range(6)))


def test_results_before_the_error_are_given(engine: Engine) -> None:
    def work(task: int) -> int:
        if task == 3:
            raise ValueError
        return task

    given: list[int] = []
    with pytest.raises(ValueError, match=r"^$"):
        given.extend(engine.map(work, range(6)))
    assert given == [0, 1, 2]


def test_after_an_error_no_task_is_begun_and_those_under_way_have_ended(engine: Engine, workers: int) -> None:
    begun: list[int] = []
    ended: list[int] = []

    def work(task: int) -> int:
        begun.append(task)
        if task == 0:
            raise ValueError
        ended.append(task)
        return task

    with pytest.raises(ValueError, match=r"^$"):
        list(engine.map(work, range(20)))
    assert len(begun) <= workers
    assert sorted([0, *ended]) == sorted(begun)


def test_a_task_that_fails_while_one_before_it_goes_on_is_the_last_to_be_begun(engine: Engine, workers: int) -> None:
    """The results of the slow one are still given."""
    failed = threading.Event()
    begun: list[int] = []

    def work(task: int) -> int:
        begun.append(task)
        if task == 1:
            failed.set()
            raise ValueError
        if task == 0 and workers > 1 and isinstance(engine, Threads):
            assert failed.wait(30)
        return task

    given: list[int] = []
    with pytest.raises(ValueError, match=r"^$"):
        given.extend(engine.map(work, range(20)))
    assert given[:1] == [0]
    assert max(begun) < max(workers, 2)


def test_no_more_tasks_are_under_way_than_there_are_workers(engine: Engine, workers: int) -> None:
    lock = threading.Lock()
    under_way = most = 0

    def work(task: int) -> int:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        with lock:
            under_way -= 1
        return task

    list(engine.map(work, range(40)))
    assert most <= workers


def test_tasks_are_begun_only_as_results_are_taken(engine: Engine, workers: int) -> None:
    begun = count()
    results = engine.map(lambda task: next(begun), range(40))
    next(results)
    assert next(begun) <= 2 * workers


def test_tasks_run_at_the_same_time_in_threads() -> None:
    both = threading.Barrier(2, timeout=30)
    assert len(list(Threads(2).map(lambda task: both.wait(), range(4)))) == 4


@pytest.mark.parametrize("workers", [0, -1, 1])
def test_there_is_one_worker_at_the_least(workers: int) -> None:
    assert list(Threads(workers).map(lambda task: threading.get_ident(), range(3))) == [threading.get_ident()] * 3
