"""`lakeflow init`: a new project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lakeflow.cli.common import Format, OutputOption
from lakeflow.cli.output import note, show_json, show_text

HELP = """Make a new project in a folder: configuration, a declared table, a job.

Files that are there already stay as they are; a folder that has a lakeflow.toml is refused.

Examples:

  lakeflow init shop

  lakeflow init try-it --example flights
"""


def register(app: typer.Typer) -> None:
    app.command("init", help=HELP)(init)


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder, made where it is missing.")],
    example: Annotated[str | None, typer.Option("--example", help="Copy an example project: flights.")] = None,
    output: OutputOption = Format.TEXT,
) -> None:
    from lakeflow.cli.examples import example as example_files
    from lakeflow.cli.examples import template, write_project

    done = write_project(template() if example is None else example_files(example), folder)
    if output is Format.JSON:
        show_json({"project": str(folder.resolve()), "written": done.written, "kept": done.kept})
        return
    for path in done.written:
        show_text(f"wrote  {folder / path}")
    for path in done.kept:
        show_text(f"kept   {folder / path}")
    note(f"next: cd {folder} && lakeflow {'doctor' if example is None else 'demo'}")
