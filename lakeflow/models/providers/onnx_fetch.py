"""The files of a model that lies elsewhere, brought to this disk once, and checked against their checksum.

A fetched model is a folder named by its checksum, so that it never changes: files go to a folder beside it, are checked, and
take its name in one step. A process that dies on the way leaves what the next one throws away; a lock, which ends with the
process that holds it, makes the others wait for the one that fetches.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lakeflow.errors import Interrupted, ModelError, StorageFull, StorageUnavailable
from lakeflow.models.providers.onnx_layout import GRAPHS, MODULES, WEIGHTS, text_names
from lakeflow.models.providers.onnx_place import MIB, RemotePlace
from lakeflow.models.providers.onnx_stores import Store
from lakeflow.retry import Backoff, retrying

BACKOFF = Backoff(attempts=4, base=0.5, cap=5.0)
ONLY_GRAPH = GRAPHS[0]
"""What a graph that is fetched alone is called here."""

logger = logging.getLogger("lakeflow.models")


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches the model `label` from `place` to a folder under `cache`. `text`: with a tokenizer and its configuration.

    `stop` says whether a signal came.
    """

    label: str
    place: RemotePlace
    text: bool
    cache: Path
    backoff: Backoff = BACKOFF
    clock: Callable[[], float] = time.monotonic
    stop: Callable[[], bool] = lambda: False

    def fetched(self, store: Callable[[], Store]) -> Path:
        """What 'model_path' would name were it here: the graph, or the folder. `store` is opened where nothing is here yet.

        Raises ModelError where files are missing, too many bytes or of another checksum, StorageUnavailable where
        asking again may help, StorageFull where the folder cannot be written, Interrupted after a signal.
        """
        folder = self.cache / f"sha256-{self.place.checksum}"
        with _disk_errors(self.label, self.cache):
            self.cache.mkdir(parents=True, exist_ok=True)
            with _locked(folder.with_suffix(".lock")):
                if not folder.is_dir() or checksum_of(_files_below(folder)) != self.place.checksum:
                    self._fetch(folder, store())
        if self.place.graph is None:
            return folder
        return folder / (self.place.graph if self.text else ONLY_GRAPH)

    def _fetch(self, folder: Path, store: Store) -> None:
        fresh = folder.with_suffix(".part")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        logger.info("%s: fetching %s", self.label, self.place.shown)
        try:
            _Fetching(self, store, fresh).all_files()
            require_checksum(self.label, f"what lies at {self.place.shown}", self.place.checksum, _files_below(fresh))
            shutil.rmtree(folder, ignore_errors=True)
            fresh.rename(folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


class _Fetching:
    """One fetching: what it has still room for, and where it writes."""

    def __init__(self, fetcher: Fetcher, store: Store, folder: Path) -> None:
        self._fetcher = fetcher
        self._store = store
        self._folder = folder
        self._left = fetcher.place.most_bytes

    def all_files(self) -> None:
        """Raises ModelError where there is no graph."""
        place, text = self._fetcher.place, self._fetcher.text
        candidates = GRAPHS if place.graph is None else (place.graph,)
        graph = next((name for name in candidates if self._copied(name, self._name_here(name))), None)
        if graph is None:
            raise ModelError(
                f"{self._fetcher.label}: {place.shown} "
                + (f"holds none of {', '.join(GRAPHS)}" if place.graph is None else "is not there"),
                next_step="correct 'model_path' in its WITH (..)",
            )
        if text or place.graph is None:
            for suffix in WEIGHTS:
                self._copied(graph + suffix, graph + suffix)
        if text:
            self._copied(MODULES, MODULES)
            for name in text_names(self._fetcher.label, self._folder):
                if name != MODULES:
                    self._copied(name, name)

    def _name_here(self, graph: str) -> str:
        return graph if self._fetcher.text or self._fetcher.place.graph is None else ONLY_GRAPH

    def _copied(self, name: str, here: str) -> bool:
        """Whether there is such a file, which is here then."""
        target = self._folder / here
        found = retrying(lambda: self._copy(name, target), self._fetcher.backoff)
        if not found:
            target.unlink()
            return False
        self._left -= target.stat().st_size
        return True

    def _copy(self, name: str, target: Path) -> bool:
        until = self._fetcher.clock() + self._fetcher.place.seconds
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:

            def take(block: bytes) -> None:
                if file.tell() + len(block) > self._left:
                    raise ModelError(
                        f"{self._fetcher.label}: the files at {self._fetcher.place.shown} are larger than 'fetch_mib' = "
                        f"'{self._fetcher.place.most_bytes // MIB}' allows",
                        next_step="raise 'fetch_mib' in its WITH (..) if they are meant to be",
                    )
                if self._fetcher.stop():
                    raise Interrupted(
                        f"{self._fetcher.label} was stopped by a signal while it was fetched from {self._fetcher.place.shown}",
                        left_behind="nothing that counts as fetched",
                        next_step="run again: it is fetched from the beginning",
                    )
                if self._fetcher.clock() > until:
                    raise StorageUnavailable(
                        f"{self._fetcher.label}: {name} was not fetched from {self._fetcher.place.shown} within "
                        f"{self._fetcher.place.seconds:g} s, the 'fetch_timeout' of one file"
                    )
                with _disk_errors(self._fetcher.label, target):
                    file.write(block)

            return self._store.copy(name, take)


def checksum_of(files: Mapping[str, Path]) -> str:
    """SHA-256 in hex of a model's files by their names in its folder. Raises OSError.

    Of one file it is that file's; of several that of the lines which `sha256sum` prints for them, sorted by name.
    """
    digests = {name: _digest(path) for name, path in files.items()}
    if len(digests) == 1:
        return next(iter(digests.values()))
    return hashlib.sha256("".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode()).hexdigest()


def require_checksum(label: str, what: str, declared: str, files: Mapping[str, Path]) -> None:
    """Raises ModelError, naming both, where the files' checksum is not the declared one."""
    found = checksum_of(files)
    if found != declared:
        of = f", of {', '.join(sorted(files))}" if len(files) > 1 else ""
        raise ModelError(
            f"{label}: {what} has the checksum sha256:{found}{of}; 'checksum' in its WITH (..) is sha256:{declared}",
            next_step="find out why it is another file; if it is the one that is meant, declare its checksum",
        )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files_below(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _disk_errors(label: str, place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFull(
            f"{label}: {place} cannot be written: {error.strerror or error}",
            left_behind="nothing that counts as fetched",
            next_step="free space or grant the right to write, then run the same command again",
        ) from error
