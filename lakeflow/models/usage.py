"""How much the models of a run were asked."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Asked:
    """Of one model: rows handed to it, calls that handed them, and the wall seconds of those calls, threads added up."""

    rows: int = 0
    calls: int = 0
    seconds: float = 0.0


class Usage:
    """Counts per model name. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[str, Asked] = {}

    def add(self, model: str, rows: int, seconds: float) -> None:
        """One more call, of `rows` rows."""
        with self._lock:
            so_far = self._asked.get(model, Asked())
            self._asked[model] = Asked(so_far.rows + rows, so_far.calls + 1, so_far.seconds + seconds)

    def by_model(self) -> Mapping[str, Asked]:
        """The counts as of now."""
        with self._lock:
            return dict(self._asked)
