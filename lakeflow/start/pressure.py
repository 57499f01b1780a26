"""How far a landing is ahead of what reads its table. Reads metadata only."""

from __future__ import annotations

from lakeflow.errors import SourceChanged
from lakeflow.lake.catalog import Table
from lakeflow.lake.read import appended
from lakeflow.progress import SnapshotPosition
from lakeflow.runner.project import Project
from lakeflow.runner.readers import readers_of


def rows_ahead(project: Project, table: str) -> int:
    """Rows of a table that its slowest incremental reader has not read; 0 where nobody reads it.

    A reader that must begin anew has nothing before it that a wait would spare. Raises CatalogUnavailable, StorageUnavailable.
    """
    readers = readers_of(project, table)
    if not readers.positions and not readers.unread:
        return 0
    read = project.lake.table(table)
    waiting = [_rows(read, position) for position in readers.positions]
    return max([*waiting, *(_rows(read, None) for _ in readers.unread[:1])])


def _rows(table: Table, position: SnapshotPosition | None) -> int:
    try:
        return sum(split.rows for split in appended(table, position))
    except SourceChanged:
        return 0
