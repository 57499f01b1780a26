"""A statement back as SQL text. Pure; `parse_declarations(describe(s))` is `[s]` again, apart from its origin, and so is
`parse_jobs(describe(s))` for a statement of jobs/.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import assert_never

import pyarrow as pa

from lakeflow.declare import Computed, IndexSpec, MetadataColumn, ModelDeclaration, PartitionField, TableSpec, Watermark
from lakeflow.sql.clauses import COMMENT_KEY
from lakeflow.sql.parse_constraints import expectation_text
from lakeflow.sql.parse_like import like_text
from lakeflow.sql.parse_table import UNITS
from lakeflow.sql.statements import (
    CreateMaterializedTable,
    CreateModel,
    CreateTable,
    CreateTableAs,
    CreateVectorIndex,
    Insert,
    JobStatement,
    Like,
    Statement,
    StatementSet,
)
from lakeflow.sql.types import quoted, sql_type


def describe(statement: Statement | JobStatement) -> str:
    """The SQL text of a statement, secrets unfilled as in the value, queries as they were written.

    Raises DeclarationError where a column's Arrow type has no SQL type.
    """
    match statement:
        case CreateTable(table, if_not_exists, like):
            return _ended([*_table(table, _head("TABLE", if_not_exists)), *(_like(like) if like else ())])
        case CreateModel(model, if_not_exists):
            return _ended(_model(model, _head("MODEL", if_not_exists)))
        case CreateVectorIndex(index, if_not_exists):
            return _ended(_index(index, _head("VECTOR INDEX", if_not_exists)))
        case CreateTableAs(table, query, if_not_exists, or_replace):
            head = "CREATE OR REPLACE TABLE" if or_replace else _head("TABLE", if_not_exists)
            return _ended([*_table(table, head), "AS", query.text])
        case CreateMaterializedTable():
            return _ended(_materialized(statement))
        case Insert():
            return _insert(statement)
        case StatementSet(inserts):
            return "\n\n".join(["BEGIN STATEMENT SET;", *map(_insert, inserts), "END;"])
        case _:
            assert_never(statement)


def columns_text(schema: pa.Schema) -> str:
    """Columns as `a INT NOT NULL COMMENT '..', b STRING`. Raises DeclarationError where a type has no SQL type."""
    return ", ".join(map(_column, schema))


def partitioning_text(parts: Iterable[PartitionField]) -> str:
    """Partition fields as SQL text, without the parentheses."""
    return ", ".join(map(_partition_field, parts))


def _head(kind: str, if_not_exists: bool) -> str:
    return f"CREATE {kind} IF NOT EXISTS" if if_not_exists else f"CREATE {kind}"


def _table(table: TableSpec, head: str) -> list[str]:
    items = [_column(field) for field in table.schema]
    items += map(_metadata, table.metadata)
    items += _computed(table.computed) if table.computed else []
    if table.primary_key:
        items.append(f"PRIMARY KEY ({', '.join(map(quoted, table.primary_key))}) NOT ENFORCED")
    if table.watermark:
        items.append(watermark_text(table.watermark))
    items += map(expectation_text, table.expectations)
    lines = [f"{head} {_table_name(table.name)}{' ' + _block(items) if items else ''}"]
    if table.comment is not None:
        lines.append(f"COMMENT {_text(table.comment)}")
    if table.partitioning:
        lines.append(f"PARTITIONED BY ({partitioning_text(table.partitioning)})")
    return [*lines, *_with(table.options)]


def _model(model: ModelDeclaration, head: str) -> list[str]:
    lines = [f"{head} {quoted(model.name)}", f"INPUT {_block(map(_column, model.input))}"]
    lines.append(f"OUTPUT {_block(map(_column, model.output))}")
    if model.comment is not None:
        lines.append(f"COMMENT {_text(model.comment)}")
    return [*lines, *_with(model.options)]


def _index(index: IndexSpec, head: str) -> list[str]:
    options = {"key": index.key, "metric": index.metric}
    if index.model is not None:
        options["model"] = index.model
    if index.columns:
        options["columns"] = ", ".join(index.columns)
    line = f"{head} {quoted(index.name)} ON {_table_name(index.table)} ({quoted(index.column)})"
    return [line, *_with({**options, **index.options})]


def _materialized(statement: CreateMaterializedTable) -> list[str]:
    lines = _table(statement.table, _head("MATERIALIZED TABLE", statement.if_not_exists))
    if statement.freshness is not None:
        lines.append(f"FRESHNESS = {_interval(statement.freshness)}")
    if statement.refresh_mode is not None:
        lines.append(f"REFRESH_MODE = {statement.refresh_mode}")
    return [*lines, "AS", statement.query.text]


def _insert(insert: Insert) -> str:
    columns = f" ({', '.join(map(quoted, insert.columns))})" if insert.columns else ""
    verb = "OVERWRITE" if insert.overwrite else "INTO"
    return _ended([f"INSERT {verb} {_table_name(insert.target)}{columns}", insert.query.text])


def _like(like: Like) -> list[str]:
    return [f"LIKE {_table_name(like.table)} {like_text(like)}".rstrip()]


def _with(options: Mapping[str, str]) -> list[str]:
    pairs = [f"{_text(key)} = {_text(value)}" for key, value in options.items()]
    return [f"WITH {_block(pairs)}"] if pairs else []


def _ended(lines: list[str]) -> str:
    return "\n".join(lines) + ";"


def _block(items: Iterable[str]) -> str:
    return "(\n  " + ",\n  ".join(items) + "\n)"


def _text(text: str) -> str:
    escaped = text.replace("'", "''")
    return f"'{escaped}'"


def _table_name(name: str) -> str:
    return ".".join(map(quoted, name.split(".")))


def _column(field: pa.Field) -> str:
    comment = (field.metadata or {}).get(COMMENT_KEY)
    null = "" if field.nullable else " NOT NULL"
    tail = f" COMMENT {_text(comment.decode())}" if comment is not None else ""
    return f"{quoted(field.name)} {sql_type(field.type)}{null}{tail}"


def _metadata(metadata: MetadataColumn) -> str:
    field = metadata.column
    comment = (field.metadata or {}).get(COMMENT_KEY)
    tail = f" COMMENT {_text(comment.decode())}" if comment is not None else ""
    return f"{quoted(field.name)} {sql_type(field.type)} METADATA FROM {_text(metadata.key)}{tail}"


def _computed(computed: Computed) -> Iterator[str]:
    for column, text in zip(computed.columns, computed.texts, strict=True):
        comment = (column.metadata or {}).get(COMMENT_KEY)
        tail = f" COMMENT {_text(comment.decode())}" if comment is not None else ""
        line = "\n  " if "--" in text else ""
        yield f"{quoted(column.name)} AS {text}{line}{tail}"


def watermark_text(watermark: Watermark) -> str:
    """A watermark as SQL text."""
    name = quoted(watermark.column)
    if not watermark.delay:
        return f"WATERMARK FOR {name} AS {name}"
    return f"WATERMARK FOR {name} AS {name} - {_interval(watermark.delay)}"


def _interval(delay: timedelta) -> str:
    for unit, length in UNITS.items():
        if delay % length == timedelta(0):
            return f"INTERVAL '{delay // length}' {unit}"
    seconds, rest = divmod(delay, timedelta(seconds=1))
    return f"INTERVAL '{seconds}.{rest.microseconds:06}' SECOND"


def _partition_field(field: PartitionField) -> str:
    if field.transform == "identity":
        return quoted(field.column)
    inner = quoted(field.column) if field.width is None else f"{field.width}, {quoted(field.column)}"
    return f"{field.transform}({inner})"
