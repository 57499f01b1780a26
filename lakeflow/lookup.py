"""What a job joins as a dimension: a table of the lake, a file, or a table of a PostgreSQL database. Plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Final

from lakeflow.errors import DeclarationError, did_you_mean
from lakeflow.schedule import duration_of

FORMATS: Final = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".arrow": "ipc",
    ".ipc": "ipc",
    ".feather": "ipc",
}
"""Endings of files, and the formats that they are taken for."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """A table joined as a dimension: always whole, as of the start of the run; with `fresh` as of each batch."""

    table: str
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class LookupFile:
    """A file joined as a dimension, as of the start of the run: LookupFile("data/carriers.csv").

    `path` is within the project, absolute, or an address that Polars reads, such as s3://bucket/carriers.parquet; `format` is
    csv, tsv, parquet, ndjson or ipc, by the ending where it is not said. Raises DeclarationError.
    """

    path: str
    format: str | None = None

    def __post_init__(self) -> None:
        ending = PurePosixPath(self.path).suffix.lower()
        known = sorted(set(FORMATS.values()))
        if self.format is not None and self.format not in known:
            raise DeclarationError(f"LookupFile({self.path!r}): format is {self.format!r}{did_you_mean(self.format, known)}")
        if self.format is None and ending not in FORMATS:
            raise DeclarationError(
                f"LookupFile({self.path!r}): the ending {ending!r} says no format; valid: {', '.join(FORMATS)}, or format=.."
            )

    @property
    def kind(self) -> str:
        """The format: one of the values of FORMATS."""
        return self.format or FORMATS[PurePosixPath(self.path).suffix.lower()]


@dataclass(frozen=True, slots=True)
class LookupPostgres:
    """Rows of a PostgreSQL database joined as a dimension: LookupPostgres(url, "public.customers", key="customer_id").

    `url` is postgresql://USER:{{ secret.NAME }}@HOST/DATABASE; secrets stand there by reference alone. `table` is a table or
    view, with its schema or without. Without `key` the rows are read whole at the start of the run, `max_rows` at the most.
    With `key` the job gets a `KeyedLookup`, which asks for the keys of its rows alone and keeps those of the `max_rows` keys
    that were used last; they are asked for again after `ttl`, such as "10m".
    """

    url: str = field(repr=False)
    table: str
    key: str | tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    max_rows: int = 1_000_000
    ttl: str = "10m"

    def __post_init__(self) -> None:
        if self.max_rows < 1:
            raise DeclarationError(f"LookupPostgres({self.table!r}): max_rows is {self.max_rows}; valid: 1 and more")
        if not 1 <= len(self.table.split(".")) <= 2 or not all(self.table.split(".")):
            raise DeclarationError(f"LookupPostgres: table is {self.table!r}; valid: table, or schema.table")
        missing = [name for name in self.keys if self.columns and name not in self.columns]
        if missing:
            raise DeclarationError(f"LookupPostgres({self.table!r}): columns lack the key {', '.join(missing)}")
        self.age  # noqa: B018

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns that rows are found by; none: they are read whole."""
        return (self.key,) if isinstance(self.key, str) else tuple(self.key)

    @property
    def age(self) -> timedelta:
        """How old a kept row may be. Raises DeclarationError."""
        from lakeflow.declare import UNKNOWN

        return duration_of(self.ttl, f"ttl of LookupPostgres({self.table!r})", UNKNOWN)


Outside = LookupFile | LookupPostgres
"""A dimension that is no table of the lake."""
