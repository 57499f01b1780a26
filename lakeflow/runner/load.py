"""Reads a project's tables/ and jobs/ into plain values."""

from __future__ import annotations

import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import TypeVar, assert_never

from lakeflow.config import Settings, fill
from lakeflow.declare import SYSTEM_NAMESPACE, IndexSpec, ModelDeclaration, Origin, TableSpec
from lakeflow.errors import DeclarationError, LakeflowError, UsageError
from lakeflow.fill import looks_secret
from lakeflow.index.settings import settings_of
from lakeflow.job import Job
from lakeflow.runner.settled import settled
from lakeflow.runner.sql_jobs import jobs_of
from lakeflow.sql.parse import parse_declarations, parse_jobs
from lakeflow.sql.parse_like import likened
from lakeflow.sql.statements import CreateModel, CreateTable, CreateVectorIndex

TABLES = "tables"
JOBS = "jobs"
LONGEST_NAME = 128


@dataclass(frozen=True, slots=True)
class Declarations:
    """What a project declares, by name."""

    tables: Mapping[str, TableSpec] = field(default_factory=dict)
    models: Mapping[str, ModelDeclaration] = field(default_factory=dict)
    indexes: Mapping[str, IndexSpec] = field(default_factory=dict)
    jobs: Mapping[str, Job] = field(default_factory=dict)


def load_tables(settings: Settings) -> Declarations:
    """The declarations in tables/*.sql; jobs are not looked at. Raises DeclarationError, naming file and line."""
    tables: dict[str, TableSpec] = {}
    created: list[CreateTable] = []
    models: dict[str, ModelDeclaration] = {}
    indexes: dict[str, IndexSpec] = {}
    for path in _files(settings.root / TABLES, ".sql"):
        for statement in parse_declarations(_text_of(path), _shown(path, settings.root)):
            match statement:
                case CreateTable():
                    check_table_name(statement.table.name, "the name of a table", statement.table.origin)
                    _declare(tables, "table", statement.table.name, statement.table)
                    created.append(statement)
                case CreateModel():
                    _declare(models, "model", statement.model.name, statement.model)
                case CreateVectorIndex():
                    settings_of(statement.index)
                    _declare(indexes, "vector index", statement.index.name, statement.index)
                case _:
                    assert_never(statement)
    return Declarations(likened(created), models, indexes)


def load_project(settings: Settings) -> Declarations:
    """All declarations: those of tables/*.sql and the jobs in jobs/*.py and jobs/*.sql. Raises DeclarationError, naming file
    and line.

    Jobs may import modules from the project's folder, which stands last on the import path.
    """
    jobs: dict[str, Job] = {}
    if (root := str(settings.root)) not in sys.path:
        sys.path.append(root)
    for path in _files(settings.root / JOBS, ".py"):
        for job in _jobs_in(path, settings.root):
            check_table_name(job.target, f"the target of job {job.name!r}", job.origin)
            _declare(jobs, "job", job.name, job)
    declared = load_tables(settings)
    for path in _files(settings.root / JOBS, ".sql"):
        shown = _shown(path, settings.root)
        for job in jobs_of(parse_jobs(_text_of(path), shown), shown, declared.tables):
            check_table_name(job.target, f"the target of job {job.name!r}", job.origin)
            _declare(jobs, "job", job.name, job)
    return replace(declared, jobs=settled(jobs))


def filled(options: Mapping[str, str], origin: Origin, settings: Settings) -> Mapping[str, str]:
    """WITH options with the environment and secrets filled in. Raises ConfigError naming what is missing, and where."""
    return fill(options, settings.environment, str(origin))


def filled_by_reference(options: Mapping[str, str], origin: Origin, settings: Settings) -> Mapping[str, str]:
    """The same for a model, whose secrets may stand there by reference alone. Raises DeclarationError for one in plain text."""
    for name, text in options.items():
        if looks_secret(name.replace("_", "-")) and not _REFERENCE.fullmatch(text.strip()):
            raise DeclarationError(
                f"{origin}: option '{name}' holds a secret in plain text",
                next_step=f"write '{name}' = '{{{{ secret.NAME }}}}', and export LAKEFLOW_SECRET_NAME",
            )
    return filled(options, origin, settings)


_REFERENCE = re.compile(r"\{\{\s*secret\.\w+\s*\}\}")

Declared = TypeVar("Declared", TableSpec, ModelDeclaration, IndexSpec, Job)


def check_table_name(name: str, what: str, origin: Origin | str) -> None:
    """A table's name is part of a path, and one namespace is lakeflow's own. Raises DeclarationError."""
    namespace, _, table = name.partition(".")
    if namespace == SYSTEM_NAMESPACE:
        raise DeclarationError(f"{origin}: {what} is {name!r}; the tables of {SYSTEM_NAMESPACE} are lakeflow's own")
    for part in (namespace, table):
        if not part.isprintable() or set(part) & set("/\\") or part.strip(".") == "" or len(part) > LONGEST_NAME:
            raise DeclarationError(
                f"{origin}: {what} is {name[:200]!r}; valid: namespace.table, each of 1 to {LONGEST_NAME} printable characters "
                "without slashes"
            )


def _declare(there: dict[str, Declared], kind: str, name: str, declared: Declared) -> None:
    if name in there:
        raise DeclarationError(
            f"{declared.origin}: {kind} {name!r} is declared at {there[name].origin} already",
            next_step="rename one of them, or delete it",
        )
    there[name] = declared


def _files(folder: Path, suffix: str) -> list[Path]:
    """The files of a kind at any depth, but hidden ones: editors keep copies of their own there."""
    found = sorted(folder.glob(f"**/*{suffix}"))
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DeclarationError(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from error
    except OSError as error:
        raise DeclarationError(f"{path} cannot be read: {error.strerror}") from error


def _jobs_in(path: Path, root: Path) -> Iterator[Job]:
    module = _module_of(path, root)
    jobs = {id(value): value for value in vars(module).values() if isinstance(value, Job)}
    for value in jobs.values():
        if value.function.__module__ == module.__name__:
            yield replace(value, origin=Origin(_shown(path, root), value.origin.line))


def _module_of(path: Path, root: Path) -> ModuleType:
    """The module of a job's file, loaded under a name that no other module has."""
    name = "lakeflow_jobs." + ".".join(path.relative_to(root / JOBS).with_suffix("").parts)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "a file that ends in .py has a loader"
    assert spec.loader is not None, "a file that ends in .py has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        # Data alone goes to stdout; a file of jobs may print.
        with redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    except UsageError as error:
        if path.name in error.message:
            raise
        place = f"{_shown(path, root)}:{_line_in(path, error)}"
        raise DeclarationError(f"{place}: {error.message}", left_behind=error.left_behind, next_step=error.next_step) from error
    except LakeflowError:
        raise
    except (Exception, SystemExit) as error:
        line = _line_in(path, error)
        raise DeclarationError(
            f"{_shown(path, root)}:{line} cannot be loaded: {type(error).__name__}: {error}",
            next_step=f"mend the file; python {_shown(path, root)} shows the whole trace",
        ) from error
    return module


def _line_in(path: Path, error: BaseException) -> int:
    """The last line of `path` that the error passed through."""
    if isinstance(error, SyntaxError) and error.lineno is not None and error.filename == str(path):
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return lines[-1] or 1 if lines else 1


def _shown(path: Path, root: Path) -> Path:
    """The path as seen from the project."""
    return path.relative_to(root)
