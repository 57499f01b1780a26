"""Whether a query can go on from what it kept of earlier rows, and how: text -> values. Pure."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

from sqlglot import exp

from lakeflow.sql.flink import read_query
from lakeflow.sql.incremental_keys import Keyed, grouped, written
from lakeflow.sql.incremental_ranks import ranked

MOST_QUERIES: Final = 256
"""That are known without being read again: a job's is asked about when it is loaded, planned and run."""


@lru_cache(MOST_QUERIES)
def keyed_query(text: str) -> Keyed | None:
    """The query, by the keys of its groups or ranks; None where it has neither.

    Raises UsageError, pointing at what is in the way, where it has them and they cannot be kept.
    """
    tree = read_query(text)
    if not isinstance(tree, exp.Select):
        return None
    return ranked(text, tree) or grouped(text, tree)


@lru_cache(MOST_QUERIES)
def fingerprint(text: str) -> str:
    """Sixteen hexadecimal digits of SHA-256 over the query, however it is laid out: what is kept is kept for one query."""
    return hashlib.sha256(written(text, read_query(text)).encode()).hexdigest()[:16]
