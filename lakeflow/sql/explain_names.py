"""What DuckDB's plan leaves out of its steps: which table a scan reads, and what the columns are that it shows by number.

Pure but for the footers of files, by whose rows tables of the same columns are told apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from lakeflow.sql.relations import ArrowRelation, ParquetRelation, Relation, local_path, plain_parts

Node = Mapping[str, Any]

SCANS: Final = frozenset({"READ_PARQUET", "ARROW_SCAN", "PYTHON_ARROW_SCAN"})
MOST_FOOTERS: Final = 64
NUMBERED: Final = re.compile(r"#(\d+)")
COMPARED: Final = re.compile(
    r"(?P<left>[^()]+?) (?P<sign>IS NOT DISTINCT FROM|IS DISTINCT FROM|<=|>=|!=|=|<|>) (?P<right>[^()]+)"
)
COLUMN: Final = re.compile(r"[^\W\d]\w*")


def texts_of(value: object) -> Sequence[str]:
    """What a part of a node's `extra_info` says, as texts."""
    if value is None:
        return []
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]


def views_of_scans(roots: Sequence[Node], relations: Mapping[str, Relation]) -> dict[int, tuple[str, ...]]:
    """The view of `relations` that each scan reads, by the id of its node; several where nothing tells them apart.

    A scan reads a view that has its columns and is of its kind. Of several, a scan without a filter reads the one with as many
    rows as DuckDB expects; and where there are as many scans as views, each reads one that no other does.
    """
    scans = [node for node in _walk(roots) if _name(node) in SCANS]
    found = [[view for view, relation in relations.items() if _fits(node, relation)] for node in scans]
    for place, node in enumerate(scans):
        if len(found[place]) > 1:
            found[place] = _with_rows(node, found[place], relations)
    if len(scans) == len(relations):
        _eliminate(found)
    return {id(node): tuple(views) for node, views in zip(scans, found, strict=True)}


def _eliminate(found: list[list[str]]) -> None:
    taken: set[str] = set()
    while alone := [views[0] for views in found if len(views) == 1 and views[0] not in taken]:
        taken.update(alone)
        for views in found:
            if len(views) > 1:
                views[:] = [view for view in views if view not in taken] or views


def _fits(node: Node, relation: Relation) -> bool:
    has = set(relation.column_names)
    kind = ParquetRelation if _name(node) == "READ_PARQUET" else ArrowRelation
    parts = plain_parts(relation)
    columns = texts_of(_extra(node).get("Projections"))
    if len(parts) == 1 and not isinstance(parts[0], kind):
        return False
    return all(one in has or one.partition(".")[0] in has for one in columns)


def _with_rows(node: Node, views: list[str], relations: Mapping[str, Relation]) -> list[str]:
    expected = str(_extra(node).get("Estimated Cardinality", ""))
    if "Filters" in _extra(node) or not expected.isdigit():
        return views
    return [view for view in views if _rows_of(relations[view]) == int(expected)] or views


def _rows_of(relation: Relation) -> int | None:
    """The rows of a table's files, by their footers; None for a stream, and where there are many files."""
    if not isinstance(relation, ParquetRelation) or len(relation.files) > MOST_FOOTERS:
        return None
    paths = [Path(local_path(file)) for file in relation.files]
    return sum(int(pq.read_metadata(path).num_rows) for path in paths if path.is_file())


def with_names(node: Node, key: str, text: str, tables: Mapping[int, str]) -> str:
    """A detail of a step under `key`, with columns in place of their numbers, and with the table of each side of a join that
    reads one alone. `tables` has that of each scan, by the id of its node.
    """
    children = node.get("children", [])
    if key == "Conditions" and len(children) == 2 and (said := COMPARED.fullmatch(text)):
        left, right = (_side(said[side], child, tables) for side, child in zip(("left", "right"), children, strict=True))
        return f"{left} {said['sign']} {right}"
    return _numbered(text, outputs(children[0])) if len(children) == 1 else text


def _side(text: str, child: Node, tables: Mapping[int, str]) -> str:
    named = _numbered(text.strip(), outputs(child))
    below = {tables.get(id(node)) for node in _walk([child]) if _name(node) in SCANS}
    table = below.pop() if len(below) == 1 else None
    return f"{table}.{named}" if table is not None and COLUMN.fullmatch(named) else named


def _numbered(text: str, names: Sequence[str]) -> str:
    return NUMBERED.sub(lambda found: names[int(found[1])] if int(found[1]) < len(names) else found[0], text)


def outputs(node: Node) -> Sequence[str]:
    """The columns that a step gives, in order; none where DuckDB does not say, as of a join."""
    extra, children = _extra(node), node.get("children", [])
    below = outputs(children[0]) if len(children) == 1 else []
    match _name(node):
        case "READ_PARQUET" | "ARROW_SCAN" | "PYTHON_ARROW_SCAN":
            return texts_of(extra.get("Projections"))
        case "PROJECTION":
            return [_numbered(one, below) for one in texts_of(extra.get("Projections"))]
        case "HASH_GROUP_BY" | "PERFECT_HASH_GROUP_BY" | "UNGROUPED_AGGREGATE":
            return [_numbered(one, below) for key in ("Groups", "Aggregates") for one in texts_of(extra.get(key))]
        case "FILTER" | "ORDER_BY" | "TOP_N" | "STREAMING_LIMIT" | "LIMIT":
            return below
        case _:
            return []


def _walk(nodes: Sequence[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        yield from _walk(node.get("children", []))


def _name(node: Node) -> str:
    return str(node.get("name", "")).strip()


def _extra(node: Node) -> Mapping[str, Any]:
    return node.get("extra_info") or {}
