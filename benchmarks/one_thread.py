"""A landing with its stages one after the other, as a measure of what their overlapping gains. For benchmarks alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from lakeflow.lake import write
from lakeflow.landing import open as opening


class AtOnce:
    """An executor that has no thread: what is submitted is done before it returns."""

    def __init__(self, *arguments: object, **named: object) -> None: ...

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(work(*arguments))
        except BaseException as error:  # noqa: BLE001 - raised by the result, as an executor's is
            done.set_exception(error)
        return done

    def shutdown(self) -> None: ...


@contextmanager
def stages_in_one_thread() -> Iterator[None]:
    """Within it, landings that are opened poll, decode and encode in the thread that runs them."""
    with patch.object(opening, "Prefetching", lambda source: source), patch.object(write, "ThreadPoolExecutor", AtOnce):
        yield
