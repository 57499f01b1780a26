"""`lakeflow doctor`: what is reachable, and where each setting comes from."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from lakeflow.cli.common import Format, OutputOption, ProjectOption, TargetOption, open_project
from lakeflow.cli.output import cell_text, show_json, show_table, show_text
from lakeflow.errors import LakeflowError

if TYPE_CHECKING:
    from lakeflow.config import Settings
    from lakeflow.observe.health import Check

ASK_SECONDS = 5.0
FAILED, MISCONFIGURED = 1, 2
LIBRARIES = ("lakeflow", "pyiceberg", "pyarrow", "polars", "confluent-kafka", "onnxruntime", "lancedb", "duckdb", "sqlglot")
HELP = """Try everything that the project needs, and say what to do where something fails.

Shows each setting and where it comes from, too. Exits with 1 where a check failed, and with 2 where the configuration did.

Examples:

  lakeflow doctor

  lakeflow doctor --target servers --output json
"""


def register(app: typer.Typer) -> None:
    app.command("doctor", help=HELP)(doctor)


def doctor(project: ProjectOption = None, target: TargetOption = None, output: OutputOption = Format.TEXT) -> None:
    from lakeflow.observe.health import Check, State, attempt, checks

    as_json = output is Format.JSON
    found: list[Check] = []

    def tell(check: Check) -> None:
        found.append(check)
        if not as_json:
            _show_check(check)

    try:
        opened = open_project(project, target)
    except LakeflowError as error:
        tell(Check("configuration", State.FAILED, error.message, error.next_step))
        if as_json:
            _show_document(found, [])
        raise typer.Exit(MISCONFIGURED) from error
    settings = opened.settings
    tell(attempt("configuration", lambda: f"{settings.root}/lakeflow.toml, target {settings.target or 'none'}"))
    for check in checks(opened, timeout=min(ASK_SECONDS, settings.run.connect_seconds)):
        tell(check)
    if as_json:
        _show_document(found, list(settings_rows(settings)))
    else:
        show_text("")
        show_table(settings_rows(settings), ("setting", "value", "from"))
        show_text("")
        show_text(", ".join(f"{name} {version}" for name, version in versions().items()))
    if any(check.state is State.FAILED for check in found):
        raise typer.Exit(FAILED)


def _show_check(check: Check) -> None:
    show_text(f"{check.state:<14}  {check.name}: {cell_text(check.detail)}")
    if check.next_step:
        show_text(f"{'':<14}  next: {check.next_step}")
    sys.stdout.flush()


def _show_document(found: Iterable[Check], settings: list[dict[str, Any]]) -> None:
    from lakeflow.observe.health import State

    rows = [asdict(check) for check in found]
    ok = all(row["state"] != State.FAILED for row in rows)
    show_json({"ok": ok, "checks": rows, "settings": settings, "versions": versions()})


def settings_rows(settings: Settings) -> Iterable[dict[str, Any]]:
    """Every setting that has a value, with where it comes from; secrets masked."""
    values = _shown(settings)
    for key, origin in settings.origins.items():
        if values.get(key) is not None:
            yield {"setting": key, "value": str(values[key]), "from": origin}


def _shown(settings: Settings) -> dict[str, Any]:
    """ "section.key" -> what may be seen of its value."""
    opened = {
        "catalog": settings.catalog,
        "kafka": settings.kafka,
        "registry": settings.registry,
        "index.storage": settings.index.storage,
    }
    values: dict[str, Any] = {f"{name}.{key}": text for name, part in opened.items() for key, text in part.shown.items()}
    for name, closed in (("project", settings.project), ("run", settings.run)):
        values |= {f"{name}.{key}": value for key, value in asdict(closed).items()}
    return values | {"index.uri": settings.index.uri, "secrets.dir": settings.environment.folder}


def versions() -> dict[str, str]:
    """Python's version and those of the main libraries; "missing" where one is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found
