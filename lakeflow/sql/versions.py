"""A table as of each row's own time, in a join: FOR SYSTEM_TIME AS OF o.event_time.

    FROM bronze.orders AS o
    LEFT JOIN dim.prices FOR SYSTEM_TIME AS OF o.ordered_at AS p ON p.item = o.item

DuckDB reads the table's versions, each row with the times from and until which it held (`VersionedRelation`,
`ValidityRelation`), and the join asks for the one that held then. The two columns that say so are left out of `*`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow as pa
from sqlglot import exp

from lakeflow.errors import UsageError
from lakeflow.sql.compiled import AtRow
from lakeflow.sql.moments import Read
from lakeflow.sql.relations import VALID_FROM, VALID_UNTIL
from lakeflow.sql.tokens import pointed

VERSION_COLUMNS: Final = pa.schema(
    [pa.field(VALID_FROM, pa.timestamp("us", "UTC")), pa.field(VALID_UNTIL, pa.timestamp("us", "UTC"))]
)


def join_versions(text: str, reads: Sequence[Read]) -> None:
    """Make each join of a table at its rows' times ask for the version of that time. The tree is changed.

    Raises UsageError, pointing at the table, where it is not joined by JOIN or LEFT JOIN .. ON.
    """
    for read in reads:
        if isinstance(read.read.at, AtRow):
            _join(text, read)


def _join(text: str, read: Read) -> None:
    node, join = read.node, read.node.parent
    said = node.args["version"].expression
    select = join.find_ancestor(exp.Select) if isinstance(join, exp.Join) else None
    if not isinstance(join, exp.Join) or select is None or not _is_plain(join):
        raise UsageError(
            pointed(
                f"a table as of {said.sql(dialect='duckdb')} is joined to the rows that have that column: "
                "JOIN or LEFT JOIN .. FOR SYSTEM_TIME AS OF column AS name ON ..",
                text,
                read.read.start,
                read.read.stop,
            )
        )
    label = node.alias or node.name
    since, until = (exp.column(name, table=label, quoted=True) for name in (VALID_FROM, VALID_UNTIL))
    time = exp.cast(said.copy(), "TIMESTAMPTZ")
    join.set("on", exp.and_(join.args["on"], exp.LTE(this=since, expression=time), exp.LT(this=time.copy(), expression=until)))
    for star in _stars(select, label):
        star.set("except_", [*(star.args.get("except_") or []), *map(_name, (VALID_FROM, VALID_UNTIL))])


def _is_plain(join: exp.Join) -> bool:
    side, kind, method = (str(join.args.get(part) or "").upper() for part in ("side", "kind", "method"))
    return side in ("", "LEFT") and kind in ("", "INNER", "OUTER") and not method and join.args.get("on") is not None


def _stars(select: exp.Select, label: str) -> list[exp.Star]:
    """The stars of a SELECT that stand for the columns of the table `label` too."""
    found = []
    for one in select.expressions:
        if isinstance(one, exp.Star):
            found.append(one)
        elif isinstance(one, exp.Column) and isinstance(one.this, exp.Star) and one.table.lower() == label.lower():
            found.append(one.this)
    return [star for star in found if VALID_FROM not in {part.name for part in star.args.get("except_") or []}]


def _name(name: str) -> exp.Column:
    return exp.column(name, quoted=True)
