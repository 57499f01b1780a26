"""Retries, of Transient errors only. The clock and the sleep are passed in, so that tests take no time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from lakeflow.errors import Transient

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Backoff:
    """Full jitter: attempt n waits uniformly between 0 and min(cap, base * 2**n) seconds.

    Source of the formula: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """

    attempts: int = 8
    base: float = 0.05
    cap: float = 5.0

    def wait(self, attempt: int, uniform: Callable[[float, float], float] = random.uniform) -> float:
        """Seconds to wait after the failed attempt number `attempt`, which starts at 0."""
        return uniform(0.0, min(self.cap, self.base * 2.0**attempt))


def retrying(call: Callable[[], T], backoff: Backoff = Backoff(), *, sleep: Callable[[float], None] = time.sleep) -> T:
    """`call()` until it returns, at most `backoff.attempts` times. Raises its last Transient, and anything else at once."""
    for attempt in range(backoff.attempts - 1):
        try:
            return call()
        except Transient:
            sleep(backoff.wait(attempt))
    return call()
