"""The default engine: threads of this process. Reading, Polars, ONNX and writing all free the interpreter lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from lakeflow.runner.engines.engine import Result, Task


class Threads:
    """At most `workers` tasks at a time, so that memory is bounded by them and not by the number of tasks."""

    def __init__(self, workers: int) -> None:
        self._workers = max(1, workers)

    def map(self, work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        if self._workers == 1 or len(tasks) == 1:
            yield from map(work, tasks)
            return
        waiting = iter(tasks)
        with ThreadPoolExecutor(self._workers, thread_name_prefix="lakeflow-task") as pool:
            running: deque[Future[Result]] = deque()
            for task in waiting:
                running.append(pool.submit(work, task))
                if len(running) == self._workers:
                    yield running.popleft().result()
                if any(_has_failed(future) for future in running):
                    break
            while running:
                yield running.popleft().result()


def _has_failed(future: Future[Result]) -> bool:
    return future.done() and future.exception() is not None
