"""Carries out statements about models against the registry."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, assert_never

from lakeflow.declare import ModelDeclaration
from lakeflow.errors import DeclarationError, UnknownName, UsageError
from lakeflow.models.registry import identify
from lakeflow.models.versions import (
    DEFAULT_VERSION,
    Entry,
    Event,
    History,
    Identified,
    Source,
    Version,
    entry_of,
    option_name,
    require_same_bytes,
    version_of,
    with_options,
    without_options,
)
from lakeflow.runner.model_registry import refuse_secrets, spec_of
from lakeflow.runner.project import Project
from lakeflow.sql.clauses import COMMENT_KEY
from lakeflow.sql.describe import describe
from lakeflow.sql.statements import (
    CreateModel,
    DescribeModel,
    DropModel,
    ModelStatement,
    RenameModel,
    ResetModelOptions,
    SetModelOptions,
    ShowCreateModel,
    ShowModels,
)
from lakeflow.sql.types import sql_type

Row = dict[str, Any]
Histories = Mapping[str, History]
DONE = ("statement", "model", "version", "default_version", "status")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a statement has to show: rows, or a text of SQL. `facts` go with the rows of DESCRIBE MODEL EXTENDED."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    sql: str | None = None
    facts: Row | None = None


def carry_out(project: Project, statement: ModelStatement) -> Outcome:
    """Carry out one statement; what it changes is in lakeflow.models afterwards, in one commit.

    Raises UnknownName for a model, version or option that is not there, DeclarationError where the statement does not fit
    the registry or tables/, ModelError for missing files, ConfigError for missing secrets, and what a commit raises.
    """
    match statement:
        case CreateModel():
            return _create(project, statement)
        case SetModelOptions(name, options, if_exists):
            if DEFAULT_VERSION in map(option_name, options):
                return _default(project, name, _only(name, list(options.values())), if_exists)
            return _alter(project, name, if_exists, lambda declared: with_options(declared, options))
        case ResetModelOptions(name, keys, if_exists):
            if DEFAULT_VERSION in map(option_name, keys):
                _only(name, list(keys))
                return _default(project, name, None, if_exists)
            return _alter(project, name, if_exists, lambda declared: without_options(declared, keys))
        case RenameModel():
            return _rename(project, statement)
        case DropModel():
            return _drop(project, statement)
        case DescribeModel(name, version, extended):
            return _describe(project, name, version, extended=extended)
        case ShowModels(like, negated):
            names = [
                name
                for name in sorted(project.model_registry.declarations)
                if like is None or is_like(name, like) is not negated
            ]
            return Outcome(("model",), tuple({"model": name} for name in names))
        case ShowCreateModel(name, version):
            declaration, _ = _meant(project, name, version)
            return Outcome((), (), describe(CreateModel(declaration)))
        case _:
            assert_never(statement)


def is_like(text: str, pattern: str) -> bool:
    """Whether a text is like a pattern of SQL: % any text, _ any one character, a backslash takes that away."""
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    wild = {"%": ".*", "_": "."}
    expression = "".join(wild.get(part) or re.escape(part[-1]) for part in parts)
    return re.fullmatch(expression, text, re.DOTALL) is not None


def _create(project: Project, statement: CreateModel) -> Outcome:
    declaration = statement.model
    name = declaration.name
    _refuse_in_tables(project, name, "change it there, or delete it there first")
    found_as = _identified(project, declaration)

    def entry(found: Histories) -> Entry | None:
        history = found.get(name, History())
        if statement.if_not_exists and history.declared is not None:
            return None
        return entry_of(history, declaration, found_as, Source.STATEMENT, datetime.now(UTC))

    there = project.model_log.histories().get(name, History()).declared is not None
    made = project.model_log.append(entry)
    return _done(project, "CREATE MODEL", name, _made(made, is_new=not there))


def _alter(project: Project, name: str, if_exists: bool, change: Callable[[ModelDeclaration], ModelDeclaration]) -> Outcome:
    _refuse_in_tables(project, name, "change its options there")

    def entry(found: Histories) -> Entry | None:
        history = found.get(name, History())
        if history.declared is None:
            _require_if_exists(project, name, if_exists)
            return None
        declaration = change(history.declared)
        return entry_of(history, declaration, _identified(project, declaration), Source.STATEMENT, datetime.now(UTC))

    made = project.model_log.append(entry)
    there = name in _live(project)
    return _done(project, "ALTER MODEL", name, _made(made, is_new=False) if there else "not there")


def _default(project: Project, name: str, text: str | None, if_exists: bool) -> Outcome:
    """`text` of None takes the default away, so that the name means what was declared last."""

    def entry(found: Histories) -> Entry | None:
        history = found.get(name, History())
        if not history.is_live:
            if name in project.declared_tables.models:
                raise UsageError(f"model {name!r} has no version yet", next_step=f"lakeflow models register {name}")
            _require_if_exists(project, name, if_exists)
            return None
        number = None
        if text is not None:
            number = int(text) if text.isdecimal() else 0
            if number not in history.versions:
                raise UnknownName(f"version of model {name!r}", text, [str(known) for known in history.versions])
            _require_usable(project, history.versions[number])
        return None if number == history.default else Entry(Event.DEFAULT, name, datetime.now(UTC), number)

    made = project.model_log.append(entry)
    there = name in _live(project)
    return _done(project, "ALTER MODEL", name, "not there" if not there else "changed" if made else "unchanged")


def _rename(project: Project, statement: RenameModel) -> Outcome:
    name, to = statement.name, statement.to
    _refuse_in_tables(project, name, f"rename it there to {to}, then run this again: {to} has its versions from then on")

    def entry(found: Histories) -> Entry | None:
        history = found.get(name, History())
        if not history.is_live:
            _require_if_exists(project, name, statement.if_exists)
            return None
        if found.get(to, History()).is_live:
            raise DeclarationError(
                f"model {to!r} is there already, so that {name!r} cannot take its name",
                next_step=f'another name, or: lakeflow sql -e "DROP MODEL {to}"',
            )
        if history.source is Source.STATEMENT:
            _refuse_in_tables(project, to, "delete it there first: a model has one place")
        return Entry(Event.RENAME, name, datetime.now(UTC), renamed_to=to)

    made = project.model_log.append(entry)
    return _done(project, "ALTER MODEL", to if made else name, f"renamed from {name}" if made else "not there")


def _drop(project: Project, statement: DropModel) -> Outcome:
    name = statement.name
    in_tables = project.declared_tables.models.get(name)

    def entry(found: Histories) -> Entry | None:
        if found.get(name, History()).is_live:
            return Entry(Event.DROP, name, datetime.now(UTC))
        _require_if_exists(project, name, statement.if_exists or in_tables is not None)
        return None

    was_declared = project.model_log.histories().get(name, History()).declared is not None
    made = project.model_log.append(entry)
    if in_tables is not None and not was_declared:
        what = "its versions are forgotten" if made else "it had no version"
        return _done(project, "DROP MODEL", name, f"{what}; {in_tables.origin} declares it")
    return _done(project, "DROP MODEL", name, "dropped" if made else "not there")


def _describe(project: Project, name: str, version: int | None, *, extended: bool) -> Outcome:
    declaration, known = _meant(project, name, version)
    rows = [
        {
            "name": column.name,
            "type": sql_type(column.type),
            "null": column.nullable,
            "is_input": is_input,
            "comment": ((column.metadata or {}).get(COMMENT_KEY) or b"").decode() or None,
        }
        for is_input, schema in ((True, declaration.input), (False, declaration.output))
        for column in schema
    ]
    facts: Row | None = None
    if extended:
        history = project.model_log.histories().get(name, History())
        facts = {
            "model": name,
            "version": known.number if known else None,
            "default_version": history.default,
            "versions": sorted(history.versions),
            "comment": declaration.comment,
            "options": dict(declaration.options),
            "fingerprint": known.identified.fingerprint if known else None,
            "artifacts": dict(known.identified.artifacts) if known else {},
            "created_at": known.created_at if known else None,
            "declared": str(declaration.origin),
        }
    return Outcome(("name", "type", "null", "is_input", "comment"), tuple(rows), facts=facts)


def _meant(project: Project, name: str, number: int | None) -> tuple[ModelDeclaration, Version | None]:
    """The declaration that a name means, and its version where the registry has it as that."""
    history = project.model_log.histories().get(name, History())
    in_tables = project.declared_tables.models.get(name)
    if in_tables is None and history.declared is None:
        raise UnknownName("model", name, project.model_registry.declarations, next_step="lakeflow models")
    number = number or history.default
    if number is None and in_tables is not None:
        standing = project.models.standing(name)
        return in_tables, history.versions.get(standing.version)
    number = number or history.current
    assert number is not None, "a model that a statement declared has a version"
    version = version_of(name, number, history)
    return version.declaration, version


def _identified(project: Project, declaration: ModelDeclaration) -> Identified:
    """What a declaration comes to, once it is known to be one. Raises as `carry_out` does."""
    spec = spec_of(declaration, project.settings)
    refuse_secrets(declaration)
    return identify(spec)


def _require_usable(project: Project, version: Version) -> None:
    spec = spec_of(version.declaration, project.settings)
    require_same_bytes(version, identify(spec), spec.label)


def _refuse_in_tables(project: Project, name: str, how: str) -> None:
    if name in project.declared_tables.models:
        origin = project.declared_tables.models[name].origin
        raise DeclarationError(
            f"model {name!r} is declared at {origin}, and a model has one place", next_step=f"{origin}: {how}"
        )


def _require_if_exists(project: Project, name: str, if_exists: bool) -> None:
    if not if_exists:
        raise UnknownName("model", name, project.model_registry.declarations, next_step="lakeflow models")


def _only(name: str, values: list[str]) -> str:
    if len(values) != 1:
        raise UsageError(f"model {name!r}: '{DEFAULT_VERSION}' is set and reset alone, in a statement of its own")
    return values[0]


def _live(project: Project) -> set[str]:
    return {name for name, history in project.model_log.histories().items() if history.is_live}


def _made(entry: Entry | None, *, is_new: bool) -> str:
    if entry is None:
        return "unchanged"
    if entry.event is Event.OPTIONS:
        return "changed"
    return "created" if is_new else "new version"


def _done(project: Project, statement: str, name: str, status: str) -> Outcome:
    history = project.model_log.histories().get(name, History())
    row = {
        "statement": statement,
        "model": name,
        "version": history.current,
        "default_version": history.default,
        "status": status,
    }
    return Outcome(DONE, (row,))
