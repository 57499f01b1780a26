"""Kept answers in memory, for tests that look at what is asked and not at where answers lie."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

from lakeflow.models.cache import KEPT_SHARE, Kept, Stored


class MemoryAnswers:
    """See `KeptAnswers`. `days` and `most_bytes` mean what they do for the real ones."""

    def __init__(self, *, days: float | None = None, most_bytes: int = 4 << 30, clock: Callable[[], float] = time.time) -> None:
        self._age = float("inf") if days is None else days * 86_400.0
        self._most_bytes = most_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._held: dict[bytes, tuple[Stored, float]] = {}

    def get(self, keys: Sequence[bytes]) -> Mapping[bytes, str]:
        with self._lock:
            return {key: self._held[key][0].answer for key in keys if self._counts(key)}

    def put(self, answers: Sequence[Stored]) -> Mapping[bytes, str]:
        with self._lock:
            stood = {}
            for one in answers:
                if not self._counts(one.key):
                    self._held.pop(one.key, None)
                    self._held[one.key] = (one, self._clock())
                elif (answer := self._held[one.key][0].answer) != one.answer:
                    stood[one.key] = answer
            self._evict()
            return stood

    def stats(self) -> list[Kept]:
        with self._lock:
            ordered = sorted(self._held.values(), key=lambda held: held[0].model)
        return [_kept(model, list(held)) for model, held in groupby(ordered, key=lambda held: held[0].model)]

    def clear(self, model: str | None = None) -> int:
        with self._lock:
            gone = [key for key, (one, _) in self._held.items() if model in (None, one.model)]
            for key in gone:
                del self._held[key]
            return len(gone)

    def close(self) -> None:
        """Nothing is open."""

    def _counts(self, key: bytes) -> bool:
        return key in self._held and self._held[key][1] >= self._clock() - self._age

    def _evict(self) -> None:
        """Drop the oldest; they stand first."""
        size = sum(len(one.answer.encode()) for one, _ in self._held.values())
        if size <= self._most_bytes:
            return
        for key in list(self._held):
            if size <= self._most_bytes * KEPT_SHARE:
                return
            size -= len(self._held.pop(key)[0].answer.encode())


def _kept(model: str, held: Sequence[tuple[Stored, float]]) -> Kept:
    times = [written for _, written in held]
    size = sum(len(one.answer.encode()) for one, _ in held)
    return Kept(model, len(held), size, sum(one.tokens for one, _ in held), min(times), max(times))
