"""How DuckDB reads data files of tables: plainly where all of a table are as the table is now, by field ids elsewhere.

Both give the same rows. But where `read_parquet` is given a `schema`, DuckDB looks into no file before it plans, takes every
table for one of a single row, and joins in whatever order; over many rows that costs many times the query.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lakeflow.errors import SchemaMismatch
from lakeflow.sql.relations import ParquetRelation, duckdb_type, literal, local_path, parquet_view, pattern_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LAYOUTS: Final = """
SELECT list(file_name), identified, columns
FROM (
  SELECT
    file_name,
    count(field_id) AS identified,
    list([CAST(field_id AS VARCHAR), name, duckdb_type] ORDER BY column_id) FILTER (column_id > 0) AS columns
  FROM parquet_schema($1)
  GROUP BY file_name
)
GROUP BY ALL
"""
"""The layouts of some files: the files that have it, how many field ids, and id, name and type of each column."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a file is laid out: whether it carries field ids, and id, name and type of each column."""

    identified: bool
    columns: tuple[tuple[str | None, str, str], ...]


def parquet_bodies(connection: DuckDBPyConnection, relations: Mapping[str, ParquetRelation]) -> dict[str, str]:
    """For each table the SELECT that reads its files. Looks into the footer of each once, about 30 us a file, warm.

    Raises SchemaMismatch where a file carries no field ids, since it would read as nothing but nulls.
    """
    layouts = _layouts(connection, relations)
    return {table: _body(table, relation, layouts) for table, relation in relations.items()}


def _layouts(connection: DuckDBPyConnection, relations: Mapping[str, ParquetRelation]) -> Mapping[str, _Layout]:
    """The layout of each file, by its path. One query for all tables, since each takes more than a millisecond."""
    patterns = list(dict.fromkeys(pattern_of(file) for relation in relations.values() for file in relation.files))
    if not patterns:
        return {}
    found: dict[str, _Layout] = {}
    for files, identified, columns in connection.execute(LAYOUTS, [patterns]).fetchall():
        layout = _Layout(bool(identified), tuple((number, name, _compact(kind or "")) for number, name, kind in columns or []))
        found.update(dict.fromkeys(files, layout))
    return found


def _body(table: str, relation: ParquetRelation, layouts: Mapping[str, _Layout]) -> str:
    expected = _Layout(True, tuple((str(one.field_id), one.name, _compact(duckdb_type(one.type))) for one in relation.columns))
    plain = bool(relation.files)
    for file in relation.files:
        layout = layouts[local_path(file)]
        if not layout.identified:
            raise SchemaMismatch(
                f"table {table!r}: the data file {local_path(file)} carries no field ids, so its columns cannot be told by them"
            )
        plain = plain and layout == expected
    if not plain:
        return parquet_view(relation)
    patterns = ", ".join(literal(pattern_of(file)) for file in relation.files)
    return f"SELECT * FROM read_parquet([{patterns}], hive_partitioning = false)"


def _compact(kind: str) -> str:
    return kind.replace(", ", ",")
