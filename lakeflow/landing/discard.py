"""Leaves no data file of a batch that failed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from lakeflow.errors import LakeflowError

logger = logging.getLogger("lakeflow.landing")


class Discardable(Protocol):
    """What holds files that no commit has taken yet."""

    def abort(self) -> None:
        """Delete them."""
        ...


@contextmanager
def discarded_on_error(held: Discardable, table: str) -> Iterator[None]:
    """Where the block fails, the files of `held` are deleted. Raises what the block raised: it says more than a deletion's
    own failure, which is logged.
    """
    try:
        yield
    except BaseException:
        try:
            held.abort()
        except LakeflowError as error:
            logger.warning("data files for %s are left behind: %s", table, error.message)
        raise
