"""Whether the files that a project is declared in have changed. Looks at names, times and sizes alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from lakeflow.config import CONFIG_FILE
from lakeflow.runner.load import JOBS, TABLES

Seen = Mapping[Path, tuple[int, int, int]]
KINDS = ((TABLES, ".sql"), (JOBS, ".py"), (JOBS, ".sql"))


def declared_in(root: Path) -> Iterator[Path]:
    """lakeflow.toml, and what is read of tables/ and jobs/."""
    yield root / CONFIG_FILE
    for folder, suffix in KINDS:
        for path in (root / folder).glob(f"**/*{suffix}"):
            if not any(part.startswith(".") for part in path.relative_to(root).parts):
                yield path


def seen(paths: Iterable[Path]) -> Seen:
    """The files as they stand; one that is not there is left out."""
    found = {}
    for path in paths:
        try:
            facts = path.stat()
        except OSError:
            continue
        found[path] = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
    return found


class Watch:
    """Tells of a change once it has held still for one look: editors and checkouts write in several steps."""

    def __init__(self, look: Callable[[], Seen]) -> None:
        self._look = look
        self._known = self._last = look()

    def changed(self) -> frozenset[Path]:
        """The files that are new, gone or other than when this last told of a change; none while they still change."""
        now, before = self._look(), self._last
        self._last = now
        if now != before or now == self._known:
            return frozenset()
        known, self._known = self._known, now
        return frozenset(path for path in now.keys() | known.keys() if now.get(path) != known.get(path))
