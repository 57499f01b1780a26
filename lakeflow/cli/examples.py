"""Where the files of a new project and of the example projects are, and how they are written into a folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lakeflow.config import CONFIG_FILE
from lakeflow.errors import StorageFull, UnknownName, UsageError

PACKAGE = Path(__file__).parents[1]
TEMPLATE = PACKAGE / "cli" / "templates" / "project"
EXAMPLES = ("flights",)
PARTS = (CONFIG_FILE, "tables", "jobs")
LEFT_OUT = frozenset({"__pycache__", ".lakeflow"})
IGNORED = TEMPLATE / "gitignore"
"""Under its own name it would be acted on where it stands."""

Files = Mapping[Path, Path]
"""The path within a project -> the file to copy."""


@dataclass(frozen=True, slots=True)
class Written:
    """What became of each file of a project: written, or kept as it was found."""

    written: tuple[Path, ...]
    kept: tuple[Path, ...]


def template() -> Files:
    """The files of a new project."""
    files = {path: file for path, file in _within(TEMPLATE, TEMPLATE).items() if file != IGNORED}
    return {**files, Path(".gitignore"): IGNORED}


def example(name: str) -> Files:
    """The files of an example project: in an installed package beside the code, else in the repository around it.

    Raises UnknownName, and UsageError where lakeflow was installed without them.
    """
    if name not in EXAMPLES:
        raise UnknownName("example", name, EXAMPLES, next_step=f"lakeflow init DIR --example {EXAMPLES[0]}")
    for root in (PACKAGE / "_examples" / name, PACKAGE.parent):
        if (root / CONFIG_FILE).is_file() and (root / "examples" / name).is_dir():
            parts = [root / part for part in (*PARTS, f"examples/{name}")]
            files = {path: file for part in parts for path, file in _within(part, root).items()}
            return {**files, Path(".gitignore"): IGNORED}
    raise UsageError(
        f"the files of the example {name!r} are not beside this installation ({PACKAGE})",
        next_step="install lakeflow from a wheel or its repository",
    )


def _within(part: Path, root: Path) -> dict[Path, Path]:
    """The files at and below `part`, by their path as seen from `root`."""
    found = [part] if part.is_file() else sorted(path for path in part.rglob("*") if path.is_file())
    return {path.relative_to(root): path for path in found if LEFT_OUT.isdisjoint(path.relative_to(root).parts)}


def write_project(files: Files, folder: Path) -> Written:
    """Write the files into `folder`, which is made where it is missing. Files that are there already stay as they are.

    Raises UsageError where the folder is a project, StorageFull where it cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", next_step="lakeflow init DIR with the name of a folder")
    if (folder / CONFIG_FILE).exists():
        raise UsageError(
            f"{folder} is a project already: it has a {CONFIG_FILE}", next_step=f"lakeflow plan --project {folder}"
        )
    written: list[Path] = []
    kept: list[Path] = []
    try:
        for path, file in files.items():
            place = folder / path
            if place.exists():
                kept.append(path)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
            written.append(path)
    except OSError as error:
        raise StorageFull(
            f"{error.filename or folder} cannot be written: {error.strerror}",
            left_behind=f"{len(written)} files of the project in {folder}",
            next_step="free space or grant the right to write, remove them, and run the same command again",
        ) from error
    return Written(tuple(written), tuple(kept))
