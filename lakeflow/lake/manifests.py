"""What the manifests of a snapshot tell beside its live files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyiceberg.manifest import DataFile, ManifestContent, ManifestEntryStatus
from pyiceberg.table import Table, TableProperties
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot


@dataclass(frozen=True, slots=True)
class LiveFile:
    """A data file of a snapshot, with the sequence number of the commit that added it."""

    sequence: int
    data_file: DataFile
    deletes: tuple[DataFile, ...] = ()


def files_exchanged(table: Table, snapshot: Snapshot) -> Iterator[LiveFile]:
    """The data files that the commit of `snapshot` itself added or removed."""
    for manifest in snapshot.manifests(table.io):
        if manifest.content != ManifestContent.DATA or manifest.added_snapshot_id != snapshot.snapshot_id:
            continue
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False):
            if entry.snapshot_id == snapshot.snapshot_id and entry.status != ManifestEntryStatus.EXISTING:
                yield LiveFile(entry.sequence_number or 0, entry.data_file)


def deletes_since(table: Table, snapshot: Snapshot, sequence: int) -> bool:
    """Whether delete files came to the snapshot after the commit `sequence`."""
    deletes = (one for one in snapshot.manifests(table.io) if one.content == ManifestContent.DELETES)
    return any(one.sequence_number > sequence for one in deletes)


def manifest_bytes(metadata: TableMetadata) -> int:
    """The size that manifests of the table are merged to."""
    default = TableProperties.MANIFEST_TARGET_SIZE_BYTES_DEFAULT
    return int(metadata.properties.get(TableProperties.MANIFEST_TARGET_SIZE_BYTES, default))


def small_manifests(table: Table, snapshot: Snapshot) -> int:
    """Manifests of data files that are less than half of the size which they are merged to."""
    half = manifest_bytes(table.metadata) // 2
    return sum(one.content == ManifestContent.DATA and one.manifest_length < half for one in snapshot.manifests(table.io))
