"""What every verb takes, and how it opens the project."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakeflow.cli import output

if TYPE_CHECKING:
    from lakeflow.runner.project import Project


class Format(StrEnum):
    """How data is written to stdout."""

    TEXT = "text"
    JSON = "json"


ProjectOption = Annotated[
    Path | None,
    typer.Option("--project", help="The project's folder. Without it: this folder or the nearest above with a lakeflow.toml."),
]
TargetOption = Annotated[str | None, typer.Option("--target", help="The [target.NAME] of lakeflow.toml to run against.")]
OutputOption = Annotated[Format, typer.Option("--output", help="text for people, json for programs.")]


def open_project(folder: Path | None, target: str | None) -> Project:
    """The project that the options name. From here on its secrets are taken out of whatever is printed."""
    from lakeflow.runner.project import Project

    project = Project.open(folder, target=target)
    output.keep_secret(project.settings)
    return project
