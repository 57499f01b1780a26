"""Sees what a process is doing from outside: by inotify when to strike, by the files it has left what it was hit in."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatch
from pathlib import Path
from types import TracebackType

CLOSE_WRITE = 0x8
MOVED_TO = 0x80
CREATE = 0x100
DELETE = 0x200
WATCHED = CLOSE_WRITE | MOVED_TO | CREATE | DELETE
_EVENT = struct.Struct("iIII")
_BUFFER = 1 << 16


@dataclass(frozen=True, slots=True)
class Sign:
    """A file of this name was created, closed after writing, moved there, or deleted."""

    mask: int
    pattern: str


METADATA_WRITTEN = Sign(CLOSE_WRITE, "*.metadata.json")
AIMS: Mapping[str, tuple[Sign, ...]] = {
    "as a data file is begun": (Sign(CREATE, "*.parquet"),),
    "as a data file is written": (Sign(CLOSE_WRITE, "*.parquet"),),
    "as a manifest is written": (Sign(CLOSE_WRITE, "*-m*.avro"),),
    "as a manifest list is written": (Sign(CLOSE_WRITE, "snap-*.avro"),),
    "as metadata is written": (METADATA_WRITTEN,),
    "as the catalog's transaction begins": (METADATA_WRITTEN, Sign(CREATE, "catalog.db-journal")),
    "as the catalog's transaction ends": (METADATA_WRITTEN, Sign(DELETE, "catalog.db-journal")),
}
"""Moments around a commit, as the signs to wait for one after the other. (SQLite's journal lives as long as a write.)"""


class FolderWatch:
    """inotify on folders. Each thread that strikes has one of its own."""

    def __init__(self, folders: Iterable[Path]) -> None:
        self._library = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        for folder in folders:
            added = self._library.inotify_add_watch(self._descriptor, os.fsencode(folder), WATCHED)
            if self._descriptor < 0 or added < 0:
                raise OSError(ctypes.get_errno(), f"inotify does not watch {folder}")

    def __enter__(self) -> FolderWatch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._descriptor)

    def wait(self, signs: Iterable[Sign], seconds: float, given_up: Callable[[], bool] = lambda: False) -> bool:
        """Wait until the signs have come one after the other; no longer than `seconds` or `given_up()`. Whether they have.

        Counted are those since the watch was made, or since `forget`.
        """
        end = time.monotonic() + seconds
        waiting = list(signs)
        while waiting and time.monotonic() < end and not given_up():
            select.select([self._descriptor], [], [], 0.02)
            for mask, name in self._events():
                if waiting and mask & waiting[0].mask and fnmatch(name, waiting[0].pattern):
                    waiting.pop(0)
        return not waiting

    def forget(self) -> None:
        """Leave all signs that have come so far."""
        for _ in self._events():
            pass

    def _events(self) -> Iterator[tuple[int, str]]:
        while True:
            try:
                block = os.read(self._descriptor, _BUFFER)
            except BlockingIOError:
                return
            at = 0
            while at < len(block):
                _, mask, _, length = _EVENT.unpack_from(block, at)
                at += _EVENT.size
                yield mask, os.fsdecode(block[at : at + length].rstrip(b"\0"))
                at += length


class Phase(StrEnum):
    """What a process was doing when it was hit, by what it left. With a rival on the same tables it may be the rival's."""

    STARTING = "starting"
    BETWEEN = "between commits"
    DATA = "data files written, no manifest"
    MANIFESTS = "manifests written, no metadata"
    METADATA = "metadata written, catalog not swapped"
    LOCKED = "inside the catalog's transaction"
    LETTERS = "dead letters landed, rows not"
    SWAPPED = "catalog swapped less than 50 ms ago"
    RECORDING = "recording the run"


JUST_NOW = 0.05


@dataclass(frozen=True, slots=True)
class Traces:
    """The newest times (seconds since the epoch) of what a table's folders hold beyond its last commit."""

    committed: float
    data: float
    manifests: float
    metadata: bool

    @property
    def phase(self) -> Phase | None:
        """How far a commit had come that the catalog does not show; None where none was on its way."""
        if self.metadata:
            return Phase.METADATA
        if self.manifests > self.committed:
            return Phase.MANIFESTS
        return Phase.DATA if self.data > self.committed else None


def traces(current: Path | None, folders: Iterable[Path], known: set[Path]) -> Traces:
    """What lies in the folders of a table whose metadata file is `current`, without the leftovers that are `known`."""
    committed = _time_of(current) if current is not None else 0.0
    version = _version(current) if current is not None else -1
    data = manifests = 0.0
    ahead = False
    for path in (path for folder in folders for path in folder.iterdir() if path not in known):
        if path.name.endswith(".metadata.json"):
            ahead = ahead or _version(path) > version
        elif path.suffix == ".avro":
            manifests = max(manifests, _time_of(path))
        elif path.suffix == ".parquet":
            data = max(data, _time_of(path))
    return Traces(committed, data, manifests, ahead)


def locks_of(pid: int, file: Path) -> set[str]:
    """READ and WRITE, as the process holds them on the file (/proc/locks: `n: POSIX ADVISORY WRITE pid a:b:inode ..`)."""
    try:
        inode = str(file.stat().st_ino)
    except FileNotFoundError:
        return set()
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    mine = [fields for fields in lines if str(pid) in fields and any(part.endswith(f":{inode}") for part in fields)]
    return {kind for fields in mine for kind in ("READ", "WRITE") if kind in fields}


def _version(metadata: Path) -> int:
    return int(metadata.name.partition("-")[0])


def _time_of(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
