"""Statements that change, drop or show a table or a vector index, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Place:
    """Where ALTER TABLE puts a column: first, or behind `after`."""

    after: str | None = None


@dataclass(frozen=True, slots=True)
class PlacedColumn:
    """A column of ALTER TABLE .. ADD or MODIFY; no place: last, or where it is."""

    column: pa.Field
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class AddColumns:
    """ALTER TABLE [IF EXISTS] t ADD column | (column, ..)."""

    name: str
    columns: tuple[PlacedColumn, ...]
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class ModifyColumns:
    """ALTER TABLE [IF EXISTS] t MODIFY column | (column, ..): another type, comment or place."""

    name: str
    columns: tuple[PlacedColumn, ...]
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropColumns:
    """ALTER TABLE [IF EXISTS] t DROP column | (column, ..)."""

    name: str
    columns: tuple[str, ...]
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class RenameColumn:
    """ALTER TABLE [IF EXISTS] t RENAME column TO other."""

    name: str
    column: str
    to: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class RenameTable:
    """ALTER TABLE [IF EXISTS] t RENAME TO other."""

    name: str
    to: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class SetTableOptions:
    """ALTER TABLE [IF EXISTS] t SET ('k' = 'v', ..)."""

    name: str
    options: Mapping[str, str]
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class ResetTableOptions:
    """ALTER TABLE [IF EXISTS] t RESET ('k', ..)."""

    name: str
    options: tuple[str, ...]
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropTable:
    """DROP TABLE [IF EXISTS] t."""

    name: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class DescribeTable:
    """DESCRIBE [TABLE] [EXTENDED] t."""

    name: str
    extended: bool = False


@dataclass(frozen=True, slots=True)
class ShowCreateTable:
    """SHOW CREATE [MATERIALIZED] TABLE t."""

    name: str


@dataclass(frozen=True, slots=True)
class DropVectorIndex:
    """DROP VECTOR INDEX [IF EXISTS] i."""

    name: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class AlterVectorIndex:
    """ALTER VECTOR INDEX [IF EXISTS] i SET ('k' = 'v', ..) | RESET ('k', ..)."""

    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    reset: tuple[str, ...] = ()
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class DescribeVectorIndex:
    """DESCRIBE VECTOR INDEX i."""

    name: str


@dataclass(frozen=True, slots=True)
class ShowCreateVectorIndex:
    """SHOW CREATE VECTOR INDEX i."""

    name: str


class Shown(StrEnum):
    """What SHOW lists, beside models."""

    TABLES = "TABLES"
    MATERIALIZED_TABLES = "MATERIALIZED TABLES"
    NAMESPACES = "NAMESPACES"
    JOBS = "JOBS"
    VECTOR_INDEXES = "VECTOR INDEXES"


@dataclass(frozen=True, slots=True)
class Show:
    """SHOW TABLES | JOBS | .. [FROM namespace] [[NOT] LIKE 'pattern'], the pattern as that of `ShowModels`."""

    what: Shown
    namespace: str | None = None
    like: str | None = None
    negated: bool = False


AlterTable = AddColumns | ModifyColumns | DropColumns | RenameColumn | RenameTable | SetTableOptions | ResetTableOptions
