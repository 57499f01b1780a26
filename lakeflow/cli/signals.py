"""SIGTERM and SIGINT as a request to stop after the commit under way; a second one ends the process at once."""

from __future__ import annotations

import signal
import time
from types import FrameType

_EXIT_OFFSET = 128


class StopSignals:
    """While the block runs, `requested` tells whether a signal came. `exit_code` is 0 where none did."""

    def __init__(self) -> None:
        self._received: int | None = None
        self._previous: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def requested(self) -> bool:
        return self._received is not None

    @property
    def exit_code(self) -> int:
        return 0 if self._received is None else _EXIT_OFFSET + self._received

    def sleep(self, seconds: float) -> None:
        """Wait, but no longer than until a signal comes."""
        end = time.monotonic() + seconds
        while not self.requested() and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._received is not None:
            raise SystemExit(_EXIT_OFFSET + number)
        self._received = number
