"""Writes answers to the cache, those together that come while it is busy: a transaction takes as long for many as for one.

Everything here runs on the loop of loop.py alone; the cache is called on its thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from lakeflow.models.cache import AnswerStore, Stored

MOST_AT_ONCE = 1000
"""Answers in one transaction."""

_Waiting = tuple[Sequence[Stored], "asyncio.Future[Mapping[bytes, str]]"]


class Keeping:
    """The way to a store, for answers of different keys. What fails is raised where it is waited for."""

    def __init__(self, store: AnswerStore) -> None:
        self._store = store
        self._waiting: list[_Waiting] = []
        self._writing: asyncio.Task[None] | None = None

    async def put(self, answers: Sequence[Stored]) -> Mapping[bytes, str]:
        """As `AnswerStore.put`. One that is cancelled writes its answers nonetheless: they are paid for."""
        done: asyncio.Future[Mapping[bytes, str]] = asyncio.get_running_loop().create_future()
        self._waiting.append((answers, done))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        return await done

    async def _write(self) -> None:
        """Until none waits."""
        try:
            while self._waiting:
                await self._write_some(self._taken())
        finally:
            self._writing = None

    def _taken(self) -> list[_Waiting]:
        """Those that have waited longest, one at the least."""
        taken = [self._waiting.pop(0)]
        size = len(taken[0][0])
        while self._waiting and size + len(self._waiting[0][0]) <= MOST_AT_ONCE:
            taken.append(self._waiting.pop(0))
            size += len(taken[-1][0])
        return taken

    async def _write_some(self, taken: Sequence[_Waiting]) -> None:
        answers = [one for some, _ in taken for one in some]
        written = asyncio.get_running_loop().run_in_executor(None, self._store.put, answers)
        await asyncio.wait([written])
        error = written.exception()
        for some, done in taken:
            if done.done():
                continue
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result({one.key: answer for one in some if (answer := written.result().get(one.key)) is not None})
