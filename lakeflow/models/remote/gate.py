"""The way to one service: all models, jobs and threads of a process that ask it with the same account go through one gate.

Everything here runs on the loop of loop.py alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from lakeflow.models.remote.dialect import Dialect
from lakeflow.models.remote.limits import Breaker, Concurrency, LearnedRate, Pace
from lakeflow.models.remote.settings import RemoteSettings
from lakeflow.models.usage import Tokens

LOOKS_EVERY = 0.25
"""Seconds between two looks at whether the rate has grown meanwhile."""


@dataclass(slots=True)
class Gate:
    """Slots, paces and the breaker of a service. Where models declare different limits, the strictest holds."""

    concurrency: Concurrency
    breaker: Breaker
    requests: Pace | None = None
    tokens: Pace | None = None
    learned: LearnedRate = field(default_factory=LearnedRate)
    under_way: int = 0
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _waiting: deque[asyncio.Future[None]] = field(default_factory=deque)

    def meet(self, settings: RemoteSettings) -> None:
        """Take another model's limits into account."""
        grown = settings.concurrency - self.concurrency.most
        if grown > 0:
            self.concurrency.most, self.concurrency.limit = settings.concurrency, self.concurrency.limit + grown
        self.requests = _strictest(self.requests, settings.requests_a_minute)
        self.tokens = _strictest(self.tokens, settings.tokens_a_minute)
        self.breaker.failures = min(self.breaker.failures, settings.breaker_failures)
        self.breaker.pause = max(self.breaker.pause, settings.breaker_pause)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Waits for a slot, in the order of coming. It is held through retries, so that those slow the others down."""
        if self._waiting or self.under_way >= int(self.concurrency.limit):
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except BaseException:
                if turn.done() and not turn.cancelled():
                    self._leave()
                elif turn in self._waiting:
                    self._waiting.remove(turn)
                raise
        else:
            self.under_way += 1
        try:
            yield
        finally:
            self._leave()

    async def pace(self, expected: Tokens) -> float:
        """Waits until a request of so many tokens may go, in the order of coming; the seconds that this took."""
        clock = asyncio.get_running_loop().time
        came = clock()
        waits = [pace.take(amount, came) for pace, amount in ((self.requests, 1), (self.tokens, expected.total)) if pace]
        await asyncio.sleep(max(waits, default=0.0))
        async with self._turn:
            while (wait := self.learned.wait(clock())) > 1e-6:
                await asyncio.sleep(min(wait, LOOKS_EVERY))
            self.learned.sent(clock())
        return clock() - came

    def correct(self, expected: Tokens, used: Tokens) -> None:
        """What a request was expected to cost, and what it did."""
        if self.tokens is not None:
            self.tokens.correct(used.total - expected.total)

    def _leave(self) -> None:
        self.under_way -= 1
        while self._waiting and self.under_way < int(self.concurrency.limit):
            turn = self._waiting.popleft()
            if not turn.done():
                self.under_way += 1
                turn.set_result(None)


def _strictest(pace: Pace | None, a_minute: int | None) -> Pace | None:
    if a_minute is None:
        return pace
    if pace is None:
        return Pace(a_minute)
    pace.a_minute = min(pace.a_minute, a_minute)
    return pace


_gates: dict[bytes, Gate] = {}


def gate_of(dialect: Dialect, settings: RemoteSettings) -> Gate:
    """The gate of a service's model, as long as the process lives; a forked child has a loop, and so gates, of its own."""
    account = "\n".join([str(os.getpid()), dialect.url, dialect.service_model, *dialect.secrets])
    key = hashlib.sha256(account.encode()).digest()
    if key not in _gates:
        _gates[key] = Gate(Concurrency(settings.concurrency), Breaker(settings.breaker_failures, settings.breaker_pause))
    _gates[key].meet(settings)
    return _gates[key]
