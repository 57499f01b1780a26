"""Keeps a landing going through what passes: after a transient error it is opened anew, from what the table holds."""

from __future__ import annotations

import logging
from collections.abc import Callable

from lakeflow.errors import CommitConflict, Fenced, LakeflowError, Transient
from lakeflow.landing.counts import Landed
from lakeflow.landing.writer import Landing
from lakeflow.retry import Backoff

logger = logging.getLogger("lakeflow.landing")

REOPEN = Backoff(attempts=8, base=1.0, cap=30.0)

Open = Callable[[], tuple[Landing, Callable[[], None]]]
"""Opens a landing, and gives what closes its source."""


def land_once(open_landing: Open, *, follow: bool, stop: Callable[[], bool], told: Callable[[Landed], None]) -> None:
    """Open a landing, run it, close its source. `told` is given what it landed, however it ends. Raises what both raise."""
    landing, close = open_landing()
    try:
        landing.run(follow=follow, stop=stop)
    finally:
        close()
        told(landing.landed)


def keep_landing(
    table: str,
    open_landing: Open,
    *,
    follow: bool,
    shared: bool = False,
    stop: Callable[[], bool],
    told: Callable[[Landed], None],
    sleep: Callable[[float], None],
    backoff: Backoff = REOPEN,
) -> None:
    """Land `table` until it has caught up, or with `follow` until `stop()`. `told` is given what each opened landing landed.

    Opened anew is one that lost a race for the table (CommitConflict; where several share it, Fenced), and with `follow`
    after any Transient. Raises the error once `backoff.attempts` of them came with no commit in between, and others at once.
    """
    failures = 0

    def tell(landed: Landed) -> None:
        nonlocal failures
        if landed.snapshots:
            failures = 0
        told(landed)

    while not stop():
        try:
            land_once(open_landing, follow=follow, stop=stop, told=tell)
            return
        except LakeflowError as error:
            failures += 1
            if failures >= backoff.attempts or not _passes(error, follow=follow, shared=shared):
                raise
            wait = backoff.wait(failures - 1)
            logger.warning("the landing of %s is opened again in %.1f s: %s", table, wait, error.message)
            sleep(wait)


def _passes(error: LakeflowError, *, follow: bool, shared: bool) -> bool:
    """Whether a landing that is opened anew may come further."""
    lost_race = isinstance(error, CommitConflict) or (shared and isinstance(error, Fenced))
    return lost_race or (follow and isinstance(error, Transient))
