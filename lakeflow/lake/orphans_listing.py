"""Every file under a location, a folder at a time, on whatever storage the table's FileIO reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlparse

from pyarrow.fs import FileSelector, FileSystem, FileType
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import PyArrowFileIO

from lakeflow.errors import UsageError


@dataclass(frozen=True, slots=True)
class Stored:
    """A file: its place below the location that was listed, its bytes, and when it was last written."""

    below: str
    bytes: int
    written: datetime


def stored_under(io: FileIO, location: str) -> Iterator[Stored]:
    """The files of `location` and the folders in it; memory holds the listing of one folder and the names of those to come.

    Raises UsageError for a FileIO that cannot list, and what the storage raises.
    """
    if isinstance(io, PyArrowFileIO):
        scheme, netloc, path = PyArrowFileIO.parse_location(location, io.properties)
        yield from _listed_by_pyarrow(io.fs_by_scheme(scheme, netloc), path.rstrip("/"))
        return
    if (get_fs := getattr(io, "get_fs", None)) is None:
        raise UsageError(
            f"{location} cannot be listed by {type(io).__name__}; valid: PyArrowFileIO, FsspecFileIO",
            next_step="lakeflow maintain without --orphans, or set py-io-impl under [catalog]",
        )
    yield from _listed_by_fsspec(get_fs(urlparse(location).scheme or "file"), location.rstrip("/"))


def _listed_by_pyarrow(files: FileSystem, root: str) -> Iterator[Stored]:
    folders = [root]
    while folders:
        for found in files.get_file_info(FileSelector(folders.pop(), allow_not_found=True)):
            if found.type == FileType.Directory:
                folders.append(found.path)
            elif found.type == FileType.File:
                yield Stored(found.path.removeprefix(f"{root}/"), found.size, found.mtime.astimezone(UTC))


def _listed_by_fsspec(files: object, location: str) -> Iterator[Stored]:
    root = str(files._strip_protocol(location)).rstrip("/")  # type: ignore[attr-defined]  # fsspec has no types
    for folder, _, inside in files.walk(root, detail=True):  # type: ignore[attr-defined]
        for name, facts in inside.items():
            below = f"{folder}/{name}".removeprefix(f"{root}/")
            yield Stored(below, int(facts.get("size") or 0), _written(facts))


def _written(facts: dict[str, object]) -> datetime:
    """When a file was last written; now where the storage does not say, so that it is never taken for an old one."""
    for key in ("LastModified", "mtime", "last_modified", "updated"):
        match facts.get(key):
            case datetime() as moment:
                return moment.astimezone(UTC)
            case int() | float() as seconds:
                return datetime.fromtimestamp(seconds, UTC)
            case str() as text:
                return datetime.fromisoformat(text).astimezone(UTC)
            case _:
                continue
    return datetime.now(UTC)
