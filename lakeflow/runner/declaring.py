"""Statements of `lakeflow sql` that are declarations, as files of the project: written, changed and taken away.

What a file of tables/ or jobs/ says is the truth, so a statement that declares becomes such a file. No file is written over;
one is changed or deleted only if it holds that statement alone. What would not load, or would not run, is not left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from lakeflow.declare import UNKNOWN, IndexSpec, Origin
from lakeflow.errors import DeclarationError, LakeflowError, UsageError, did_you_mean
from lakeflow.job import Job
from lakeflow.runner.load import JOBS, TABLES
from lakeflow.runner.plan import Request
from lakeflow.runner.project import Project
from lakeflow.sql.alterations import (
    AddColumns,
    AlterVectorIndex,
    ModifyColumns,
    PlacedColumn,
    ResetTableOptions,
    SetTableOptions,
)
from lakeflow.sql.describe import describe
from lakeflow.sql.parse import parse_declarations, parse_jobs
from lakeflow.sql.statements import CreateModel, CreateTable, CreateVectorIndex, JobStatement, ResetOption, SetOption, Statement

COMMENTS: Final = ("--", "/*")
INDEX_DEFAULTS: Final[Mapping[str, dict[str, Any]]] = {
    "metric": {"metric": "cosine"},
    "model": {"model": None},
    "columns": {"columns": ()},
}
"""What RESET makes of the options that are fields of an index."""


def declare(project: Project, statement: CreateTable | CreateVectorIndex) -> Path:
    """Write the statement to a file of its own in tables/; the file, as seen from the project.

    Raises DeclarationError for a file that is there already and for what the project could not be loaded with.
    """
    name = statement.table.name if isinstance(statement, CreateTable) else statement.index.name
    return _written(project, Path(TABLES) / f"{name}.sql", _text(statement), lambda: project.declared_tables)


def declare_jobs(project: Project, statement: JobStatement, stem: str, options: Mapping[str, str]) -> tuple[Path, list[Job]]:
    """Write the statement to jobs/STEM.sql, behind what is SET; the file and its jobs.

    Raises DeclarationError as `declare` does, and what planning a job raises whose tables are there.
    """
    lines = [f"SET '{key}' = '{value}';\n" for key, value in options.items()]
    path, found = Path(JOBS) / f"{stem}.sql", list[Job]()

    def check() -> None:
        found.extend(job for job in project.declarations.jobs.values() if job.origin.path == path)
        for job in found:
            if all(project.lake.exists(table) for table in job.reads):
                project.plan(job, Request())

    _written(project, path, "".join([*lines, describe(statement)]), check)
    return path, found


def alter(project: Project, origin: Origin, change: Callable[[Statement], Statement]) -> Path:
    """Write the file at `origin` anew with its one statement changed; the file.

    Raises DeclarationError where the file holds more than the statement, and where what it would say is not valid: the file
    is then as it was.
    """
    path, before = _alone(project, origin, "change it there, then: lakeflow plan")
    [statement] = parse_declarations(before, path)
    after = _text(change(statement))
    parse_declarations(after, path)
    _replace(project, path, after)
    try:
        _ = project.declared_tables
    except LakeflowError:
        _replace(project, path, before)
        raise
    return path


AlterDeclared = AddColumns | ModifyColumns | SetTableOptions | ResetTableOptions
"""What may be changed of a table in its declaration: a column renamed there would be a new one, a dropped one comes back."""


def altered(statement: Statement, change: AlterDeclared | AlterVectorIndex) -> Statement:
    """A declaration as a statement changes it. Raises DeclarationError for a column or an option that is not there. Pure."""
    match statement, change:
        case CreateVectorIndex(index), AlterVectorIndex():
            return replace(statement, index=_altered_index(index, change))
        case CreateTable(table), SetTableOptions(options=options):
            return replace(statement, table=replace(table, options={**table.options, **options}))
        case CreateTable(table), ResetTableOptions(options=keys):
            for key in keys:
                if key not in table.options:
                    raise DeclarationError(f"table {table.name} has no option {key!r}{did_you_mean(key, table.options)}")
            left = {key: value for key, value in table.options.items() if key not in keys}
            return replace(statement, table=replace(table, options=left))
        case CreateTable(table), AddColumns(columns=columns) | ModifyColumns(columns=columns):
            fields = list(table.schema)
            for one in columns:
                _place(fields, one, table.name, is_new=isinstance(change, AddColumns))
            return replace(statement, table=replace(table, schema=pa.schema(fields)))
        case _:
            raise DeclarationError("the file declares something else under this name")


def _place(fields: list[pa.Field], one: PlacedColumn, table: str, *, is_new: bool) -> None:
    """Put a column among the others, in place of the one with its name unless it is new."""
    names = [field.name for field in fields]
    name = one.column.name
    if is_new and name in names:
        raise DeclarationError(f"table {table} has a column {name!r} already")
    if not is_new and name not in names:
        raise DeclarationError(f"table {table} has no column {name!r}{did_you_mean(name, names)}")
    at = len(fields) if is_new else names.index(name)
    if not is_new:
        fields.pop(at)
        names.pop(at)
    if one.place is not None:
        if one.place.after is not None and one.place.after not in names:
            raise DeclarationError(f"table {table} has no column {one.place.after!r}{did_you_mean(one.place.after, names)}")
        at = 0 if one.place.after is None else names.index(one.place.after) + 1
    fields.insert(at, one.column)


def _altered_index(index: IndexSpec, change: AlterVectorIndex) -> IndexSpec:
    options = dict(index.options)
    for key in change.reset:
        if key == "key" or (key not in options and key not in INDEX_DEFAULTS):
            raise DeclarationError(f"vector index {index.name!r}: {key!r} cannot be reset{did_you_mean(key, options)}")
        options.pop(key, None)
        index = replace(index, **INDEX_DEFAULTS[key]) if key in INDEX_DEFAULTS else index
    for key, value in change.options.items():
        match key:
            case "key":
                index = replace(index, key=value.strip())
            case "metric":
                index = replace(index, metric=value.strip().lower())
            case "model":
                index = replace(index, model=value.strip())
            case "columns":
                index = replace(index, columns=tuple(part.strip() for part in value.split(",")))
            case _:
                options[key] = value
    return replace(index, options=options)


def undeclare(project: Project, origin: Origin) -> Path:
    """Delete the file at `origin`; the file. Raises DeclarationError where it holds more than the one statement."""
    path, _ = _alone(project, origin, "delete the statement there")
    with _writing(path):
        (project.settings.root / path).unlink()
    project.declared_anew()
    return path


def is_alone(project: Project, origin: Origin) -> bool:
    """Whether the file at `origin` holds one statement and nothing that a person wrote beside it."""
    try:
        _alone(project, origin, "")
    except DeclarationError:
        return False
    return True


def _alone(project: Project, origin: Origin, how: str) -> tuple[Path, str]:
    path = origin.path
    if path is None or path.suffix != ".sql" or not (project.settings.root / path).is_file():
        raise DeclarationError(f"{origin} is in no file of statements", next_step=f"{origin}: {how}")
    text = (project.settings.root / path).read_text(encoding="utf-8")
    said = parse_declarations(text, path) if path.parts[0] == TABLES else parse_jobs(text, path)
    statements = [one for one in said if not isinstance(one, SetOption | ResetOption)]
    if len(statements) != 1 or any(mark in text for mark in COMMENTS):
        raise DeclarationError(
            f"{path} holds more than the statement at {origin}: other statements or comments, which stay as they were written",
            next_step=f"{origin}: {how}",
        )
    return path, text


def _text(statement: Statement) -> str:
    """The statement as text. Raises DeclarationError where the text would say something else."""
    text = describe(_plain(statement))
    [again] = parse_declarations(text)
    if _plain(again) != _plain(statement):
        raise DeclarationError(
            "this statement cannot be written as text again", next_step="write it to a file of tables/ by hand"
        )
    return f"{text}\n"


def _plain(statement: Statement) -> Statement:
    """Without where it was written, and without IF NOT EXISTS, which a declaration does not need."""
    match statement:
        case CreateTable(table):
            return replace(statement, table=replace(table, origin=UNKNOWN), if_not_exists=False)
        case CreateVectorIndex(index):
            return replace(statement, index=replace(index, origin=UNKNOWN), if_not_exists=False)
        case CreateModel(model):
            return replace(statement, model=replace(model, origin=UNKNOWN), if_not_exists=False)


def _written(project: Project, path: Path, text: str, check: Callable[[], object]) -> Path:
    """Write a new file, and delete it again where `check` raises: what is declared is read anew for it."""
    place = project.settings.root / path
    if place.exists():
        raise DeclarationError(
            f"{path} is there already, and no file is written over", next_step=f"write the statement to {path}"
        )
    with _writing(path):
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("x", encoding="utf-8") as file:
            file.write(text if text.endswith("\n") else f"{text}\n")
    project.declared_anew()
    try:
        check()
    except BaseException:
        place.unlink(missing_ok=True)
        project.declared_anew()
        raise
    return path


def _replace(project: Project, path: Path, text: str) -> None:
    """All of a file at once: whoever reads it meanwhile sees the old or the new."""
    place = project.settings.root / path
    beside = place.with_name(f".{place.name}.new")
    with _writing(path):
        beside.write_text(text, encoding="utf-8")
        beside.replace(place)
    project.declared_anew()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """What the system refuses of a file is a UsageError."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


def stem_of(targets: Sequence[str], name: str | None) -> str:
    """How the file of jobs that write `targets` is called: as `name` says, else as the first of them. Raises UsageError."""
    stem = name or targets[0]
    if set(stem) & set("/\\\0") or stem.startswith("."):
        raise UsageError(f"SET 'pipeline.name' = {stem!r} cannot be the name of a file; valid: letters, digits, _ - and dots")
    return stem
