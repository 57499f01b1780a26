"""`lakeflow models`: what CREATE MODEL declares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakeflow.cli import evaluate, model_cache
from lakeflow.cli.common import Format, OutputOption, ProjectOption, TargetOption, open_project, verbs
from lakeflow.cli.output import show_facts, show_json, show_rows
from lakeflow.errors import ModelError, UnknownName

if TYPE_CHECKING:
    from lakeflow.declare import ModelDeclaration
    from lakeflow.runner.project import Project

COLUMNS = ("name", "provider", "task", "input", "output", "declared")
LIST_HELP = """List the models. None is opened; lakeflow doctor opens them all.

Example:

  lakeflow models
"""
SHOW_HELP = """Show a model: its columns, its options, and the fingerprint of its files.

Example:

  lakeflow models show delay_classifier
"""


def register(app: typer.Typer) -> None:
    group = verbs("models", "List, show and evaluate models.", listed=True)
    group.command("list", help=LIST_HELP)(list_verb)
    group.command("show", help=SHOW_HELP)(show_verb)
    evaluate.register(group)
    model_cache.register(group)
    app.add_typer(group)


def list_verb(project: ProjectOption = None, target: TargetOption = None, output: OutputOption = Format.TEXT) -> None:
    declared = open_project(project, target).declared_tables.models
    show_rows([_listed(model) for model in declared.values()], COLUMNS, as_json=output is Format.JSON)


def show_verb(
    name: Annotated[str, typer.Argument(help="The model.")],
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    opened = open_project(project, target)
    declared = opened.declared_tables.models
    if name not in declared:
        raise UnknownName("model", name, declared, next_step="lakeflow models")
    model = declared[name]
    facts = _listed(model) | {"options": dict(model.options), "comment": model.comment, **_fingerprint(opened, name)}
    if output is Format.JSON:
        show_json(facts)
        return
    options = facts.pop("options")
    show_facts({**facts, **{f"'{option}'": value for option, value in options.items()}})


def _listed(model: ModelDeclaration) -> dict[str, Any]:
    return {
        "name": model.name,
        "provider": model.options.get("provider"),
        "task": model.options.get("task"),
        "input": [f"{field.name} {field.type}" for field in model.input],
        "output": [f"{field.name} {field.type}" for field in model.output],
        "declared": str(model.origin),
    }


def _fingerprint(project: Project, name: str) -> dict[str, str | None]:
    """The fingerprint, or why there is none."""
    try:
        return {"fingerprint": project.models.specs[name].fingerprint(), "problem": None}
    except ModelError as error:
        return {"fingerprint": None, "problem": error.message}
