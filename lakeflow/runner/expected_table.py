"""Looks at a table as a batch made it: what is expected of all its rows, asked as queries over its files.

The values of the batch alone are looked at where that tells as much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from lakeflow.expect import Expectation, Fresh, NoRows, RowCount, Unique
from lakeflow.job import Job
from lakeflow.lake.catalog import Lake, Table
from lakeflow.lake.commit import Change
from lakeflow.lake.history import PROGRESS, ancestors
from lakeflow.lake.read import Snapshot, snapshot_at, splits_at
from lakeflow.runner.querying import relation_over
from lakeflow.sql.conditions import BATCH, ROWS, Condition, answers, facts_query, newest_query, unique_query
from lakeflow.sql.execute import Limits
from lakeflow.sql.query import tables_of
from lakeflow.sql.relations import Relation

SAMPLE = 3
"""So many violations of an expectation are shown."""
WRITTEN = "lakeflow.rows-written"


@dataclass(frozen=True, slots=True)
class Look:
    """A look at a table as a change made it."""

    table: Table
    snapshot: Snapshot
    change: Change
    relations: Mapping[str, Relation]
    limits: Limits
    lake: Lake
    job: Job
    now: datetime

    def at(self, one: Expectation, condition: Condition | None) -> tuple[int, list[dict[str, Any]]]:
        """How often the expectation is violated, and a few of the violations."""
        kind = one.kind
        match kind:
            case Unique():
                appended = not (self.change.remove or self.change.replace_all)
                return self._asked(unique_query(kind, appended=appended))
            case Fresh(column, within):
                return self._stale(column, within)
            case RowCount():
                wrong = miscounted(kind, int(self.change.summary.get(WRITTEN, "0")), self._counts_before())
                return (1, [wrong]) if wrong else (0, [])
            case NoRows(query):
                return answers(query, self._named_in(query), self.limits, SAMPLE, written=True)
            case _:
                assert condition is not None, "all else is of rows"
                return self._asked(facts_query(condition))

    def _asked(self, query: str) -> tuple[int, list[dict[str, Any]]]:
        named = {name: self.relations[name] for name in tables_of(query)}
        return answers(query, named, self.limits, SAMPLE)

    def _stale(self, column: str, within: timedelta) -> tuple[int, list[dict[str, Any]]]:
        """The batch's own newest value is looked at first, since it most often is the table's."""
        newest = None
        for batch in (True, False):
            [row] = self._asked(newest_query(column, batch=batch))[1]
            newest = row["newest"]
            if newest is not None and self.now - _moment(newest) <= within:
                return 0, []
        return 1, [{"newest": newest, "checked_at": self.now}]

    def _named_in(self, query: str) -> dict[str, Relation]:
        own = ".".join(self.table.name())
        found = {}
        for name in tables_of(query):
            other = self.lake.table(name)
            found[name] = self.relations[ROWS] if name == own else relation_over(other, splits_at(other, snapshot_at(other)))
        return found

    def _counts_before(self) -> list[int]:
        """The rows that the job's earlier commits brought, the newest first."""
        counts = []
        for snapshot in ancestors(self.table.metadata):
            facts = snapshot.summary.additional_properties if snapshot.summary is not None else {}
            if snapshot.snapshot_id != self.snapshot.snapshot_id and PROGRESS + self.job.writer in facts and WRITTEN in facts:
                counts.append(int(facts[WRITTEN]))
        return counts


def miscounted(kind: RowCount, rows: int, before: Sequence[int]) -> dict[str, Any]:
    """What is wrong with a batch of so many rows; empty where nothing is. `before`: the newest first. Pure."""
    if kind.at_least is not None and rows < kind.at_least:
        return {"rows": rows, "at_least": kind.at_least}
    if kind.at_most is not None and rows > kind.at_most:
        return {"rows": rows, "at_most": kind.at_most}
    counted = before[: kind.runs]
    if kind.deviation is None or not counted:
        return {}
    mean = sum(counted) / len(counted)
    if abs(rows - mean) <= kind.deviation * mean:
        return {}
    return {"rows": rows, "mean": mean, "of_commits": len(counted), "deviation": kind.deviation}


def relations_of(table: Table, snapshot: Snapshot, change: Change) -> dict[str, Relation]:
    """All rows of a table as a change made it, and those that it brought, by the names that queries have for them."""
    added = {data_file.file_path for data_file in change.add}
    splits = splits_at(table, snapshot)
    batch = [split for split in splits if split.path in added]
    return {ROWS: relation_over(table, splits), BATCH: relation_over(table, batch)}


def _moment(value: datetime | date) -> datetime:
    """A time of a column; one without a zone is in UTC, a date its midnight."""
    if not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
