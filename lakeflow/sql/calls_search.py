"""VECTOR_SEARCH: the nearest rows of a table for a vector, or for a text where an index has a model.

    VECTOR_SEARCH(TABLE t, DESCRIPTOR(vec), query, k [, CONFIG])
    VECTOR_SEARCH(SEARCH_TABLE => TABLE t, COLUMN_TO_SEARCH => DESCRIPTOR(vec), COLUMN_TO_QUERY => q, TOP_K => 3)

'vec' stands for DESCRIPTOR(vec); without a k the nearest 10 are found; DISTANCE => 'cosine' is MAP['distance', 'cosine']. The
columns of the table come out (of an index with 'columns' those), or those that MAP['output_columns', 'a,b'] names, among them
`distance`, `text_score` and `index_snapshot_id`, and `score`, higher nearer. The order of the
arguments and their names are those of Flink's validator (SqlVectorSearchTableFunction).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
from sqlglot import exp

from lakeflow.declare import INDEX_SNAPSHOT, IndexSpec
from lakeflow.errors import UnknownName, UsageError
from lakeflow.sql.calls import Decide
from lakeflow.sql.calls_arguments import Arguments
from lakeflow.sql.calls_types import castable, is_list, is_text
from lakeflow.sql.compiled import Names, SearchCall
from lakeflow.sql.flink import AiCall
from lakeflow.sql.query import table_name

USAGE = "VECTOR_SEARCH(TABLE t, DESCRIPTOR(column), query, k [, MAP['key', 'value', ..]])"
SLOTS = ("SEARCH_TABLE", "COLUMN_TO_SEARCH", "COLUMN_TO_QUERY", "TOP_K", "CONFIG", "DISTANCE")
ALIASES = {"TABLE": "SEARCH_TABLE", "COLUMN": "COLUMN_TO_SEARCH", "QUERY": "COLUMN_TO_QUERY", "K": "TOP_K"}
"""Shorter names of the arguments."""

NEAREST = 10
"""How many rows are found where the query does not say."""

VECTOR = pa.list_(pa.float32())
MEASURED = ("distance", "text_score", INDEX_SNAPSHOT)
"""What a hit may tell beside `score`."""


@dataclass(frozen=True, slots=True)
class Search:
    """The search that a call asks for, but for the type of its query."""

    table: str
    column: str
    k: int
    columns: pa.Schema
    query: exp.Expr
    config: Mapping[str, str]
    takes_text: bool
    measured: tuple[str, ...] = ()

    @property
    def asks(self) -> str:
        """What makes two searches with equal queries equal."""
        return f"{self.table} {self.column} {self.k} {self.columns.names} {self.measured} {sorted(self.config.items())}"


def read_search(text: str, call: AiCall, names: Names) -> Search:
    """What a call means. Raises UsageError and UnknownName, pointing at the argument."""
    arguments = Arguments(text, call, USAGE)
    for argument in arguments.all:
        if argument.args.get("name") in ALIASES:
            argument.set("name", ALIASES[argument.args["name"]])
    slots = arguments.slots(SLOTS, 3)
    table = arguments.rows(slots["SEARCH_TABLE"]).this
    if not isinstance(table, exp.Table) or not isinstance(table.this, exp.Identifier) or table.args.get("version"):
        arguments.fail(
            "VECTOR_SEARCH looks in a table, not in a query; at an earlier snapshot of it by MAP['snapshot_id', '..']",
            slots["SEARCH_TABLE"],
        )
    name = table_name(text, table)
    try:
        schema = names.table(name, None)
    except UnknownName as error:
        raise arguments.unknown(error, slots["SEARCH_TABLE"]) from error
    place = slots["COLUMN_TO_SEARCH"]
    columns = arguments.descriptor(place, 1)
    column = _column(arguments, name, columns[0], schema, place)
    if not is_list(column.type):
        arguments.fail(f"column {column.name!r} of {name} is {column.type}; VECTOR_SEARCH needs vectors", place)
    config = dict(arguments.config(slots.get("CONFIG")))
    if "DISTANCE" in slots:
        config["distance"] = _text(arguments, slots["DISTANCE"])
    index = names.index(name, column.name)
    chosen, measured = _chosen(arguments, name, config, schema, index)
    by_words = config.get("mode", "vector").lower() != "vector"
    k = arguments.whole(slots["TOP_K"]) if "TOP_K" in slots else NEAREST
    takes_text = by_words or (index is not None and index.model is not None)
    return Search(name, column.name, k, chosen, arguments.value(slots["COLUMN_TO_QUERY"]), config, takes_text, measured)


def decide_search(text: str, call: AiCall, search: Search) -> Decide:
    """The search once the type of its query is known. Raises UsageError where that is neither a vector nor a text."""
    arguments = Arguments(text, call, USAGE)

    def decide(given: tuple[pa.DataType, ...], name: str) -> tuple[tuple[pa.DataType, ...], SearchCall]:
        kind = pa.string() if is_text(given[0]) else VECTOR
        if is_text(given[0]) and not search.takes_text:
            raise UsageError(
                arguments.at(f"the query is a text, and no index over {search.table} ({search.column}) has a model for it"),
                next_step="give a vector: ML_EMBED(MODEL m, text); or declare the index with 'model' = 'm'",
            )
        if not castable(given[0], kind):
            raise UsageError(arguments.at(f"the query is {given[0]}; valid: a vector, such as ARRAY<FLOAT>, or a text"))
        return (kind,), SearchCall(
            name, search.table, search.column, search.k, search.columns, kind, search.config, search.measured
        )

    return decide


def _column(
    arguments: Arguments, table: str, name: exp.Identifier, schema: pa.Schema, at: exp.Expr, where: str = "DESCRIPTOR"
) -> pa.Field:
    found = next((field for field in schema if field.name.lower() == name.name.lower()), None)
    if found is None:
        place = name if "start" in name.meta else at
        raise arguments.unknown(UnknownName(f"column of {table} in {where}:", name.name, schema.names), place)
    return found


def _text(arguments: Arguments, argument: exp.Expr) -> str:
    value = argument.this
    if not isinstance(value, exp.Literal) or not value.is_string:
        arguments.fail("DISTANCE is written out, as a text: 'cosine', 'l2' or 'dot'", argument)
    return str(value.this)


def _chosen(
    arguments: Arguments, table: str, config: Mapping[str, str], schema: pa.Schema, index: IndexSpec | None
) -> tuple[pa.Schema, tuple[str, ...]]:
    """The columns of a hit, in the order of the table: those that CONFIG names, or all; of an index all that it keeps. Then
    which of MEASURED are named, where the table has no such column."""
    named = [name.strip() for name in config.get("output_columns", "").split(",") if name.strip()]
    if not named and index is not None and index.columns:
        named = [one for one in schema.names if one in (index.key, index.column, *index.columns)]
    if not named:
        return schema.remove_metadata(), ()
    there = {field.name.lower() for field in schema}
    measured = tuple(one for one in MEASURED if one not in there and one in {name.lower() for name in named})
    named = [name for name in named if name.lower() not in measured]
    wanted = {
        _column(arguments, table, exp.to_identifier(name), schema, arguments.call, "output_columns").name for name in named
    }
    return pa.schema([field for field in schema if field.name in wanted]), measured
