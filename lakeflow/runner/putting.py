"""Puts rows into a table in place of those of their groups, or of all that it holds: one commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pyarrow as pa

from lakeflow.lake.catalog import Table
from lakeflow.lake.commit import Change
from lakeflow.lake.on_base import land
from lakeflow.lake.replace import GroupReplacement
from lakeflow.lake.write import DataWriter

Commit = Callable[[Change], int]
"""Lands a change, and gives its snapshot."""


class Putting:
    """One commit. `groups` has the columns `keys`; without keys all rows of the table go. `rows` counts what was put."""

    def __init__(
        self, table: Table, keys: Sequence[str], groups: pa.Table, writer: Callable[[], DataWriter], spool: Path | None = None
    ) -> None:
        self._table = table
        self._keys = list(keys)
        self._groups = groups
        self._writer = writer
        self._spool = spool
        self.rows = 0

    def put(self, rows: Iterator[pa.Table], commit: Commit) -> int:
        """Put rows of the table's schema: the snapshot. Raises what `rows` and `commit` raise; nothing of them is left then."""
        if not self._keys:
            return self._put_all(rows, commit)
        with closing(GroupReplacement(self._table, self._keys, self._spool)) as replacement:
            replacement.replace(self._groups)
            for one in rows:
                replacement.write(one)
                self.rows += one.num_rows
            return land(replacement, self._table, self._writer, commit)[0]

    def _put_all(self, rows: Iterator[pa.Table], commit: Commit) -> int:
        writer = self._writer()
        try:
            for one in rows:
                writer.write(one)
                self.rows += one.num_rows
            files = writer.finish()
        except BaseException:
            writer.abort()
            raise
        name, identity = ".".join(self._table.name()), str(self._table.metadata.table_uuid)
        return commit(Change(name, files, replace_all=True, table_uuid=identity))
