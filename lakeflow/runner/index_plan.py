"""How far an index is behind its table, and what an update of it would do. Reads metadata only."""

from __future__ import annotations

from dataclasses import dataclass

from lakeflow.declare import IndexSpec
from lakeflow.errors import SourceChanged, Terminal
from lakeflow.index.vectors import IndexState, check_identity
from lakeflow.lake.read import appended
from lakeflow.runner.indexing import IndexRoom, identity_of, index_state, pending


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """An index against its table's head. `state` is None where it was never built.

    `files` and `rows` are what an update would read: what came since the index's position, or, where `rebuild` says why it
    would be built anew, the whole table. `changed` are the rows of files that went since, which an update reads as well, to
    bring in no more than what differs. `refused` is why an update would be refused.
    """

    spec: IndexSpec
    state: IndexState | None
    table_exists: bool
    files: int = 0
    rows: int = 0
    rebuild: str | None = None
    refused: str | None = None
    changed: int = 0

    @property
    def standing(self) -> str:
        """How the index stands, in words."""
        if self.refused:
            return f"refused: {self.refused}"
        if not self.table_exists:
            return f"waits for {self.spec.table}, not there yet"
        if self.state is None:
            return "not built"
        if self.rebuild:
            return f"to be built from the whole table: {self.rebuild}"
        return "behind" if self.files or self.changed else "up to date"


def plan_index(spec: IndexSpec, room: IndexRoom) -> IndexPlan:
    """What `update_index` would do now. Raises CatalogUnavailable, StorageUnavailable: these refuse nothing for good."""
    state = index_state(spec, room)
    if not room.lake.exists(spec.table):
        return IndexPlan(spec, state, table_exists=False)
    table = room.lake.table(spec.table)
    rebuild, changed = None, 0
    try:
        if state is None:
            splits = appended(table, None)
        else:
            check_identity(spec.name, state.identity, identity_of(spec, table, room.models, state.identity.width))
            batches = pending(table, state.position, room.caps)
            splits = tuple(split for batch in batches for split in batch.splits)
            changed = sum(split.rows for batch in batches for split in batch.removed)
            if changed and not room.open(spec).can_revise():
                splits, changed = appended(table, None), 0
                rebuild = f"rows were changed or removed, and {room.place} is no folder"
    except SourceChanged as change:
        rebuild = change.message
        splits = appended(table, None)
    except Terminal as error:
        return IndexPlan(spec, state, table_exists=True, refused=error.message)
    if state is None and splits:
        rebuild = "it was not there yet"
    rows = sum(split.rows for split in splits)
    return IndexPlan(spec, state, True, len(splits), rows, rebuild, changed=changed)
