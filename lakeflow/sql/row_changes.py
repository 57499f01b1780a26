"""Statements that change rows of a table, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Written:
    """A condition or an expression as written. `query` is a read-only query that holds it at its line and column, for messages
    about it."""

    text: str
    query: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """`column = value` of UPDATE."""

    column: str
    value: Written


@dataclass(frozen=True, slots=True)
class DeleteRows:
    """DELETE FROM t [WHERE condition]. No condition: every row."""

    name: str
    condition: Written | None = None


@dataclass(frozen=True, slots=True)
class UpdateRows:
    """UPDATE t SET column = value, .. [WHERE condition]. No condition: every row."""

    name: str
    assignments: tuple[Assignment, ...]
    condition: Written | None = None


@dataclass(frozen=True, slots=True)
class TruncateTable:
    """TRUNCATE TABLE t."""

    name: str


RowChange = DeleteRows | UpdateRows | TruncateTable
