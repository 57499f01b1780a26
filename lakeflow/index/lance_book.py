"""Where an index keeps its identity and position: a small LanceDB table beside the rows, one row an index.

A row names the LanceDB table that holds the index's rows, so that one commit to this table swaps a rebuilt index in.
Every change names what it started from (`revision`, or the table it replaces), so that a writer left behind is fenced.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from lakeflow.errors import CommitConflict, UnknownName
from lakeflow.index.lance_errors import Vanished, mapped
from lakeflow.index.vectors import Identity
from lakeflow.progress import SnapshotPosition
from lakeflow.retry import Backoff, retrying

BOOK = "_lakeflow_indexes"
SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("stored_in", pa.string()),
        pa.field("identity", pa.string()),
        pa.field("position", pa.string()),
        pa.field("revision", pa.string()),
        pa.field("updated_at", pa.timestamp("us", "UTC")),
    ]
)
COMPACT_AFTER = 16
OPEN_BACKOFF = Backoff(attempts=6, base=0.02, cap=0.2)
PRIMARY_KEY = b"lance-schema:unenforced-primary-key:position"


@dataclass(frozen=True, slots=True)
class Entry:
    """One index: the LanceDB table with its rows, what it was built from and how far."""

    name: str
    stored_in: str
    identity: Identity
    position: SnapshotPosition | None
    revision: str
    updated_at: datetime

    def moved(self, **changes: Any) -> Entry:
        """This entry with changes, under a new revision."""
        return replace(self, revision=secrets.token_hex(8), updated_at=datetime.now(UTC), **changes)


def new_entry(name: str, identity: Identity) -> Entry:
    """The entry of an index that is not there yet, with a fresh name for its rows' table."""
    token = secrets.token_hex(6)
    return Entry(name, f"{name}.{token}", identity, None, token, datetime.now(UTC))


def stored_by(name: str, table: str) -> bool:
    """Whether the LanceDB table `table` was made for the rows of the index `name`."""
    return re.fullmatch(re.escape(name) + r"\.[0-9a-f]{12}", table) is not None


def keyed_by(schema: pa.Schema, key: str) -> pa.Schema:
    """`schema` with the column `key` as its primary key, which makes LanceDB notice two inserts of one key."""
    place = schema.get_field_index(key)
    return schema.set(place, schema.field(place).with_metadata({PRIMARY_KEY: b"1"}))


class Book:
    """The entries of one LanceDB database. Raises StorageUnavailable, StorageFull and CommitConflict of the place."""

    def __init__(self, database: Any, place: str, backoff: Backoff, keep_versions: timedelta) -> None:
        self.database, self.place, self.backoff, self.keep_versions = database, place, backoff, keep_versions

    def find(self, name: str) -> Entry | None:
        """The entry of `name`; None where there is none."""
        rows = self._rows(f"name = '{name}'")
        return _entry(rows[0]) if rows else None

    def need(self, name: str) -> Entry:
        """The entry of `name`. Raises UnknownName where there is none."""
        entry = self.find(name)
        if entry is None:
            known = [str(row["name"]) for row in self._rows("true")]
            raise UnknownName("index", name, known, next_step=f"lakeflow index build {name}")
        return entry

    def insert(self, entry: Entry) -> Entry:
        """The entry of that name: this one, or the one that another writer put there first."""
        table = self._table(create=True)
        with mapped(f"making the index {entry.name!r}", self.place):
            retrying(lambda: self._merge(table, entry, None), self.backoff)
        return self.need(entry.name)

    def swap(self, entry: Entry, condition: str) -> bool:
        """Put `entry` in place of its old one where the old one meets `condition`; whether it is there now."""
        table = self._table(create=False)
        with mapped(f"recording the position of the index {entry.name!r}", self.place):
            retrying(lambda: self._merge(table, entry, condition), self.backoff)
            found = self.find(entry.name)
            if table.stats()["fragment_stats"]["num_fragments"] > COMPACT_AFTER:
                self._compact(table)
        return found is not None and found.revision == entry.revision

    def tables(self) -> list[str]:
        """The names of every LanceDB table of the database."""
        with mapped("listing the indexes", self.place):
            names: list[str] = []
            page = self.database.list_tables()
            names.extend(page.tables)
            while page.page_token:
                page = self.database.list_tables(page_token=page.page_token)
                names.extend(page.tables)
            return names

    def _rows(self, condition: str) -> list[dict[str, Any]]:
        table = self._table(create=False)
        if table is None:
            return []
        with mapped("reading the state of the indexes", self.place):
            found: list[dict[str, Any]] = table.search().where(condition).limit(None).to_arrow().to_pylist()
            return found

    def _table(self, create: bool) -> Any:
        table = self._present() if BOOK in self.tables() else None
        return retrying(self._create, self.backoff) if table is None and create else table

    def _present(self) -> Any:
        """The table that is listed; None where its folder holds nothing, since who began to make it has not ended yet."""
        try:
            return retrying(self._open, OPEN_BACKOFF)
        except Vanished:
            return None

    def _open(self) -> Any:
        with mapped("opening the state of the indexes", self.place):
            return self.database.open_table(BOOK)

    def _create(self) -> Any:
        with mapped("making the state of the indexes", self.place):
            return self.database.create_table(BOOK, schema=keyed_by(SCHEMA, "name"), exist_ok=True)

    def _merge(self, table: Any, entry: Entry, condition: str | None) -> None:
        with mapped("recording the state of an index", self.place):
            merge = table.merge_insert("name")
            chosen = merge.when_matched_update_all(where=condition) if condition else merge.when_not_matched_insert_all()
            chosen.execute(pa.Table.from_pylist([_row(entry)], schema=SCHEMA))

    def _compact(self, table: Any) -> None:
        try:
            with mapped("compacting the state of the indexes", self.place):
                table.optimize(cleanup_older_than=self.keep_versions)
        except CommitConflict:
            return  # another writer is compacting, or will


def _row(entry: Entry) -> dict[str, object]:
    return {
        "name": entry.name,
        "stored_in": entry.stored_in,
        "identity": entry.identity.dumps(),
        "position": entry.position.dumps() if entry.position else None,
        "revision": entry.revision,
        "updated_at": entry.updated_at,
    }


def _entry(row: dict[str, Any]) -> Entry:
    return Entry(
        name=row["name"],
        stored_in=row["stored_in"],
        identity=Identity.loads(row["identity"]),
        position=SnapshotPosition.loads(row["position"]),
        revision=row["revision"],
        updated_at=row["updated_at"],
    )
