"""What was read of Iceberg's files before, and need not be read again: such a file never changes once it is written.

The SQL catalogs keep where a table's metadata is. `KnowingSqlCatalog` asks for that every time, so that a table is always as
it is now, and reads the file only where it is another one. PyIceberg also makes a reader for each manifest anew, from the
schema that the manifest carries, which takes longer than to read a small one; `remember_readers` keeps those.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import lru_cache
from threading import Lock
from typing import Any, Final

import pyarrow as pa
from pyiceberg.avro import file as avro_file
from pyiceberg.avro.reader import Reader
from pyiceberg.avro.resolver import construct_reader, resolve_reader
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import IcebergTables, SqlCatalog
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.schema import Schema
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import TableRequirement, TableUpdate
from pyiceberg.typedef import EMPTY_DICT, Identifier
from pyiceberg.utils.schema_conversion import AvroSchemaConversion
from sqlalchemy import bindparam, select

MOST_TABLES: Final = 64
"""Whose metadata is kept,"""
MOST_SNAPSHOTS: Final = 20_000
"""and of how many snapshots in all, since each takes some KiB; that of the table at hand whatever it holds."""
MOST_READERS: Final = 128
MOST_SCHEMAS: Final = 16
"""As Arrow: of the tables that a run has at hand. Each commit brings metadata with a schema of its own."""
LOCATION: Final = select(IcebergTables.metadata_location).where(
    IcebergTables.catalog_name == bindparam("catalog"),
    IcebergTables.table_namespace == bindparam("namespace"),
    IcebergTables.table_name == bindparam("name"),
)
"""Where a table's metadata is; made once, since to put the statement together takes longer than to ask."""
AVRO_SCHEMA: Final = "avro.schema"
"""The key under which an Avro file carries its schema, as JSON."""


class KnowingSqlCatalog(SqlCatalog):
    """Iceberg's SQL catalog; of a table whose metadata is still where it was, the file is not read again. Safe in threads."""

    def __init__(self, name: str, **properties: str) -> None:
        super().__init__(name, **properties)
        self._known: OrderedDict[Identifier, Table] = OrderedDict()
        self._known_lock = Lock()

    def load_table(self, identifier: str | Identifier) -> Table:
        """The table as it is now; of whoever asks, his own. Raises NoSuchTableError."""
        place = Catalog.identifier_to_tuple(identifier)
        with self._known_lock:
            known = self._known.get(place)
            if known is not None:
                self._known.move_to_end(place)
        if known is None or known.metadata_location != self._location(place):
            known = super().load_table(identifier)
            self._keep(place, known)
        return Table(known.name(), known.metadata, known.metadata_location, known.io, self)

    def commit_table(
        self, table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
    ) -> CommitTableResponse:
        """As PyIceberg's. What it has written is known then, where it left the settings of the table's storage as they were."""
        answer = super().commit_table(table, requirements, updates)
        if _settings(answer.metadata) == _settings(table.metadata):
            place = Catalog.identifier_to_tuple(table.name())
            self._keep(place, Table(place, answer.metadata, answer.metadata_location, table.io, self))
        return answer

    def _keep(self, place: Identifier, table: Table) -> None:
        with self._known_lock:
            self._known[place] = table
            self._known.move_to_end(place)
            while len(self._known) > 1 and (len(self._known) > MOST_TABLES or self._snapshots() > MOST_SNAPSHOTS):
                self._known.popitem(last=False)

    def _snapshots(self) -> int:
        return sum(len(table.metadata.snapshots) for table in self._known.values())

    def _location(self, place: Identifier) -> str | None:
        """Where the metadata of a table is by now; None where there is no such table."""
        namespace = Catalog.namespace_to_string(Catalog.namespace_from(place))
        with self.engine.connect() as connection:
            name = Catalog.table_name_from(place)
            return connection.scalar(LOCATION, {"catalog": self.name, "namespace": namespace, "name": name})


def _settings(metadata: TableMetadata) -> dict[str, str]:
    """The properties of a table that are not lakeflow's own."""
    return {name: value for name, value in metadata.properties.items() if not name.startswith("lakeflow.")}


class _Same:
    """A value that is equal to itself alone: schemas have no hash, and to compare them takes as long as to make a reader."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


@lru_cache(MOST_SCHEMAS)
def _arrow_of(schema: _Same) -> pa.Schema:
    return schema_to_pyarrow(schema.value)


def arrow_of(schema: Schema) -> pa.Schema:
    """A schema of Iceberg as Arrow, with field ids in the metadata."""
    return _arrow_of(_Same(schema))


Kinds = Mapping[int, Callable[..., Any]]
Given = frozenset[tuple[int, Callable[..., Any]]]


@lru_cache(MOST_READERS)
def _schema_of(text: str) -> Schema:
    return AvroSchemaConversion().avro_to_iceberg(json.loads(text))


@lru_cache(MOST_READERS)
def _resolved(file: _Same, read: _Same, types: Given, enums: Given) -> Reader:
    return resolve_reader(file.value, read.value, dict(types), dict(enums))


@lru_cache(MOST_READERS)
def _constructed(file: _Same, types: Given) -> Reader:
    return construct_reader(file.value, dict(types))


def _read_by(file: Schema, read: Schema, types: Kinds = EMPTY_DICT, enums: Kinds = EMPTY_DICT) -> Reader:
    return _resolved(_Same(file), _Same(read), frozenset(types.items()), frozenset(enums.items()))


def _made_for(file: Schema, types: Kinds = EMPTY_DICT) -> Reader:
    return _constructed(_Same(file), frozenset(types.items()))


_schema_in_header = avro_file.AvroFileHeader.get_schema


def _schema_in(header: avro_file.AvroFileHeader) -> Schema:
    text = header.meta.get(AVRO_SCHEMA)
    return _schema_in_header(header) if text is None else _schema_of(text)


def remember_readers() -> None:
    """Have PyIceberg read an Avro file by the reader of one before it with the same schema. Readers have no state."""
    avro_file.AvroFileHeader.get_schema = _schema_in  # type: ignore[method-assign, assignment]
    avro_file.resolve_reader = _read_by  # type: ignore[assignment, attr-defined]
    avro_file.construct_reader = _made_for  # type: ignore[assignment, attr-defined]
