"""SIGTERM and SIGINT as a request to stop after the commit under way; a second one ends the process at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TypeVar

_EXIT_OFFSET = 128
_LONGEST_WAIT = 0.2
"""Seconds that the main thread waits at once. It is the only one that heeds signals, and only while it runs Python: a
signal that came to another thread, or just before it began to wait, does not wake it."""

Result = TypeVar("Result")


class StopSignals:
    """While the block runs, `requested` tells whether a signal came, on any thread. `exit_code` is 0 where none did.

    The handler waits until the main thread runs Python again, which within a library's call may be long; that a signal came
    is written to a pipe at once, where other threads see it.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._noticed = False
        self._pipe = (-1, -1)
        self._woken = -1
        self._previous: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._handle)
        self._pipe = os.pipe()
        for end in self._pipe:
            os.set_blocking(end, False)
        self._woken = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._woken)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._noticed = self.requested()
        read_end, write_end = self._pipe
        self._pipe = (-1, -1)
        os.close(read_end)
        os.close(write_end)

    def requested(self) -> bool:
        if self._received is None and not self._noticed and self._pipe[0] >= 0:
            with suppress(BlockingIOError):
                came = os.read(self._pipe[0], 64)
                self._noticed = any(number in self._previous for number in came)
        return self._noticed or self._received is not None

    @property
    def exit_code(self) -> int:
        return 0 if self._received is None else _EXIT_OFFSET + self._received

    def sleep(self, seconds: float) -> None:
        """Wait, but no longer than until a signal comes."""
        end = time.monotonic() + seconds
        while not self.requested() and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _LONGEST_WAIT))

    def results(self, futures: Sequence[Future[Result]]) -> list[Result]:
        """The results of all futures, in order, once all are done; signals are heeded meanwhile. Raises what they raise."""
        running = set(futures)
        while running:
            running = wait(running, timeout=_LONGEST_WAIT).not_done
        return [future.result() for future in futures]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None:
            raise SystemExit(_EXIT_OFFSET + number)
        self._received = number


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Within it, SIGTERM leaves by way of every `finally`, as SIGINT does: what a verb spilled to disk is removed."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(_EXIT_OFFSET + number)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def ended_at_once(clean_up: Callable[[], None]) -> Iterator[None]:
    """Within it, SIGINT and SIGTERM clean up and end the process where it stands, for work that leaves nothing half done.

    Raising would not do: a library that runs a query turns what a handler raises into an error of its own.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        clean_up()
        os._exit(_EXIT_OFFSET + number)

    previous = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
