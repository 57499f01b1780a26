"""Which columns a compiled query needs of the tables that it reads as streams."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from sqlglot import exp

from lakeflow.sql.compiled import Compiled
from lakeflow.sql.execute import plan_compiled
from lakeflow.sql.flink import read_query
from lakeflow.sql.relations import Relation

STREAMS: Final = frozenset({"ARROW_SCAN", "PYTHON_ARROW_SCAN"})
"""Scans of an ArrowRelation."""


def columns_read(compiled: Compiled, relations: Mapping[str, Relation], columns: Iterable[str]) -> frozenset[str]:
    """Those of `columns` that DuckDB takes from a stream (`ArrowRelation`), in whole or a field of them, or that bear a name
    which stands in the query's text. No row is read and nothing is asked.

    One too many may be among them, and none too few: a name stands in the text, or DuckDB says what `*` or a whole row come to.
    Raises what `run_compiled` raises before the first row.
    """
    words = {str(one.name).lower() for one in read_query(compiled.text).find_all(exp.Identifier)}
    taken: list[str] = []
    for scan in _scans(plan_compiled(compiled, relations)):
        said = (scan.get("extra_info") or {}).get("Projections")
        if said is None:
            return frozenset(columns)
        taken += [str(one).lower() for one in (said if isinstance(said, list) else [said])]
    return frozenset(name for name in columns if name.lower() in words or _is_taken(name.lower(), taken))


def _is_taken(name: str, taken: Sequence[str]) -> bool:
    return any(one == name or one.startswith(f"{name}.") for one in taken)


def _scans(nodes: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for node in nodes:
        if str(node.get("name", "")).strip() in STREAMS:
            yield node
        yield from _scans(node.get("children", []))
