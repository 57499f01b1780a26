"""Statements as frozen values: those of a file in tables/, and those that `lakeflow sql` runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lakeflow.declare import IndexSpec, ModelDeclaration, TableSpec


@dataclass(frozen=True, slots=True)
class CreateTable:
    """CREATE TABLE [IF NOT EXISTS]."""

    table: TableSpec
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class CreateModel:
    """CREATE MODEL [IF NOT EXISTS]."""

    model: ModelDeclaration
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class CreateVectorIndex:
    """CREATE VECTOR INDEX [IF NOT EXISTS]."""

    index: IndexSpec
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class SetModelOptions:
    """ALTER MODEL [IF EXISTS] m SET ('k' = 'v', ..): options as written."""

    name: str
    options: Mapping[str, str]
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class ResetModelOptions:
    """ALTER MODEL [IF EXISTS] m RESET ('k', ..)."""

    name: str
    options: tuple[str, ...]
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class RenameModel:
    """ALTER MODEL [IF EXISTS] m RENAME TO n."""

    name: str
    to: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class DropModel:
    """DROP MODEL [IF EXISTS] m."""

    name: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True)
class DescribeModel:
    """DESCRIBE MODEL [EXTENDED] m, `version` where m$version was said."""

    name: str
    version: int | None = None
    extended: bool = False


@dataclass(frozen=True, slots=True)
class ShowModels:
    """SHOW MODELS [[NOT] LIKE 'pattern']: % stands for any text, _ for any one character, a backslash takes that away."""

    like: str | None = None
    negated: bool = False


@dataclass(frozen=True, slots=True)
class ShowCreateModel:
    """SHOW CREATE MODEL m, `version` where m$version was said."""

    name: str
    version: int | None = None


@dataclass(frozen=True, slots=True)
class ReadRows:
    """A statement that reads, such as SELECT, for DuckDB to run. `text` has blanks in place of what stands around it."""

    text: str


Statement = CreateTable | CreateModel | CreateVectorIndex
AlterModel = SetModelOptions | ResetModelOptions | RenameModel
ModelStatement = CreateModel | AlterModel | DropModel | DescribeModel | ShowModels | ShowCreateModel
