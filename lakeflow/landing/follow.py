"""Keeps a landing going through what passes: after a transient error it is opened anew, from what the table holds."""

from __future__ import annotations

import logging
from collections.abc import Callable

from lakeflow.errors import Transient
from lakeflow.landing.writer import Landed, Landing
from lakeflow.retry import Backoff
from lakeflow.topics.source import Source

logger = logging.getLogger("lakeflow.landing")

REOPEN = Backoff(attempts=8, base=1.0, cap=30.0)

Open = Callable[[], tuple[Landing, Source]]


def land_once(open_landing: Open, *, follow: bool, stop: Callable[[], bool], told: Callable[[Landed], None]) -> None:
    """Open a landing, run it, close its source. `told` is given what it landed, however it ends. Raises what both raise."""
    landing, source = open_landing()
    try:
        landing.run(follow=follow, stop=stop)
    finally:
        source.close()
        told(landing.landed)


def keep_landing(
    table: str,
    open_landing: Open,
    *,
    stop: Callable[[], bool],
    told: Callable[[Landed], None],
    sleep: Callable[[float], None],
    backoff: Backoff = REOPEN,
) -> None:
    """Follow the topic of `table` until `stop()`. `told` is given what each landing that was opened has landed.

    Raises a Transient once `backoff.attempts` of them came with no commit in between, and anything else at once.
    """
    failures = 0

    def tell(landed: Landed) -> None:
        nonlocal failures
        if landed.snapshots:
            failures = 0
        told(landed)

    while not stop():
        try:
            land_once(open_landing, follow=True, stop=stop, told=tell)
            return
        except Transient as error:
            failures += 1
            if failures >= backoff.attempts:
                raise
            wait = backoff.wait(failures - 1)
            logger.warning("the landing of %s is opened again in %.1f s: %s", table, wait, error.message)
            sleep(wait)
