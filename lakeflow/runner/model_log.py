"""The system table lakeflow.models: the log of the registry of models, a row an entry, appended one at a time.

The table's progress of `models` is how many entries there are. An entry lands only where that is what its writer has read,
so of two processes that write at once one is refused: it reads what the other wrote, and decides anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from lakeflow.declare import SYSTEM_NAMESPACE, ModelDeclaration, Origin, TableSpec
from lakeflow.errors import CommitConflict, DeclarationError, Fenced, Terminal
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, CommitProtocol, Progress
from lakeflow.lake.history import progress_in
from lakeflow.lake.read import read, snapshot_at, splits_at
from lakeflow.lake.write import DataWriter
from lakeflow.models.versions import Entry, Event, History, Identified, Source, histories
from lakeflow.sql.clauses import parse_columns
from lakeflow.sql.describe import columns_text

logger = logging.getLogger("lakeflow.runner")

MODELS = f"{SYSTEM_NAMESPACE}.models"
WRITER = "models"
ATTEMPTS = 10

_TEXTS = pa.map_(pa.string(), pa.string())
SCHEMA = pa.schema(
    [
        pa.field("entry", pa.int64(), nullable=False),
        pa.field("event", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("version", pa.int32()),
        pa.field("source", pa.string()),
        pa.field("provider", pa.string()),
        pa.field("task", pa.string()),
        pa.field("input", pa.string()),
        pa.field("output", pa.string()),
        pa.field("options", _TEXTS),
        pa.field("artifacts", _TEXTS),
        pa.field("fingerprint", pa.string()),
        pa.field("comment", pa.string()),
        pa.field("declared", pa.string()),
        pa.field("renamed_to", pa.string()),
        pa.field("created_at", pa.timestamp("us", "UTC"), nullable=False),
    ]
)
TABLE = TableSpec(MODELS, SCHEMA, comment="the registry of models: a row a version, a default, a new name or a drop")


class ModelLog:
    """The registry's log. Read when it is first asked; lake and commits are opened then and not before."""

    def __init__(self, lake: Callable[[], Lake], commits: Callable[[], CommitProtocol]) -> None:
        self._lake = lake
        self._commits = commits
        self._entries = -1
        self._histories: dict[str, History] = {}

    def histories(self) -> Mapping[str, History]:
        """What is known of each name, as of the first call or the last `append`. Raises CatalogUnavailable, Terminal."""
        if self._entries < 0:
            self._read()
        return MappingProxyType(self._histories)

    def append(self, decide: Callable[[Mapping[str, History]], Entry | None]) -> Entry | None:
        """Land the entry that `decide` makes of what is known; None where it makes none. Both see the entry afterwards.

        `decide` is asked again where another process wrote first, and may raise. Raises what a commit raises.
        """
        for _ in range(ATTEMPTS):
            entry = decide(self.histories())
            if entry is None or self._landed(entry):
                return entry
            logger.warning("%s: another process wrote first; going on from what it wrote", MODELS)
            self._read()
        raise CommitConflict(
            f"an entry of {MODELS} came second {ATTEMPTS} times",
            left_behind="nothing of it is in the table",
            next_step="run the same command again",
        )

    def _landed(self, entry: Entry) -> bool:
        """Whether the entry landed; it did not where another process's came first."""
        row = row_of(entry, self._entries + 1)
        try:
            self._land(row)
        except Fenced:
            return False
        self._entries += 1
        self._histories = histories([entry_of_row(row)], self._histories)
        return True

    def _land(self, row: Mapping[str, Any]) -> None:
        table = self._lake().ensure(TABLE)
        writer = DataWriter(table)
        try:
            writer.write(pa.Table.from_pylist([row], schema=SCHEMA))
            files = writer.finish()
        except BaseException:
            writer.abort()
            raise
        progress = Progress(WRITER, str(self._entries) if self._entries else None, str(row["entry"]))
        self._commits().commit(Change(MODELS, files, progress=progress, table_uuid=str(table.metadata.table_uuid)))

    def _read(self) -> None:
        lake = self._lake()
        if not lake.exists(MODELS):
            self._entries, self._histories = 0, {}
            return
        table = lake.table(MODELS)
        rows = [row for batch in read(table, splits_at(table, snapshot_at(table))) for row in batch.to_pylist()]
        rows.sort(key=lambda row: int(row["entry"]))
        self._entries = int(progress_in(table.metadata, WRITER) or 0)
        if len(rows) != self._entries:
            raise Terminal(
                f"{MODELS} holds {len(rows)} entries and its progress says {self._entries}: rows were added or taken away by "
                "something else than lakeflow",
                next_step=f"roll {MODELS} back to a snapshot of before, or drop it: every model is then in version 1 again",
            )
        self._histories = histories(entry_of_row(row) for row in rows)


def row_of(entry: Entry, number: int) -> dict[str, Any]:
    """The row of an entry. Options stand there as they were written: secrets by reference."""
    row: dict[str, Any] = dict.fromkeys(SCHEMA.names) | {
        "entry": number,
        "event": str(entry.event),
        "name": entry.name,
        "version": entry.version,
        "source": entry.source and str(entry.source),
        "renamed_to": entry.renamed_to,
        "created_at": entry.at,
    }
    if entry.declaration is not None and entry.identified is not None:
        declaration = entry.declaration
        options = {name.lower(): value for name, value in declaration.options.items()}
        row |= {
            "provider": options.get("provider"),
            "task": options.get("task"),
            "input": columns_text(declaration.input),
            "output": columns_text(declaration.output),
            "options": list(declaration.options.items()),
            "artifacts": list(entry.identified.artifacts.items()),
            "fingerprint": entry.identified.fingerprint,
            "comment": declaration.comment,
            "declared": str(declaration.origin) if entry.source is Source.TABLES else None,
        }
    return row


def entry_of_row(row: Mapping[str, Any]) -> Entry:
    """The inverse of `row_of`. Raises Terminal for what another release of lakeflow wrote."""
    try:
        declaration, identified = None, None
        if row["input"] is not None:
            declaration = ModelDeclaration(
                name=row["name"],
                input=parse_columns(row["input"]),
                output=parse_columns(row["output"]),
                options=dict(row["options"]),
                comment=row["comment"],
                origin=Origin(Path(MODELS), row["entry"]),
            )
            identified = Identified(row["fingerprint"], dict(row["artifacts"] or ()))
        return Entry(
            Event(row["event"]),
            row["name"],
            row["created_at"].astimezone(UTC),
            row["version"],
            Source(row["source"]) if row["source"] else None,
            declaration,
            identified,
            row["renamed_to"],
        )
    except (ValueError, TypeError, DeclarationError) as error:
        raise Terminal(
            f"{MODELS}: entry {row['entry']} cannot be read: {error}", next_step="use the release of lakeflow that wrote it"
        ) from error
