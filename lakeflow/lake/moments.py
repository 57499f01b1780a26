"""A table as it was: at a snapshot, a time, a branch or a tag.

A snapshot is read with the columns that the table had then, a branch with those that it has now. Source: Iceberg's
specification, "Schema Evolution" and "Snapshot References".
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pyiceberg.table import Table
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Snapshot

from lakeflow.errors import UnknownName
from lakeflow.lake.read import snapshot_at

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def at_snapshot(table: Table, snapshot_id: int) -> tuple[Table, Snapshot | None]:
    """The table as a snapshot of it has it. Raises UnknownName where there is none of that id."""
    return _as_of(table, snapshot_at(table, snapshot_id=snapshot_id))


def at_time(table: Table, microseconds: int) -> tuple[Table, Snapshot | None]:
    """The table as main had it at a time, in microseconds since the epoch. Raises UsageError where it is older than that."""
    return _as_of(table, snapshot_at(table, as_of=EPOCH + timedelta(microseconds=microseconds)))


def at_ref(table: Table, name: str) -> tuple[Table, Snapshot | None]:
    """The table as a branch or a tag has it. Raises UnknownName, listing those that there are."""
    refs = table.metadata.refs
    if name not in refs:
        label = ".".join(table.name())
        raise UnknownName(f"branch or tag of {label}", name, refs, next_step=f"lakeflow tables show {label}")
    found = refs[name]
    snapshot = snapshot_at(table, snapshot_id=found.snapshot_id)
    return (table, snapshot) if found.snapshot_ref_type is SnapshotRefType.BRANCH else _as_of(table, snapshot)


def _as_of(table: Table, snapshot: Snapshot | None) -> tuple[Table, Snapshot | None]:
    if snapshot is None or snapshot.schema_id in (None, table.metadata.current_schema_id):
        return table, snapshot
    then = table.metadata.model_copy(update={"current_schema_id": snapshot.schema_id})
    return Table(table.name(), then, table.metadata_location, table.io, table.catalog), snapshot
