"""How DuckDB reads the data files of a table: plainly where all of them are as the table is now, by field ids elsewhere.

Both give the same rows. But where `read_parquet` is given a `schema`, DuckDB looks into no file before it plans, takes every
table for one of a single row, and joins in whatever order; over many rows that costs many times the query.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lakeflow.errors import SchemaMismatch
from lakeflow.sql.relations import ParquetRelation, duckdb_type, literal, parquet_view, pattern_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LAYOUTS: Final = """
SELECT any_value(file_name), identified, columns
FROM (
  SELECT
    file_name,
    count(field_id) AS identified,
    list([CAST(field_id AS VARCHAR), name, duckdb_type] ORDER BY column_id) FILTER (column_id > 0) AS columns
  FROM parquet_schema($1)
  GROUP BY file_name
)
GROUP BY ALL
ORDER BY identified
LIMIT 2
"""
"""The two layouts with the fewest field ids among some files: one file, how many ids, and id, name and type of each column."""


def parquet_body(connection: DuckDBPyConnection, table: str, relation: ParquetRelation) -> str:
    """The SELECT that reads the table's files. Looks into the footer of each, about 30 us a file, warm.

    Raises SchemaMismatch where a file carries no field ids, since it would read as nothing but nulls.
    """
    if not relation.files:
        return parquet_view(relation)
    patterns = [pattern_of(file) for file in relation.files]
    layouts = connection.execute(LAYOUTS, [patterns]).fetchall()
    file, identified, columns = layouts[0]
    if not identified:
        raise SchemaMismatch(
            f"table {table!r}: the data file {file} carries no field ids, so its columns cannot be told by them"
        )
    expected = [[str(column.field_id), column.name, _compact(duckdb_type(column.type))] for column in relation.columns]
    found = [[number, name, _compact(kind or "")] for number, name, kind in columns or []]
    if len(layouts) > 1 or found != expected:
        return parquet_view(relation)
    return f"SELECT * FROM read_parquet([{', '.join(map(literal, patterns))}], hive_partitioning = false)"


def _compact(kind: str) -> str:
    return kind.replace(", ", ",")
