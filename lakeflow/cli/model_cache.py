"""`lakeflow models cache`: the kept answers of remote models."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakeflow.cli.common import Format, OutputOption, ProjectOption, TargetOption, open_project, verbs
from lakeflow.cli.output import note, show_json, show_rows
from lakeflow.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from lakeflow.models.cache import Kept
    from lakeflow.runner.project import Project

COLUMNS = ("model", "answers", "bytes", "tokens", "oldest", "newest")
STATS_HELP = """What the cache of answers holds, a line a model: the file or the database that cache in [models] names.

Example:

  lakeflow models cache stats
"""
CLEAR_HELP = """Forget kept answers: those of one model, or with --yes all. A run that needs them pays for them again.

A file that cannot be read is deleted.

Examples:

  lakeflow models cache clear triage

  lakeflow models cache clear --yes
"""


def register(group: typer.Typer) -> None:
    cache = verbs("cache", "The kept answers of remote models.")
    cache.command("stats", help=STATS_HELP)(stats)
    cache.command("clear", help=CLEAR_HELP)(clear)
    group.add_typer(cache)


def stats(project: ProjectOption = None, target: TargetOption = None, output: OutputOption = Format.TEXT) -> None:
    kept = open_project(project, target).answers.stats()
    show_rows([_row(one) for one in kept], COLUMNS, as_json=output is Format.JSON)


def clear(
    model: Annotated[str | None, typer.Argument(help="The model; without it, all.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Forget the answers of all models.")] = False,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    opened = open_project(project, target)
    if (model is None) is not yes:
        raise UsageError(
            "name one model, or say --yes for the answers of all models",
            next_step="lakeflow models cache stats shows what there is",
        )
    if model is not None:
        _require_known(opened, model)
    gone = opened.answers.clear(model)
    if output is Format.JSON:
        show_json({"model": model, "forgotten": gone})
    else:
        note(f"{gone} answers are forgotten")


def _require_known(project: Project, model: str) -> None:
    """Answers of a model that was dropped may be there still, and a model that is declared may have none."""
    if model in project.declared_tables.models:
        return
    kept = [one.model for one in project.answers.stats()]
    if model not in kept and model not in (declared := list(project.model_names())):
        raise UnknownName("model", model, {*kept, *declared}, next_step="lakeflow models cache stats")


def _row(kept: Kept) -> dict[str, Any]:
    return {
        "model": kept.model,
        "answers": kept.answers,
        "bytes": kept.bytes,
        "tokens": kept.tokens,
        "oldest": datetime.fromtimestamp(kept.oldest, UTC),
        "newest": datetime.fromtimestamp(kept.newest, UTC),
    }
