"""The statements of a file in tables/, as frozen values."""

from __future__ import annotations

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


Statement = CreateTable | CreateModel | CreateVectorIndex
