"""Files below a table's location that nothing names: what crashes and lost commits leave, and what commits let expire.

The folder is listed first and the metadata read after, so that what a commit took meanwhile is seen to be named; what is
younger than an age stays, for it may be of a commit under way.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from pyiceberg.table import Table

from lakeflow.errors import LakeflowError, UsageError
from lakeflow.lake.catalog import Lake
from lakeflow.lake.failures import lake_errors
from lakeflow.lake.iceberg import delete_files
from lakeflow.lake.maintain_reach import reached
from lakeflow.lake.orphans_listing import Stored, stored_under
from lakeflow.lake.orphans_paths import is_under, normal

logger = logging.getLogger("lakeflow.lake")

YOUNGEST = timedelta(hours=1)
_METADATA = re.compile(r"(.+)/metadata/[^/]+\.metadata\.json")
_READ_BY_NAME = ("version-hint.text",)


@dataclass(frozen=True, slots=True)
class Orphan:
    """A file that nothing names."""

    path: str
    bytes: int
    written: datetime


@dataclass(frozen=True, slots=True)
class Removed:
    """What was deleted, or would be. `left` says what is left, and why."""

    orphans: tuple[Orphan, ...] = ()
    left: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        return sum(orphan.bytes for orphan in self.orphans)


def check_age(age: timedelta, *, forced: bool) -> None:
    """Raises UsageError for an age that files of commits under way may have, unless it is forced."""
    if age < YOUNGEST and not forced:
        raise UsageError(
            f"files that are {age.total_seconds():g} seconds old may belong to a commit under way; valid: 1h or more",
            next_step="name a greater age, or add --force where nothing writes to the tables",
        )


def find_orphans(lake: Lake, name: str, older_than: datetime) -> Removed:
    """The files that were written before a moment and that no metadata names, in the order of their paths.

    Memory holds the path of each such file that is listed, named or not. Folders of other tables below the table's own are
    left out: those of the catalog, and every one that holds metadata of a table. Nothing outside of the location is looked at.
    Raises CatalogUnavailable, StorageUnavailable.
    """
    table = lake.table(name)
    root = normal(table.location())
    others = _locations(lake, name)
    if shared := sorted(other for other, place in others.items() if place == root):
        return Removed(left=(f"orphans stay: table {shared[0]} has the same location {root}",))
    with lake_errors(f"table {name}"):
        old, nested = _old_files(table, older_than)
        nested |= {place for place in others.values() if is_under(place, root)}
        table = lake.table(name)
        if normal(table.location()) != root:
            return Removed(left=(f"orphans stay: the location of table {name} changed",))
        for path in reached(table):
            old.pop(normal(path), None)
    found = sorted((stored.below, stored) for path, stored in old.items() if not _protected(path, nested))
    folder = table.location().rstrip("/")
    return Removed(tuple(Orphan(f"{folder}/{below}", stored.bytes, stored.written) for below, stored in found))


def _locations(lake: Lake, but: str) -> dict[str, str]:
    return {name: normal(lake.table(name).location()) for name in lake.names() if name != but}


def _old_files(table: Table, older_than: datetime) -> tuple[dict[str, Stored], set[str]]:
    """Old files by their normal location, and the folders below that are tables of their own."""
    root = normal(table.location())
    old: dict[str, Stored] = {}
    nested: set[str] = set()
    for stored in stored_under(table.io, table.location()):
        if (inner := _METADATA.fullmatch(stored.below)) is not None:
            nested.add(f"{root}/{inner[1]}")
        if stored.written < older_than:
            old[f"{root}/{stored.below}"] = stored
    return old, nested


def _protected(path: str, nested: Iterable[str]) -> bool:
    return path.endswith(_READ_BY_NAME) or any(is_under(path, folder) for folder in nested)


def remove_orphans(lake: Lake, name: str, older_than: datetime, stop: Callable[[], bool] = lambda: False) -> Removed:
    """Delete the orphans of a table. Raises CatalogUnavailable, StorageUnavailable where they cannot be found."""
    found = find_orphans(lake, name, older_than)
    io = lake.table(name).io
    gone: list[Orphan] = []
    for orphan in found.orphans:
        if stop():
            break
        try:
            with lake_errors(f"table {name}"):
                delete_files(io, [orphan.path])
        except LakeflowError as error:
            logger.warning("%s", error.message)
            return Removed(tuple(gone), (*found.left, f"orphans stay: {error.message}"))
        gone.append(orphan)
    return Removed(tuple(gone), found.left)
