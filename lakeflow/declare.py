"""What a project declares about its tables and indexes, as plain values.

The SQL room reads these out of text, landing and runner act on them. Column types are Arrow types throughout:
Arrow is the one vocabulary that every room shares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

    from lakeflow.expect import Expectation


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a declaration stands, for messages."""

    path: Path | None = None
    line: int = 0

    def __str__(self) -> str:
        return f"{self.path}:{self.line}" if self.path else f"line {self.line}"


UNKNOWN = Origin()

SYSTEM_NAMESPACE = "lakeflow"
"""The namespace of lakeflow's own tables."""

INDEX_SNAPSHOT = "index_snapshot_id"
"""What a hit of a search may tell beside its score: the snapshot of the table up to which its index held rows."""


@dataclass(frozen=True, slots=True)
class PartitionField:
    """A field of PARTITIONED BY. `transform` is identity, year, month, day, hour, bucket or truncate; `width` for those two."""

    column: str
    transform: str = "identity"
    width: int | None = None


@dataclass(frozen=True, slots=True)
class Watermark:
    """WATERMARK FOR column AS column - delay."""

    column: str
    delay: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class MetadataColumn:
    """A column METADATA [FROM 'key']: what a record brings beside its value, such as 'timestamp'."""

    column: pa.Field
    key: str


class Computed(Protocol):
    """Columns that are computed of a row's others as it is written."""

    @property
    def columns(self) -> pa.Schema:
        """The columns that are added."""
        ...

    @property
    def texts(self) -> tuple[str, ...]:
        """Their expressions, in SQL."""
        ...

    def of(self, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, tuple[tuple[int, str], ...]]:
        """The rows with the columns behind their own, but for those of which an expression cannot be computed: of each its
        place in `rows`, in ascending order, and why."""
        ...


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A CREATE TABLE. `name` is namespace.table; `schema` holds the declared columns, nullable unless NOT NULL was said.

    `options` are the WITH pairs as written, secrets not yet filled in. The columns `metadata` and
    `computed` are not in `schema`.
    `expectations` are of what jobs or a landing write into the table; of a landing, `judge` has a boolean column for each,
    which is true of rows that violate it.
    """

    name: str
    schema: pa.Schema
    options: Mapping[str, str] = field(default_factory=dict)
    partitioning: tuple[PartitionField, ...] = ()
    watermark: Watermark | None = None
    primary_key: tuple[str, ...] = ()
    comment: str | None = None
    origin: Origin = UNKNOWN
    metadata: tuple[MetadataColumn, ...] = ()
    expectations: tuple[Expectation, ...] = ()
    computed: Computed | None = None
    judge: Computed | None = None


def first_rows(table: TableSpec) -> str:
    """What to run for a declared table that is not there yet."""
    lands = table.options.get("connector") == "kafka"
    step = f"lakeflow land {table.name}" if lands else "lakeflow run JOB; lakeflow jobs graph shows which job writes it"
    return f"it is declared and holds nothing yet: {step}"


@dataclass(frozen=True, slots=True)
class ModelDeclaration:
    """A CREATE MODEL as written: INPUT and OUTPUT as Arrow schemas, WITH pairs with secrets not yet filled in."""

    name: str
    input: pa.Schema
    output: pa.Schema
    options: Mapping[str, str] = field(default_factory=dict)
    comment: str | None = None
    origin: Origin = UNKNOWN


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """A CREATE VECTOR INDEX: the index `name` over the vectors in `column` of `table`, keyed by `key`.

    `metric` is cosine, l2 or dot. `model` names the embedding model whose vectors these are: a search by text uses
    it, and the index refuses vectors of another. `columns` are kept beside the vector for filters and results
    (empty: every column of the table).
    """

    name: str
    table: str
    column: str
    key: str
    metric: str = "cosine"
    model: str | None = None
    columns: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    origin: Origin = UNKNOWN
