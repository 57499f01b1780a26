"""A progress bar on stderr, for whatever takes longer than a second, on a terminal only."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress

PATIENCE_SECONDS = 1.0


class Bar:
    """Counts rows towards `total` (None: not known). Nothing is shown or imported before a second has passed.

    May be advanced from several threads. Not `wanted` where data goes to the terminal meanwhile.
    """

    def __init__(self, label: str, total: int | None = None, *, wanted: bool = True) -> None:
        self._label = label
        self._total = total
        self._done = 0
        self._begun = time.monotonic()
        self._lock = threading.Lock()
        self._shown: Progress | None = None
        self._task: Any = None
        self._wanted = wanted and sys.stderr.isatty()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._shown is not None:
                self._shown.stop()
                self._shown = None

    def advance(self, rows: int) -> None:
        """`rows` more are done."""
        self.reach(self._done + rows, self._total)

    def reach(self, done: int, total: int | None) -> None:
        """`done` rows of `total` are done."""
        with self._lock:
            self._done, self._total = done, total
            if self._wanted and (self._shown is not None or time.monotonic() - self._begun > PATIENCE_SECONDS):
                self._show()

    def _show(self) -> None:
        if self._shown is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._shown = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._shown.add_task(self._label, total=self._total)
            self._shown.start()
        self._shown.update(self._task, completed=self._done, total=self._total)
