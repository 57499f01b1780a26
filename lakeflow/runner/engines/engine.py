"""The engine protocol: where the tasks of a run are carried out. The driver alone commits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


class Engine(Protocol):
    """Carries out tasks that do not depend on each other."""

    def map(self, work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        """`work(task)` for each task; the results in the order of the tasks, each once.

        The first error of a task is raised as it is, after the tasks under way have ended; no further one is begun.
        """
        ...
