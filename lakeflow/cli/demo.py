"""`lakeflow demo`: runs the script that a project names for it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lakeflow.cli.common import Format, OutputOption, ProjectOption
from lakeflow.cli.output import note
from lakeflow.cli.signals import StopSignals
from lakeflow.errors import ConfigError, UsageError

if TYPE_CHECKING:
    import subprocess

    from lakeflow.config import Settings

EXAMPLE = "flights"
WATCH_SECONDS = 0.2
HELP = """Run the whole flow at once: the script that the project names under [project] demo.

In an empty folder the example project is written first: flights out of New York, landed from a topic, scored by a model,
and a documentation search.

Example:

  mkdir try-it && cd try-it && lakeflow demo
"""


def register(app: typer.Typer) -> None:
    app.command("demo", help=HELP)(demo)


def demo(project: ProjectOption = None, output: OutputOption = Format.TEXT) -> None:
    import os

    from lakeflow.config import load_settings

    settings = load_settings(project_for_demo(project), None, os.environ)
    arguments = ["--output", "json"] if output is Format.JSON else []
    code = run_script(demo_script(settings), arguments, settings.root)
    if code:
        raise typer.Exit(code)


def project_for_demo(folder: Path | None) -> Path:
    """The project's folder; the example project is written where the folder is empty. Raises UsageError where it is not."""
    from lakeflow.cli.examples import example, write_project
    from lakeflow.config import CONFIG_FILE, find_project

    if folder is None:
        try:
            return find_project(Path.cwd())
        except ConfigError:
            folder = Path.cwd()
    elif (folder / CONFIG_FILE).is_file():
        return folder
    if folder.is_dir() and (there := sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))):
        raise UsageError(
            f"{folder} is no project and not empty: it holds {', '.join(there[:5])}{' ..' if len(there) > 5 else ''}",
            next_step="lakeflow demo in an empty folder, or lakeflow init DIR for a new project",
        )
    write_project(example(EXAMPLE), folder)
    note(f"the example project {EXAMPLE} is in {folder}")
    return folder


def demo_script(settings: Settings) -> Path:
    """The script of the project's demo. Raises ConfigError where none is named or it is not there."""
    from lakeflow.config import CONFIG_FILE

    file = settings.root / CONFIG_FILE
    if settings.project.demo is None:
        raise ConfigError(
            f"{file}: [project] names no demo",
            next_step='add demo = "path/to/script.py" under [project], or run lakeflow demo in an empty folder',
        )
    script = settings.root / settings.project.demo
    if not script.is_file():
        raise ConfigError(f"{file}: demo in [project] is {settings.project.demo!r}, and {script} is no file")
    return script


def run_script(script: Path, arguments: list[str], folder: Path) -> int:
    """Run a script with this interpreter in `folder`; the exit code. A signal is handed on to it, and it is waited for."""
    import subprocess

    with StopSignals() as signals:
        process = subprocess.Popen([sys.executable, str(script), *arguments], cwd=folder)
        told = False
        try:
            while (code := _ended(process)) is None:
                if signals.requested() and not told:
                    process.terminate()
                    told = True
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if signals.requested():
        return signals.exit_code
    return code if code >= 0 else 128 - code


def _ended(process: subprocess.Popen[bytes]) -> int | None:
    """The exit code, or None after a short wait."""
    import subprocess

    try:
        return process.wait(WATCH_SECONDS)
    except subprocess.TimeoutExpired:
        return None
