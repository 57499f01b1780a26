"""The one event loop of the process, on a daemon thread: it lives as long as the process, so that connections do."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")

_lock = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}


def submit(work: Coroutine[Any, Any, Result]) -> Future[Result]:
    """Start `work` on the loop; cancelling the future cancels the work."""
    return asyncio.run_coroutine_threadsafe(work, _loop())


def _loop() -> asyncio.AbstractEventLoop:
    """The loop of this process, started when first asked for; a forked child has none of its parent's threads."""
    with _lock:
        if os.getpid() not in _loops:
            loop = asyncio.new_event_loop()
            loop.set_default_executor(ThreadPoolExecutor(1, "lakeflow-models-cache"))
            threading.Thread(target=loop.run_forever, name="lakeflow-models", daemon=True).start()
            _loops[os.getpid()] = loop
        return _loops[os.getpid()]
