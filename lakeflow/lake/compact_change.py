"""What a commit is that writes rows anew which are in the table already, and whether it may still land."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from lakeflow.lake.compact_spans import Span
from lakeflow.lake.iceberg import live_files
from lakeflow.lake.manifests import deletes_since


@dataclass(frozen=True, slots=True)
class Rewrite:
    """The added files of a change hold the rows of those it removes.

    `sequences` gives, by path, the sequence number that each added file takes, so that readers find it where its rows were;
    `spans` are the numbers of the files that went together. `planned_at` is the sequence number of the snapshot that it
    was computed from. Without files, only manifests are merged.
    """

    sequences: Mapping[str, int]
    spans: tuple[Span, ...]
    planned_at: int


def touched(table: Table, remove: Sequence[DataFile], rewrite: Rewrite) -> str | None:
    """Why the rewrite cannot land on main's head any more; None where the removed files are there with all their rows."""
    name = ".".join(table.name())
    gone = {data_file.file_path for data_file in remove}
    if (head := table.current_snapshot()) is not None:
        gone.difference_update(live.data_file.file_path for live in live_files(table, head))
        if deletes_since(table, head, rewrite.planned_at):
            return f"rows of table {name} were deleted while its files were written anew"
    if gone:
        return f"{len(gone)} files of table {name} are no longer there to be written anew, one is {min(gone)}"
    return None
