"""A copy of a LanceDB table on the local disk, made in the time that it takes to link its files.

Lance never writes to a file of rows, of deletions or of an index again, so such files are shared by both tables until each
removes its own name of them. What may be written anew is copied.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MANIFESTS = "_versions"
NEVER_WRITTEN_AGAIN = ("data", "_deletions", "_indices")
COPIED = ("_transactions",)


def can_copy(place: str) -> bool:
    """Whether the tables at `place` lie in a folder of this machine."""
    return "://" not in place


def copy_table(place: str, source: str, target: str) -> None:
    """Make the table `target` of what `source` holds when this begins. Raises OSError, FileNotFoundError where it is gone.

    Manifests come first: what they name was written before them, and what comes meanwhile no manifest of the copy names.
    """
    old, new = (Path(place) / f"{name}.lance" for name in (source, target))
    (new / MANIFESTS).mkdir(parents=True)
    for manifest in sorted((old / MANIFESTS).glob("*.manifest")):
        _brought(manifest, new / MANIFESTS / manifest.name, link=False)
    for name in (*COPIED, *NEVER_WRITTEN_AGAIN):
        for folder, _, files in os.walk(old / name):
            into = new / Path(folder).relative_to(old)
            into.mkdir(parents=True)
            for file in files:
                _brought(Path(folder) / file, into / file, link=name in NEVER_WRITTEN_AGAIN)
    if not any(old.glob(f"{MANIFESTS}/*.manifest")):
        raise FileNotFoundError(f"Table {source!r} was not found: it went while it was copied")


def _brought(file: Path, into: Path, *, link: bool) -> None:
    """A file that went meanwhile is of a version that nobody needs any longer, or of a table that went as a whole."""
    try:
        if link and _linked(file, into):
            return
        shutil.copyfile(file, into)
    except FileNotFoundError:
        into.unlink(missing_ok=True)


def _linked(file: Path, into: Path) -> bool:
    """Whether the disk can give a file a second name."""
    try:
        os.link(file, into)
    except FileNotFoundError:
        raise
    except OSError:
        return False
    return True
