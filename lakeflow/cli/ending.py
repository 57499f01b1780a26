"""When landings and sinks end that one process keeps side by side."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from lakeflow.cli.output import show_error
from lakeflow.cli.signals import StopSignals
from lakeflow.errors import LakeflowError

LONGEST_WAIT: Final = 0.2
"""Seconds between two looks whether a signal came."""

Part = TypeVar("Part")


class Ending:
    """When to end: as a signal asks for it, or, of parts side by side, as soon as one of them has failed."""

    def __init__(self, signals: StopSignals) -> None:
        self.signals = signals
        self.errors: list[LakeflowError] = []
        self._failed = threading.Event()

    def requested(self) -> bool:
        return self._failed.is_set() or self.signals.requested()

    def fail(self) -> None:
        """The other parts commit what is in hand, and end."""
        self._failed.set()

    def show(self, error: LakeflowError) -> None:
        """An error that ends a part, on stderr."""
        show_error(error)
        self.errors.append(error)

    def sleep(self, seconds: float) -> None:
        """Wait, but no longer than until the end is requested."""
        end = time.monotonic() + seconds
        while not self.requested() and (left := end - time.monotonic()) > 0:
            self._failed.wait(min(left, LONGEST_WAIT))


def side_by_side(parts: Sequence[Part], keep: Callable[[Part], dict[str, Any]], ending: Ending) -> list[dict[str, Any]]:
    """One thread a part. A process of which a part no longer moves must not look alive: when one fails, all end."""

    def kept(part: Part) -> dict[str, Any]:
        try:
            return keep(part)
        except BaseException:
            ending.fail()
            raise

    with ThreadPoolExecutor(len(parts), thread_name_prefix="lakeflow-part") as pool:
        return ending.signals.results([pool.submit(kept, part) for part in parts])
