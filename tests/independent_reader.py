"""Iceberg tables read from the specification (format version 2), for tests of what wrote them.

It shares no code with lakeflow or PyIceberg: the SQL catalog by sqlite3, metadata as JSON, manifest lists and manifests
as Avro by fastavro, data files as Parquet by PyArrow. Tables with delete files are refused rather than read wrong.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq


class Status(IntEnum):
    """What a manifest says of a file (specification: manifest_entry, field 0)."""

    EXISTING = 0
    ADDED = 1
    DELETED = 2


class Unreadable(Exception):
    """The files of a table contradict the specification, or need more than this reader can do."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot as the metadata tells it; `summary` is without the operation."""

    snapshot_id: int
    parent_id: int | None
    sequence: int
    operation: str
    manifest_list: Path
    summary: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A data file that a snapshot holds: the sequence number of the commit that added it, its rows and bytes."""

    path: Path
    sequence: int
    rows: int
    size: int


@dataclass(frozen=True)
class StoredTable:
    """One version of a table: the metadata file at `path`, as it was when it was read."""

    name: str
    path: Path
    metadata: Mapping[str, Any]

    @property
    def properties(self) -> Mapping[str, str]:
        return dict(self.metadata.get("properties", {}))

    @cached_property
    def snapshots(self) -> tuple[Snapshot, ...]:
        """Every snapshot that is kept, oldest first."""
        found = [_snapshot(entry) for entry in self.metadata.get("snapshots", [])]
        return tuple(sorted(found, key=lambda snapshot: snapshot.sequence))

    @property
    def head(self) -> Snapshot | None:
        """The snapshot that main stands at; None for a table without any."""
        current = self.metadata.get("current-snapshot-id")
        by_id = {snapshot.snapshot_id: snapshot for snapshot in self.snapshots}
        return None if current in (None, -1) else by_id[current]

    @property
    def columns(self) -> Mapping[int, str]:
        """Field ids and names of the current schema's columns, in order."""
        current = self.metadata["current-schema-id"]
        schema = next(schema for schema in self.metadata["schemas"] if schema["schema-id"] == current)
        return {field["id"]: field["name"] for field in schema["fields"]}

    def files(self, snapshot: Snapshot | None = None) -> tuple[StoredFile, ...]:
        """The data files of a snapshot, of main's head without one, in the order of (sequence number, path)."""
        snapshot = snapshot or self.head
        if snapshot is None:
            return ()
        live = (
            _stored_file(entry, manifest)
            for manifest in self._manifests(snapshot)
            for entry in _avro(local_path(manifest["manifest_path"]))
            if entry["status"] != Status.DELETED
        )
        return tuple(sorted(live, key=lambda file: (file.sequence, file.path)))

    def rows(self) -> pa.Table:
        """The rows of main's head, columns by field id, in the order of `files`.

        Raises Unreadable where a file's rows or bytes are not what its manifest entry says, or a file is there twice.
        """
        files = self.files()
        if repeated := [str(path) for path, times in Counter(file.path for file in files).items() if times > 1]:
            raise Unreadable(f"table {self.name} holds data files twice: {repeated}")
        if not files:
            return pa.table({name: pa.array([], pa.null()) for name in self.columns.values()})
        return pa.concat_tables([self._rows_of(file) for file in files])

    def referenced(self) -> set[Path]:
        """Every file that the metadata leads to: metadata files, manifest lists, manifests, data files of any snapshot."""
        found = {self.path} | {local_path(entry["metadata-file"]) for entry in self.metadata.get("metadata-log", [])}
        for snapshot in self.snapshots:
            found.add(snapshot.manifest_list)
            found.update(local_path(manifest["manifest_path"]) for manifest in self._manifests(snapshot))
            found.update(file.path for file in self.files(snapshot))
        return found

    def _manifests(self, snapshot: Snapshot) -> Iterator[Mapping[str, Any]]:
        for manifest in _avro(snapshot.manifest_list):
            if manifest["content"] != 0:
                raise Unreadable(f"table {self.name} has delete files in snapshot {snapshot.snapshot_id}")
            yield manifest

    def _rows_of(self, file: StoredFile) -> pa.Table:
        if (size := file.path.stat().st_size) != file.size:
            raise Unreadable(f"{file.path} has {size} bytes, its manifest entry says {file.size}")
        with pq.ParquetFile(file.path) as parquet:
            rows = parquet.read()
        if rows.num_rows != file.rows:
            raise Unreadable(f"{file.path} has {rows.num_rows} rows, its manifest entry says {file.rows}")
        places = {int((field.metadata or {})[b"PARQUET:field_id"]): at for at, field in enumerate(rows.schema)}
        if missing := [name for field_id, name in self.columns.items() if field_id not in places]:
            raise Unreadable(f"{file.path} lacks the columns {missing}")
        chosen = rows.select([places[field_id] for field_id in self.columns])
        return chosen.rename_columns(list(self.columns.values())).replace_schema_metadata()


def locations(catalog_file: Path, *, timeout: float = 30.0) -> dict[str, Path]:
    """`namespace.table` -> metadata file, of every table in a SQL catalog. Waits `timeout` seconds for a lock."""
    with closing(sqlite3.connect(catalog_file, timeout=timeout)) as catalog:
        rows = catalog.execute("SELECT table_namespace, table_name, metadata_location FROM iceberg_tables").fetchall()
    return {f"{namespace}.{name}": local_path(location) for namespace, name, location in rows}


def read_table(catalog_file: Path, name: str) -> StoredTable:
    """The table as it is now. Raises KeyError where the catalog has none of that name."""
    return stored_table(name, locations(catalog_file)[name])


def stored_table(name: str, metadata_file: Path) -> StoredTable:
    """The table as one metadata file tells it."""
    metadata = json.loads(metadata_file.read_bytes())
    if metadata["format-version"] != 2:
        raise Unreadable(f"{metadata_file} is of format version {metadata['format-version']}; this reader knows 2")
    return StoredTable(name, metadata_file, metadata)


def unreferenced(catalog_file: Path, warehouse: Path) -> set[Path]:
    """Files in the warehouse that no snapshot of any table leads to: left by writers that died, of no harm to readers."""
    led_to: set[Path] = set()
    for name, location in locations(catalog_file).items():
        led_to |= stored_table(name, location).referenced()
    return {path for path in warehouse.rglob("*") if path.is_file()} - led_to


def multiset(rows: pa.Table) -> Counter[Hashable]:
    """How often each row is there, columns in their order; equal for equal values, nested ones too, NaN included."""
    return Counter(map(frozen, zip(*(column.to_pylist() for column in rows.columns), strict=True)))


def frozen(value: Any) -> Hashable:
    """A value as a hashable one that is equal where the values are."""
    match value:
        case dict():
            return tuple((name, frozen(inner)) for name, inner in value.items())
        case list() | tuple():
            return tuple(map(frozen, value))
        case float() if value != value:
            return "NaN"
        case _:
            return value  # type: ignore[no-any-return]


def local_path(location: str) -> Path:
    """The path of a `file:` location or of a plain path. Iceberg's locations are taken as written: %2F in one is no slash."""
    parsed = urlparse(location)
    if parsed.scheme not in ("", "file"):
        raise Unreadable(f"{location} is not in the local file system")
    return Path(parsed.path if parsed.scheme else location)


def _snapshot(entry: Mapping[str, Any]) -> Snapshot:
    summary = dict(entry["summary"])
    operation = summary.pop("operation")
    return Snapshot(
        entry["snapshot-id"],
        entry.get("parent-snapshot-id"),
        entry["sequence-number"],
        operation,
        local_path(entry["manifest-list"]),
        summary,
    )


def _stored_file(entry: Mapping[str, Any], manifest: Mapping[str, Any]) -> StoredFile:
    """A live entry. One that was added with its manifest takes the manifest's sequence number (specification: inheritance)."""
    file = entry["data_file"]
    if file["content"] != 0:
        raise Unreadable(f"{file['file_path']} is a delete file")
    sequence = entry["sequence_number"]
    if sequence is None:
        if entry["status"] != Status.ADDED:
            raise Unreadable(f"{file['file_path']} has no sequence number and was not added by its manifest")
        sequence = manifest["sequence_number"]
    return StoredFile(local_path(file["file_path"]), sequence, file["record_count"], file["file_size_in_bytes"])


def _avro(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for record in fastavro.reader(file):
            assert isinstance(record, dict)
            yield record
