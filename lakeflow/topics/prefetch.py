"""Polls a source in a thread of its own, so that the next records are there when those before are done with.

librdkafka makes Python's messages in the thread that polls, and everything that frees the interpreter's lock meanwhile
(Arrow, numpy, the network) runs beside it. The source itself is used by that thread alone, as its protocol asks.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, Generic, Protocol, TypeVar, cast

from lakeflow.progress import KafkaOffsets
from lakeflow.topics.source import Bounds, GroupSource, IdentifiedSource, Offsets, Records, Source, TopicPartition

POLLS = 2
"""Polls that wait at the most, the one under way among them: so memory holds what the source gives at once, thrice."""
POLL_RECORDS = 16_384
AHEAD_SECONDS = 0.02
"""How long a poll ahead of need waits for records. Whoever asks for something else waits as long."""
SLICE = 0.1
"""Seconds that are waited at once: no signal is seen meanwhile, and `close` waits as long."""

Answer = TypeVar("Answer")


class OwnSource(Source, IdentifiedSource, GroupSource, Protocol):
    """A source that one process has for itself, with all that is asked of one."""


class _Task(Generic[Answer]):
    """A call for the source's thread, and what came of it.

    Not a Future: KeyboardInterrupt within one can leave its lock taken, and the thread that is to fill it would wait for
    ever, and the process for that thread. Here the lock only wakes who waits; `done` alone is what holds.
    """

    def __init__(self, call: Callable[[], Answer]) -> None:
        self._call = call
        self._wake = Lock()
        self._wake.acquire()
        self._answer: Answer | None = None
        self._error: BaseException | None = None
        self.cancelled = False
        self.done = False

    def run(self) -> None:
        try:
            self._answer = self._call()
        except BaseException as error:  # noqa: BLE001 (raised again, by the thread that asks)
            self._error = error
        self.done = True
        self._wake.release()

    def is_there(self, deadline: float) -> bool:
        """Waits for the answer until the deadline."""
        while not self.done:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._wake.acquire(timeout=min(SLICE, left))
        return True

    def result(self) -> Answer:
        """The answer, which is there. Raises what the call raised."""
        if self._error is not None:
            raise self._error
        return cast(Answer, self._answer)


def _work(tasks: SimpleQueue[_Task[Any] | None]) -> None:
    while (task := tasks.get()) is not None:
        if not task.cancelled:
            task.run()


class Prefetching:
    """OwnSource over `source`, which belongs to it from now on. Up to `polls` polls of `records` wait in memory.

    An error of a poll is raised by the poll that comes to it, behind the records before it; the next polls anew.
    """

    def __init__(self, source: OwnSource, *, polls: int = POLLS, records: int = POLL_RECORDS) -> None:
        self._source = source
        self._polls = polls
        self._records = records
        self._tasks: SimpleQueue[_Task[Any] | None] = SimpleQueue()
        # A process that never closes its source does not wait for it.
        self._thread = Thread(target=_work, args=(self._tasks,), name="lakeflow-poll", daemon=True)
        self._thread.start()
        self._ahead: deque[_Task[Records]] = deque()
        self._rest = Records()
        self._closed = False

    def bounds(self) -> Mapping[TopicPartition, Bounds]:
        return self._asked(self._source.bounds)

    def topic_ids(self) -> Mapping[str, str | None]:
        return self._asked(self._source.topic_ids)

    def offsets_at(self, timestamp: int) -> Offsets:
        return self._asked(lambda: self._source.offsets_at(timestamp))

    def acknowledge(self, progress: KafkaOffsets) -> None:
        self._asked(lambda: self._source.acknowledge(progress))

    def assign(self, start: Offsets) -> None:
        """As `Source.assign`; what was polled ahead is forgotten."""
        self._forget()
        self._asked(lambda: self._source.assign(start))

    def poll(self, limit: int, timeout: float) -> Records:
        """As `Source.poll`; what was polled ahead and is more than `limit` comes in pieces."""
        deadline = time.monotonic() + timeout
        while _is_empty(self._rest):
            if not self._ahead:
                self._fetch(min(SLICE, max(0.0, deadline - time.monotonic())))
            if self._ahead[0].is_there(deadline):
                self._rest = self._ahead.popleft().result()
            if _is_empty(self._rest) and time.monotonic() >= deadline:
                return self._rest
        while len(self._ahead) < self._polls:
            self._fetch(AHEAD_SECONDS)
        given, self._rest = cut(self._rest, limit)
        return given

    def close(self) -> None:
        """As `Source.close`; the thread has ended then."""
        if self._closed:
            return
        self._forget()
        self._tasks.put(None)
        self._thread.join()
        self._closed = True
        self._source.close()

    def _fetch(self, seconds: float) -> None:
        self._ahead.append(self._put(lambda: self._source.poll(self._records, seconds)))

    def _forget(self) -> None:
        for fetched in self._ahead:
            fetched.cancelled = True
        self._ahead.clear()
        self._rest = Records()

    def _asked(self, question: Callable[[], Answer]) -> Answer:
        """Put to the source by its thread, behind the polls under way."""
        task = self._put(question)
        task.is_there(float("inf"))
        return task.result()

    def _put(self, call: Callable[[], Answer]) -> _Task[Answer]:
        task = _Task(call)
        self._tasks.put(task)
        return task


def cut(records: Records, limit: int) -> tuple[Records, Records]:
    """The first `limit` records, and those behind them, with which the ends go where there are any. Pure."""
    if len(records) <= limit:
        return records, Records()
    return records.between(0, limit), records.between(limit, len(records), records.ends)


def _is_empty(records: Records) -> bool:
    return not (records.offsets or records.ends)
