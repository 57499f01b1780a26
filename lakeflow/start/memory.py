"""How a process that stays keeps its memory flat: what is freed in any thread must come back.

Both allocators by default go by the thread: Arrow's (mimalloc) keeps what one thread took and another gave back until the
first takes the like again, which a thread of a pool may never do, and glibc has eight heaps a processor, each as large as the
most that was ever in it. With tables that grow, either grows by some MiB a minute, though nothing is in use.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import MutableMapping

ARROW_POOL = "ARROW_DEFAULT_MEMORY_POOL"
HEAPS = ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")
M_ARENA_MAX = -8
"""Of mallopt(3): the most heaps that glibc makes."""


def keep_memory_flat(environment: MutableMapping[str, str] = os.environ, platform: str = sys.platform) -> None:
    """Choose Arrow's pool whose memory comes back whoever frees it, jemalloc, and a heap of glibc a processor.

    To be called before pyarrow is imported. What the environment says already stays. On other systems than Linux it does
    nothing: which pools Arrow was built with there is not known before it is loaded.
    """
    if platform != "linux":
        return
    environment.setdefault(ARROW_POOL, "jemalloc")
    if not any(name in environment for name in HEAPS):
        _bound_heaps(os.cpu_count() or 1)


def _bound_heaps(most: int) -> None:
    """Where the C library is no glibc there is no such setting, and nothing to bound."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, max(2, most))
