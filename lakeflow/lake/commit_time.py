"""When a snapshot says that it was made: never before the table was last changed, whatever the clock says.

A machine's clock may be set back between two commits, or stand behind another writer's. Readers of Iceberg refuse a table
whose history is not in the order of time: "Expected sorted snapshot log entries" is what its Java library says of entries that
go back by more than a minute (TableMetadata, ONE_MINUTE). So a snapshot takes the later of the clock and of what the table
says, as a clock that has to be monotonic does. (It is a millisecond later: PyIceberg takes a commit at the table's very
moment for one that has none, and puts the clock's in its place.) What changes no more than the metadata, or brings main to a
snapshot that is there already, is stamped by PyIceberg as it is carried out: `keep_in_order` holds that to the same order.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyiceberg import catalog
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import AddSnapshotUpdate, TableUpdate, update_table_metadata


def in_order(updates: Iterable[TableUpdate], table: TableMetadata) -> tuple[TableUpdate, ...]:
    """`updates` with each new snapshot made later than `table` was changed last."""
    earliest = last_change(table) + 1
    return tuple(_no_earlier(update, earliest) if isinstance(update, AddSnapshotUpdate) else update for update in updates)


def last_change(table: TableMetadata) -> int:
    """When the table was changed last, in milliseconds since the epoch; the latest moment that its metadata names."""
    return max([table.last_updated_ms, *(entry.timestamp_ms for entry in table.snapshot_log)])


def _no_earlier(update: AddSnapshotUpdate, earliest: int) -> AddSnapshotUpdate:
    if update.snapshot.timestamp_ms >= earliest:
        return update
    return update.model_copy(update={"snapshot": update.snapshot.model_copy(update={"timestamp_ms": earliest})})


def keep_in_order() -> None:
    """Have the catalogs that PyIceberg carries out in this process stamp no change earlier than the one before it."""
    catalog.update_table_metadata = _stamped  # type: ignore[attr-defined]


def _stamped(
    base_metadata: TableMetadata,
    updates: tuple[TableUpdate, ...],
    enforce_validation: bool = False,
    metadata_location: str | None = None,
) -> TableMetadata:
    made = update_table_metadata(base_metadata, updates, enforce_validation, metadata_location)
    latest = last_change(base_metadata)
    if made.last_updated_ms == base_metadata.last_updated_ms or made.last_updated_ms >= latest:
        return made
    log = made.snapshot_log
    if log and log[-1] not in base_metadata.snapshot_log[-1:] and log[-1].timestamp_ms < latest:
        log = [*log[:-1], log[-1].model_copy(update={"timestamp_ms": latest})]
    return made.model_copy(update={"last_updated_ms": latest, "snapshot_log": log})
