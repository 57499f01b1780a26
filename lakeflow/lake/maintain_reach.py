"""Which files a table's metadata names, by following it: metadata file, snapshots, manifest lists, manifests, files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field

from pyiceberg.io import FileIO
from pyiceberg.manifest import ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from lakeflow.lake.orphans_paths import is_under, normal


@dataclass(slots=True)
class OnlyThere:
    """What only some snapshots name: data and delete files, manifests, and the files beside them. Paths as they are written."""

    data: set[str] = field(default_factory=set)
    manifests: set[str] = field(default_factory=set)
    beside: set[str] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.data) + len(self.manifests) + len(self.beside)


def manifests_of(io: FileIO, snapshots: Iterable[Snapshot]) -> dict[str, ManifestFile]:
    """The manifests of the snapshots by path, those that several share once."""
    return {manifest.manifest_path: manifest for snapshot in snapshots for manifest in snapshot.manifests(io)}


def only_in(table: Table, gone: Iterable[Snapshot], kept: Iterable[Snapshot]) -> OnlyThere:
    """What the `gone` snapshots of a table name and the `kept` ones do not.

    Memory holds the paths of the files that the gone snapshots' own manifests name, and a manifest at a time. Manifests of a
    gone snapshot that are no longer there name nothing.
    """
    gone, kept = list(gone), list(kept)
    still = manifests_of(table.io, kept)
    lost: dict[str, ManifestFile] = {}
    for snapshot in gone:
        try:
            lost |= {path: one for path, one in manifests_of(table.io, [snapshot]).items() if path not in still}
        except FileNotFoundError:
            continue
    found = OnlyThere(manifests=set(lost))
    for manifest in lost.values():
        try:
            found.data.update(entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io, False))
        except FileNotFoundError:
            continue
    if found.data:
        for manifest in still.values():
            found.data.difference_update(entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io))
    numbers = {snapshot.snapshot_id for snapshot in gone}
    found.beside = {snapshot.manifest_list for snapshot in gone} | set(_statistics(table.metadata, numbers))
    found.beside -= {snapshot.manifest_list for snapshot in kept} | set(_statistics(table.metadata, None, numbers))
    return found


def reached(table: Table) -> Iterator[str]:
    """Every file that the table's metadata names, a manifest at a time; some of them several times."""
    metadata = table.metadata
    yield table.metadata_location
    yield from (entry.metadata_file for entry in metadata.metadata_log)
    yield from (snapshot.manifest_list for snapshot in metadata.snapshots)
    yield from _statistics(metadata, None)
    for path, manifest in manifests_of(table.io, metadata.snapshots).items():
        yield path
        for entry in manifest.fetch_manifest_entry(table.io):
            yield entry.data_file.file_path


def _statistics(metadata: TableMetadata, of: Set[int] | None, but: Set[int] = frozenset()) -> Iterator[str]:
    for one in (*metadata.statistics, *metadata.partition_statistics):
        if (of is None or one.snapshot_id in of) and one.snapshot_id not in but:
            yield one.statistics_path


def own_folders(table: Table) -> tuple[str, ...]:
    """Where a table's files may be: its location, and where its properties send data and metadata. Normal locations."""
    named = (table.properties.get(key) for key in ("write.data.path", "write.metadata.path"))
    return tuple(normal(folder) for folder in (table.location(), *named) if folder)


def is_own(path: str, folders: Iterable[str]) -> bool:
    """Whether a file lies in one of the table's own folders: others belong to whoever put them there."""
    return any(is_under(normal(path), folder) for folder in folders)
