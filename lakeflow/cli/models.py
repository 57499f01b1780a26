"""`lakeflow models`: what CREATE MODEL declares, and its versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakeflow.cli import evaluate, model_cache
from lakeflow.cli.common import Format, OutputOption, ProjectOption, TargetOption, open_project, verbs
from lakeflow.cli.output import show_facts, show_json, show_rows
from lakeflow.errors import ModelError, UnknownName, UsageError

if TYPE_CHECKING:
    from lakeflow.declare import ModelDeclaration
    from lakeflow.models.versions import History, Version
    from lakeflow.runner.project import Project

COLUMNS = ("name", "version", "versions", "provider", "task", "input", "output", "declared")
VERSIONS = ("name", "version", "default", "created", "provider", "task", "fingerprint", "what", "comment")
FINGERPRINT = 12
"""Characters of a fingerprint that people are shown."""
LIST_HELP = """List the models, and which version each name means. None is opened; lakeflow doctor opens them all.

Example:

  lakeflow models
"""
SHOW_HELP = """Show a model: its columns, its options, the fingerprint of its files, and whether a new version of it is due.

Examples:

  lakeflow models show delay_classifier

  lakeflow models show 'delay_classifier$1'
"""
VERSIONS_HELP = """List the versions of a model, or of all, in the order in which they were made.

Each with what changed since the one before, and which one the name means by itself. They are kept in the table
lakeflow.models.

Example:

  lakeflow models versions delay_classifier
"""
REGISTER_HELP = """Make what is declared now a version, where it is none, without running anything.

A run does so by itself for the models that it asks; this is for a version that is to be evaluated first, or made the default.

Examples:

  lakeflow models register

  lakeflow models register delay_classifier
"""

Row = dict[str, Any]


def register(app: typer.Typer) -> None:
    group = verbs("models", "List, show and evaluate models and their versions.", listed=True)
    group.command("list", help=LIST_HELP)(list_verb)
    group.command("show", help=SHOW_HELP)(show_verb)
    group.command("versions", help=VERSIONS_HELP)(versions_verb)
    group.command("register", help=REGISTER_HELP)(register_verb)
    evaluate.register(group)
    model_cache.register(group)
    app.add_typer(group)


def list_verb(project: ProjectOption = None, target: TargetOption = None, output: OutputOption = Format.TEXT) -> None:
    opened = open_project(project, target)
    registry = opened.model_registry
    rows = [_listed(model, registry.history(name)) for name, model in sorted(registry.declarations.items())]
    show_rows(rows, COLUMNS, as_json=output is Format.JSON)


def show_verb(
    name: Annotated[str, typer.Argument(help="The model, or a version of it, as 'm$2'.")],
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    from lakeflow.models.versions import reference, version_of

    opened = open_project(project, target)
    asked = reference(name)
    if asked.every:
        raise UsageError(f"{name!r} stands for all versions", next_step=f"lakeflow models versions {asked.name}")
    history = opened.model_registry.history(asked.name)
    model = opened.model_registry.declaration(asked.name)
    if asked.version is None:
        stands = _standing(opened, asked.name)
    else:
        version = version_of(asked.name, asked.version, history)
        model, stands = version.declaration, _as_made(version)
    facts = _listed(model, history) | {"options": dict(model.options), "comment": model.comment, **stands}
    if output is Format.JSON:
        show_json(facts)
        return
    options = facts.pop("options")
    show_facts({**facts, **{f"'{option}'": value for option, value in options.items()}})


def versions_verb(
    name: Annotated[str | None, typer.Argument(help="The model; without it, all.")] = None,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    opened = open_project(project, target)
    registry = opened.model_registry
    histories = {known: history for known, history in registry.histories().items() if history.is_live}
    if name is not None and name not in {*histories, *registry.declarations}:
        raise UnknownName("model", name, {*histories, *registry.declarations}, next_step="lakeflow models")
    chosen = sorted(histories.items()) if name is None else [(name, histories.get(name, registry.histories().get(name)))]
    rows = [row for known, history in chosen if history for row in _versions(known, history)]
    if output is Format.JSON:
        show_json(rows)
    else:
        show_rows([{**row, "fingerprint": row["fingerprint"][:FINGERPRINT]} for row in rows], VERSIONS, as_json=False)


def register_verb(
    names: Annotated[list[str] | None, typer.Argument(help="Models; without any, all.")] = None,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    from lakeflow.models.versions import Due

    opened = open_project(project, target)
    for name in names or ():
        opened.model_registry.history(name)
    rows: list[Row] = []
    for name in names or opened.models.names:
        found = opened.models.register(name)
        due = isinstance(found, Due)
        rows.append(
            {
                "name": name,
                "version": found.version,
                "status": "new version" if due else "unchanged",
                "why": found.why if isinstance(found, Due) else None,
            }
        )
    show_rows(rows, ("name", "version", "status", "why"), as_json=output is Format.JSON)


def _listed(model: ModelDeclaration, history: History) -> Row:
    options = {name.lower(): value for name, value in model.options.items()}
    return {
        "name": model.name,
        "version": history.default or history.current,
        "versions": len(history.versions),
        "provider": options.get("provider"),
        "task": options.get("task"),
        "input": [f"{field.name} {field.type}" for field in model.input],
        "output": [f"{field.name} {field.type}" for field in model.output],
        "declared": str(model.origin),
    }


def _standing(project: Project, name: str) -> Row:
    """Fingerprint, version and what is due, or why that cannot be told."""
    try:
        standing = project.models.standing(name)
        return {
            "version": standing.version,
            "default_version": standing.default,
            "due": standing.due,
            "fingerprint": standing.fingerprint,
            "problem": None,
        }
    except ModelError as error:
        return {"fingerprint": None, "due": None, "problem": error.message}


def _as_made(version: Version) -> Row:
    hashes = {f"SHA-256 of {name}": found for name, found in version.identified.artifacts.items()}
    return {
        "version": version.number,
        "created": version.created_at,
        "fingerprint": version.identified.fingerprint,
        **hashes,
    }


def _versions(name: str, history: History) -> list[Row]:
    from lakeflow.models.versions import changed

    rows: list[Row] = []
    before: Version | None = None
    for number, version in sorted(history.versions.items()):
        options = {option.lower(): value for option, value in version.declaration.options.items()}
        what = "the first that there is" if before is None else changed(before, version.declaration, version.identified)
        rows.append(
            {
                "name": name,
                "version": number,
                "default": number == history.default or (history.default is None and number == history.current),
                "created": version.created_at,
                "provider": options.get("provider"),
                "task": options.get("task"),
                "fingerprint": version.identified.fingerprint,
                "what": what,
                "comment": version.declaration.comment,
                "options": dict(version.declaration.options),
                "artifacts": dict(version.identified.artifacts),
            }
        )
        before = version
    return rows
