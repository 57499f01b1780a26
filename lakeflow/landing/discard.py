"""Leaves no data file of a batch that failed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from lakeflow.errors import LakeflowError
from lakeflow.lake.write import DataWriter

logger = logging.getLogger("lakeflow.landing")


@contextmanager
def discarded_on_error(writer: DataWriter) -> Iterator[None]:
    """Where the block fails, the writer's files are deleted. Raises what the block raised: it says more than a deletion's
    own failure, which is logged.
    """
    try:
        yield
    except BaseException:
        _discard(writer)
        raise


def _discard(writer: DataWriter) -> None:
    try:
        writer.abort()
    except LakeflowError as error:
        logger.warning("data files for %s are left behind: %s", ".".join(writer.table.name()), error.message)
