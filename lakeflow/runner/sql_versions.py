"""The versions of a table for a join at its rows' times: by columns of its own that say so, or by its snapshots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lakeflow.declare import TableSpec
from lakeflow.errors import DeclarationError, UnknownName
from lakeflow.lake.catalog import Table
from lakeflow.lake.read import Snapshot, splits_at
from lakeflow.lake.versions import lifetimes
from lakeflow.runner.querying import relation_over
from lakeflow.sql.relations import ValidityRelation, Version, VersionedRelation

VALID_FROM: Final = "valid_from"
VALID_UNTIL: Final = "valid_until"
"""Options of a table's declaration: the columns that say from when a row is valid, and until when (without: the next one of its
PRIMARY KEY)."""


def versions_of(
    name: str, table: Table, head: Snapshot | None, declared: Mapping[str, TableSpec]
) -> VersionedRelation | ValidityRelation:
    """The rows of a table up to the snapshot `head`, with the times that they hold for.

    Raises DeclarationError for options that do not go together, UnknownName for a column that is not there, and what
    `lifetimes` raises.
    """
    spec = declared.get(name)
    if spec is None or not {VALID_FROM, VALID_UNTIL} & spec.options.keys():
        none = Version(relation_over(table, ()), 0, 0)
        kept = (Version(relation_over(table, one.splits), one.since, one.until) for one in lifetimes(table, head))
        return VersionedRelation((none, *kept))
    since, until = spec.options.get(VALID_FROM), spec.options.get(VALID_UNTIL)
    if since is None:
        raise DeclarationError(f"{spec.origin}: table {name}: {VALID_UNTIL!r} needs {VALID_FROM!r} beside it")
    if until is None and not spec.primary_key:
        raise DeclarationError(
            f"{spec.origin}: table {name}: {VALID_FROM!r} alone needs a PRIMARY KEY, whose next row ends the one before",
            next_step=f"declare PRIMARY KEY (..) NOT ENFORCED, or {VALID_UNTIL!r}",
        )
    columns = [field.name for field in table.schema().fields]
    for column in (since, until):
        if column is not None and column not in columns:
            raise UnknownName(f"column of {name}, named by {VALID_FROM!r} or {VALID_UNTIL!r}:", column, columns)
    rows = relation_over(table, splits_at(table, head))
    return ValidityRelation(rows, since, until, () if until else spec.primary_key)
