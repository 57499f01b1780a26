"""What a query reads: the tables as frozen values, and how DuckDB is told of them.

A `ParquetRelation` is a table as the data files that its scan planned. Columns are found by Iceberg's field ids at every
depth, so that files from before a rename, a widening, a drop or a re-adding read right. An `ArrowRelation` is a table as
a stream of batches: for tables with deletes, files without field ids, and storage that DuckDB does not reach.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, assert_never

import pyarrow as pa

from lakeflow.errors import LakeflowError, SchemaMismatch

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

FIELD_ID: Final = b"PARQUET:field_id"
"""The key under which Arrow carries a Parquet field id."""


class ParquetColumn(NamedTuple):
    """A column of a table. Fields within a nested `type` carry their own field ids in their metadata."""

    field_id: int
    name: str
    type: pa.DataType


@dataclass(frozen=True, slots=True)
class ParquetRelation:
    """A table as its live data files (local paths or file:// URIs) and its current columns. No files: an empty table."""

    files: tuple[str, ...]
    columns: tuple[ParquetColumn, ...]

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(column.name for column in self.columns)


@dataclass(frozen=True, slots=True)
class ArrowRelation:
    """A table as a stream. `reader` is called once for every time that the query reads the table, from any thread;
    each call starts at the first row. Its batches have `schema`."""

    schema: pa.Schema
    reader: Callable[[], pa.RecordBatchReader]

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(self.schema.names)


Plain = ParquetRelation | ArrowRelation

VALID_FROM: Final = "lakeflow valid from"
VALID_UNTIL: Final = "lakeflow valid until"
"""The columns by which versions of rows are told apart: instants, of which the second is past the row's own time."""


@dataclass(frozen=True, slots=True)
class Version:
    """Rows that a table held from `since` until before `until`, in microseconds since the epoch. None: still."""

    rows: Plain
    since: int
    until: int | None


@dataclass(frozen=True, slots=True)
class VersionedRelation:
    """A table as it was at any time: its rows with VALID_FROM and VALID_UNTIL. There is one version at the least."""

    versions: tuple[Version, ...]

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names of the table's own columns, in order."""
        return self.versions[0].rows.column_names


@dataclass(frozen=True, slots=True)
class ValidityRelation:
    """A table whose own columns say from when and until when a row is valid, with VALID_FROM and VALID_UNTIL beside them.

    Without `valid_until` a row is valid until the next one of the same `key` is.
    """

    rows: Plain
    valid_from: str
    valid_until: str | None = None
    key: tuple[str, ...] = ()

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names of the table's own columns, in order."""
        return self.rows.column_names


@dataclass(frozen=True, slots=True)
class RangedRelation:
    """The rows of a table whose `column` is a moment from `low` on and before `high`, in microseconds since the epoch.

    Row groups of files without such a moment are not read. None: without a bound there. `column` is a TIMESTAMP with a time
    zone where it `has_zone`, else one that counts as UTC.
    """

    rows: Plain
    column: str
    low: int | None
    high: int | None
    has_zone: bool

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return self.rows.column_names


Relation = Plain | VersionedRelation | ValidityRelation | RangedRelation


def plain_parts(relation: Relation) -> tuple[Plain, ...]:
    """What is read of a relation, each by a SELECT of its own."""
    match relation:
        case ParquetRelation() | ArrowRelation():
            return (relation,)
        case VersionedRelation(versions):
            return tuple(version.rows for version in versions)
        case ValidityRelation(rows) | RangedRelation(rows):
            return (rows,)
        case _:
            assert_never(relation)


def whole(relation: Relation, selects: Sequence[str]) -> str:
    """The SELECT of a relation, from those of its parts."""
    match relation:
        case ParquetRelation() | ArrowRelation():
            return selects[0]
        case VersionedRelation(versions):
            since, until = name_text(VALID_FROM), name_text(VALID_UNTIL)
            return " UNION ALL ".join(
                f"SELECT *, {_instant(one.since)} AS {since}, {_instant(one.until)} AS {until} FROM ({select})"
                for one, select in zip(versions, selects, strict=True)
            )
        case ValidityRelation():
            return f"SELECT *, {_validity(relation)} FROM ({selects[0]})"
        case RangedRelation():
            return f"SELECT * FROM ({selects[0]}) WHERE {_ranged(relation)}"
        case _:
            assert_never(relation)


def _instant(microseconds: int | None) -> str:
    if microseconds is None:
        return "TIMESTAMPTZ 'infinity'"
    return f"TIMESTAMPTZ '{(EPOCH + timedelta(microseconds=microseconds)).isoformat()}'"


def _ranged(relation: RangedRelation) -> str:
    """The condition, which DuckDB holds against the statistics of row groups: constants alone does it so."""
    column, made = name_text(relation.column), "TIMESTAMPTZ" if relation.has_zone else "TIMESTAMP"
    bounds = ((">=", relation.low, "-infinity"), ("<", relation.high, "infinity"))
    return " AND ".join(f"{column} {sign} {made} {literal(_moment(bound, far))}" for sign, bound, far in bounds)


def _moment(microseconds: int | None, far: str) -> str:
    """A moment as DuckDB reads it; `far` where there is none, or one that Python has no name for."""
    try:
        return far if microseconds is None else (EPOCH + timedelta(microseconds=microseconds)).isoformat(sep=" ")
    except OverflowError:
        return far


def _validity(relation: ValidityRelation) -> str:
    since = f"CAST({name_text(relation.valid_from)} AS TIMESTAMPTZ)"
    if relation.valid_until is not None:
        until = f"CAST({name_text(relation.valid_until)} AS TIMESTAMPTZ)"
    else:
        key = ", ".join(map(name_text, relation.key))
        until = f"lead({since}) OVER (PARTITION BY {key} ORDER BY {since})"
    return (
        f"COALESCE({since}, TIMESTAMPTZ '-infinity') AS {name_text(VALID_FROM)}, "
        f"COALESCE({until}, TIMESTAMPTZ 'infinity') AS {name_text(VALID_UNTIL)}"
    )


def parquet_columns(schema: pa.Schema) -> tuple[ParquetColumn, ...]:
    """The columns of an Arrow schema whose fields carry Parquet field ids in their metadata, as PyIceberg makes it.

    Raises SchemaMismatch where a column carries none.
    """
    return tuple(ParquetColumn(field_id_of(field), field.name, field.type) for field in schema)


def field_id_of(field: pa.Field) -> int:
    """The Parquet field id of an Arrow field. Raises SchemaMismatch where it carries none."""
    found = (field.metadata or {}).get(FIELD_ID)
    if found is None:
        raise SchemaMismatch(f"field {field.name!r} carries no Parquet field id ({FIELD_ID.decode()} in its metadata)")
    return int(found)


def parquet_fits(files: tuple[str, ...], columns: tuple[ParquetColumn, ...]) -> bool:
    """Whether a table can be read as a ParquetRelation: the files are local, every type is one that DuckDB knows and
    every nested field has a field id. That the table has no deletes, and that its files carry field ids, is the
    caller's to know; `run_query` refuses files without any.
    """
    try:
        schema_text(columns)
    except SchemaMismatch:
        return False
    return bool(columns) and all("://" not in local_path(file) for file in files)


def local_path(file: str) -> str:
    """The path of a file:// URI; anything else as it is."""
    if not file.startswith("file:"):
        return file
    return "/" + file.removeprefix("file:").lstrip("/")


def pattern_of(file: str) -> str:
    """The path as DuckDB's readers take it, which is a pattern: what would match more than itself is put in brackets."""
    return re.sub(r"[\[*?]", r"[\g<0>]", local_path(file))


SIMPLE: Final[dict[pa.DataType, str]] = {
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
    pa.large_string(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.large_binary(): "BLOB",
    pa.date32(): "DATE",
    pa.time64("us"): "TIME",
    pa.timestamp("us"): "TIMESTAMP",
    pa.timestamp("us", tz="UTC"): "TIMESTAMP WITH TIME ZONE",
    pa.timestamp("ns"): "TIMESTAMP_NS",
    pa.uuid(): "UUID",
}


def duckdb_type(arrow: pa.DataType) -> str:
    """The DuckDB type that an Arrow type is read as. Raises SchemaMismatch where there is none."""
    if arrow in SIMPLE:
        return SIMPLE[arrow]
    if pa.types.is_decimal128(arrow):
        return f"DECIMAL({arrow.precision}, {arrow.scale})"
    if pa.types.is_fixed_size_binary(arrow):
        return "BLOB"
    if pa.types.is_list(arrow) or pa.types.is_large_list(arrow):
        return f"{duckdb_type(arrow.value_type)}[]"
    if pa.types.is_map(arrow):
        return f"MAP({duckdb_type(arrow.key_type)}, {duckdb_type(arrow.item_type)})"
    if pa.types.is_struct(arrow) and arrow.num_fields:
        return f"STRUCT({', '.join(f'{name_text(field.name)} {duckdb_type(field.type)}' for field in arrow)})"
    raise SchemaMismatch(f"the Arrow type {arrow} cannot be read by a query")


def name_text(name: str) -> str:
    """A name as DuckDB reads it, always quoted."""
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def literal(text: str) -> str:
    """A string as DuckDB reads it."""
    escaped = text.replace("'", "''")
    return f"'{escaped}'"


def schema_text(columns: tuple[ParquetColumn, ...]) -> str:
    """The value of read_parquet's `schema`: MAP{field id: {name, type, default_value, children}}, nested as the types are.

    Raises SchemaMismatch for a type that cannot be read and for a nested field without an id.
    """
    return _definitions([(column.field_id, column.name, column.type) for column in columns])


def _definitions(fields: list[tuple[int, str, pa.DataType]]) -> str:
    definitions = (
        f"{number}: {{name: {literal(name)}, type: {literal(duckdb_type(arrow))}, "
        f"default_value: NULL, children: {_children(arrow)}}}"
        for number, name, arrow in fields
    )
    return f"MAP {{{', '.join(definitions)}}}"


def _children(arrow: pa.DataType) -> str:
    if pa.types.is_struct(arrow):
        return _definitions([(field_id_of(field), field.name, field.type) for field in arrow])
    if pa.types.is_list(arrow) or pa.types.is_large_list(arrow):
        return _definitions([(field_id_of(arrow.value_field), "element", arrow.value_type)])
    if pa.types.is_map(arrow):
        key, value = arrow.key_field, arrow.item_field
        return _definitions([(field_id_of(key), "key", key.type), (field_id_of(value), "value", value.type)])
    return "NULL"


def parquet_view(relation: ParquetRelation) -> str:
    """The SELECT that reads the table's files. Raises SchemaMismatch as `schema_text` does."""
    if not relation.files:
        nulls = (f"CAST(NULL AS {duckdb_type(column.type)}) AS {name_text(column.name)}" for column in relation.columns)
        return f"SELECT {', '.join(nulls)} WHERE false"
    files = ", ".join(literal(pattern_of(file)) for file in relation.files)
    return f"SELECT * FROM read_parquet([{files}], schema = {schema_text(relation.columns)})"


class StreamSource:
    """An ArrowRelation as DuckDB scans it, through the Arrow PyCapsule interface.

    `failures` keeps the errors of the tree that the reader raised, which DuckDB turns into text on their way through.
    """

    def __init__(self, relation: ArrowRelation) -> None:
        self._relation = relation
        self.failures: list[LakeflowError] = []

    def __arrow_c_schema__(self) -> object:
        """The declared schema, so that no stream is opened to learn it."""
        return self._relation.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """A stream from the first row."""
        batches = pa.RecordBatchReader.from_batches(self._relation.schema, self._batches())
        return batches.__arrow_c_stream__()

    def _batches(self) -> Iterator[pa.RecordBatch]:
        try:
            reader = self._relation.reader()
            if not reader.schema.equals(self._relation.schema):
                raise SchemaMismatch(f"the stream's schema is\n{reader.schema}\nand not, as declared,\n{self._relation.schema}")
            yield from reader
        except LakeflowError as error:
            self.failures.append(error)
            raise
