"""The commit protocol in memory, for tests of what commits: the same semantics, no catalog and no files."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from itertools import count

from pyiceberg.manifest import DataFile

from lakeflow.errors import CatalogUnavailable, CommitConflict, Fenced, SourceChanged
from lakeflow.lake.commit import Change, Committed


class Outage(Enum):
    """What befalls one attempt of a commit."""

    NO_ANSWER = auto()
    """The attempt fails before it lands."""
    LOST_ANSWER = auto()
    """The attempt lands, and nobody hears of it."""


@dataclass(frozen=True, slots=True)
class Landed:
    """A snapshot: the change that made it, its parent, and the paths of all live files after it."""

    snapshot_id: int
    parent: int | None
    change: Change
    paths: tuple[str, ...]
    progress: str | None = None


class MemoryCommits:
    """A CommitProtocol over dictionaries. `fail` queues outages of the attempts to come; `attempts` bounds the retries.

    `discarded` lists the files of changes that were fenced or conflicted, which the real one deletes.
    """

    def __init__(self, *, attempts: int = 12) -> None:
        self.discarded: list[DataFile] = []
        self._attempts = attempts
        self._outages: deque[Outage] = deque()
        self._snapshots: dict[int, Landed] = {}
        self._heads: dict[str, int] = {}
        self._schemas: dict[str, int] = {}
        self._ids = count(1)
        self._lock = threading.Lock()

    def fail(self, *outages: Outage) -> None:
        """Let the next attempts fail, in this order."""
        self._outages.extend(outages)

    def commit(self, change: Change) -> Committed:
        """See CommitProtocol."""
        for attempt in range(self._attempts):
            with self._lock:
                for landed in self.history(change.table):
                    if landed.change.commit_id == change.commit_id:
                        return Committed(landed.snapshot_id, attempt)
                outage = self._outages.popleft() if self._outages else None
                if outage is Outage.NO_ANSWER:
                    continue
                snapshot_id = self._land(change, self._check(change))
                if outage is None:
                    return Committed(snapshot_id, attempt + 1)
        raise CatalogUnavailable(
            f"a commit to {change.table} was given up after {self._attempts} attempts: no answer",
            left_behind=f"{len(change.add)} data files, unless commit {change.commit_id} is in the table",
            next_step="lakeflow doctor, then run the same command again; it goes on from what the table holds",
        )

    def progress(self, table: str, writer: str) -> str | None:
        """See CommitProtocol."""
        for landed in self.history(table):
            if landed.change.progress is not None and landed.change.progress.writer == writer:
                return landed.progress
        return None

    def head(self, table: str) -> int | None:
        """The snapshot that the table stands at."""
        return self._heads.get(table)

    def history(self, table: str) -> list[Landed]:
        """The snapshots of a table, newest first."""
        line: list[Landed] = []
        snapshot_id = self._heads.get(table)
        while snapshot_id is not None:
            line.append(self._snapshots[snapshot_id])
            snapshot_id = line[-1].parent
        return line

    def paths(self, table: str) -> tuple[str, ...]:
        """The live data files of a table."""
        head = self._heads.get(table)
        return () if head is None else self._snapshots[head].paths

    def rollback(self, table: str, snapshot_id: int) -> None:
        """Let the table stand at an earlier snapshot again. Raises SourceChanged for one that is not of its history."""
        if snapshot_id not in {landed.snapshot_id for landed in self.history(table)}:
            raise SourceChanged(f"snapshot {snapshot_id} is not in the history of table {table}")
        self._heads[table] = snapshot_id

    def _check(self, change: Change) -> str | None:
        """The progress after the change. Raises where it may not land."""
        progress = None
        if change.progress is not None:
            try:
                progress = change.progress.onto(self.progress(change.table, change.progress.writer), change.table)
            except Fenced:
                self.discarded.extend(change.add)
                raise
        if change.schema is not None and change.schema.start != self._schemas.get(change.table, 0):
            self.discarded.extend(change.add)
            raise CommitConflict(f"the columns of table {change.table} were changed by another writer")
        head = self._heads.get(change.table)
        if change.rewrite is not None:
            if not {data_file.file_path for data_file in change.remove} <= set(self.paths(change.table)):
                self.discarded.extend(change.add)
                raise CommitConflict(f"files of table {change.table} are no longer there to be written anew")
        elif (change.on_base or change.remove) and head != change.base:
            self.discarded.extend(change.add)
            raise CommitConflict(f"table {change.table} moved from snapshot {change.base} to {head} under a merge")
        return progress

    def _land(self, change: Change, progress: str | None) -> int:
        snapshot_id = next(self._ids)
        removed = {data_file.file_path for data_file in change.remove}
        kept = () if change.replace_all else tuple(path for path in self.paths(change.table) if path not in removed)
        paths = (*kept, *(data_file.file_path for data_file in change.add))
        self._snapshots[snapshot_id] = Landed(snapshot_id, self._heads.get(change.table), change, paths, progress)
        self._heads[change.table] = snapshot_id
        if change.schema is not None:
            self._schemas[change.table] = change.schema.end
        return snapshot_id
