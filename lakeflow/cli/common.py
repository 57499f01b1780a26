"""What every verb takes, and how it opens the project."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from lakeflow.cli import output
from lakeflow.errors import LakeflowError, UsageError
from lakeflow.job import Job, Mode

if TYPE_CHECKING:
    from lakeflow.runner.graph import Node
    from lakeflow.runner.plan import Request
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

ModeOption = Annotated[Mode | None, typer.Option("--mode", help="Another mode than the job's own.")]
SnapshotOption = Annotated[int | None, typer.Option("--snapshot-id", help="Read this snapshot of the job's table.")]
AsOfOption = Annotated[
    datetime | None,
    typer.Option("--as-of", help="Read the job's lf.Read tables as of this moment, local time; its lookups as of now."),
]
IntoOption = Annotated[str | None, typer.Option("--into", help="Write to this table in place of the job's target.")]


class ListedByDefault(TyperGroup):
    """A group of verbs that means its `list` where none of them is named."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # typer's own Context
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


def verbs(name: str, help: str, *, listed: bool = False) -> typer.Typer:
    """A group of verbs under one name; with `listed`, the bare name means its `list`."""
    return typer.Typer(
        name=name,
        help=help,
        cls=ListedByDefault if listed else TyperGroup,
        no_args_is_help=not listed,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )


def open_project(folder: Path | None, target: str | None) -> Project:
    """The project that the options name. From here on its secrets are taken out of whatever is printed."""
    from lakeflow.runner.project import Project

    project = Project.open(folder, target=target)
    output.keep_secret(project.settings)
    return project


def request_of(mode: Mode | None, snapshot_id: int | None, as_of: datetime | None, into: str | None) -> Request:
    """How `run` and `plan` are asked to run a job. Raises UsageError where the options exclude each other."""
    from lakeflow.runner.plan import Request

    return Request(mode, snapshot_id, as_of.astimezone() if as_of else None, into)


def check_into(into: str | None, nodes: Sequence[Node]) -> None:
    """Raises UsageError where --into is given for anything but one job."""
    if into is not None and (len(nodes) != 1 or not isinstance(nodes[0].work, Job)):
        names = [node.name for node in nodes]
        raise UsageError(f"--into writes one job's rows to another table; {len(names)} were named: {', '.join(names)}")


def exit_code_of(errors: Sequence[LakeflowError]) -> int:
    """The exit code of a verb that went on past these failures: 0 without one, 2 where each is a UsageError, else 1."""
    if not errors:
        return 0
    return 2 if all(isinstance(error, UsageError) for error in errors) else 1
