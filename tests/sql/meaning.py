"""A statement as a case of the corpus writes what it means."""

from __future__ import annotations

import dataclasses
from enum import Enum
from pathlib import Path

import pyarrow as pa

from lakeflow.declare import Origin
from lakeflow.sql.describe import describe
from lakeflow.sql.statements import (
    CreateMaterializedTable,
    CreateModel,
    CreateTable,
    CreateTableAs,
    CreateVectorIndex,
    Insert,
    Query,
    ScriptStatement,
    StatementSet,
)
from lakeflow.sql.types import sql_type


def meaning(statement: ScriptStatement) -> str:
    """Declarations and inserts as text again, all others as their fields that are not as they are by default."""
    match statement:
        case CreateTable() | CreateModel() | CreateVectorIndex() | CreateTableAs() | CreateMaterializedTable() | Insert():
            return describe(statement)
        case StatementSet():
            return describe(statement)
        case _:
            return _text(statement)


def _text(value: object) -> str:
    match value:
        case Query():
            return f"[{value.text}]"
        case pa.Schema():
            return f"({', '.join(f'{field.name} {sql_type(field.type)}' for field in value)})"
        case pa.Field():
            return f"{value.name} {sql_type(value.type)}"
        case Enum():
            return value.name
        case tuple() | list() | frozenset() | set():
            parts = [_text(one) for one in value]
            return f"({', '.join(sorted(parts) if isinstance(value, frozenset | set) else parts)})"
        case dict():
            return "{" + ", ".join(f"{_text(key)}: {_text(one)}" for key, one in value.items()) + "}"
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            told = [one for one in dataclasses.fields(value) if one.compare and not _is_default(value, one)]
            fields = [f"{one.name} = {_text(getattr(value, one.name))}" for one in told]
            return f"{type(value).__name__}({', '.join(fields)})"
        case Path() | Origin():
            return ""
        case _:
            return repr(value)


def _is_default(value: object, field: dataclasses.Field[object]) -> bool:
    found = getattr(value, field.name)
    if field.default is not dataclasses.MISSING:
        return bool(found == field.default)
    return field.default_factory is not dataclasses.MISSING and bool(found == field.default_factory())
