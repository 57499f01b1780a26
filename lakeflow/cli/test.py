"""`lakeflow test`: jobs over given rows, held against the rows that are expected of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakeflow.cli.common import Format, OutputOption, ProjectOption, TargetOption, open_project
from lakeflow.cli.output import aside, show_json, show_table, show_text
from lakeflow.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from lakeflow.runner.job_testing import Outcome
    from lakeflow.runner.job_tests import JobTest
    from lakeflow.runner.project import Project

COLUMNS = ("job", "test", "run", "status", "seconds")
HELP = """Run the tests of jobs: files jobs/NAME.test.yaml with the rows that tables hold and those that the target must hold.

Each runs in a lake of its own in a temporary folder; no catalog, topic or service is touched. An incremental job runs over all
rows at once and over each row as it comes, and must end in the same table. Exits with 1 where a test fails.

Examples:

  lakeflow test

  lakeflow test late_flights --output json
"""


def register(app: typer.Typer) -> None:
    app.command("test", help=HELP)(run_tests)


def run_tests(
    jobs: Annotated[list[str] | None, typer.Argument(help="Only tests of these jobs.")] = None,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    from lakeflow.runner.job_testing import run_test

    opened = open_project(project, target)
    chosen = _chosen(opened, jobs or [])
    with aside():
        outcomes = [outcome for one in chosen for outcome in run_test(one, opened.settings)]
    if output is Format.JSON:
        show_json([_row(outcome) | _differing(outcome) for outcome in outcomes])
    else:
        show_table([_row(outcome) for outcome in outcomes], COLUMNS)
        for outcome in outcomes:
            _show_failure(outcome)
    raise typer.Exit(0 if all(outcome.passed for outcome in outcomes) else 1)


def _chosen(project: Project, names: Sequence[str]) -> list[JobTest]:
    """The tests of the jobs named, or all. Raises UnknownName, UsageError where there is none."""
    from lakeflow.runner.job_tests import SUFFIX, load_tests
    from lakeflow.runner.load import JOBS

    root = project.settings.root
    found = load_tests(root / JOBS, root)
    for name in names:
        if name not in project.declarations.jobs:
            raise UnknownName("job", name, project.declarations.jobs, next_step="lakeflow jobs")
    chosen = [one for one in found if not names or one.job in names]
    if not chosen:
        name = names[0] if names else "NAME"
        raise UsageError(f"there are no tests of {', '.join(names) or 'jobs'}", next_step=f"write {JOBS}/{name}{SUFFIX}")
    return chosen


def _row(outcome: Outcome) -> dict[str, Any]:
    status = "passed" if outcome.passed else "error" if outcome.error else "failed"
    seconds = round(outcome.seconds, 2)
    return {"job": outcome.test.job, "test": outcome.test.name, "run": outcome.run, "status": status, "seconds": seconds}


def _differing(outcome: Outcome) -> dict[str, Any]:
    return {
        "path": str(outcome.test.path),
        "missing": list(outcome.diff.missing),
        "unexpected": list(outcome.diff.unexpected),
        "error": str(outcome.error) if outcome.error else None,
    }


def _show_failure(outcome: Outcome) -> None:
    if outcome.passed:
        return
    show_text(f"\n{outcome.test.path}: {outcome.test.name}, {outcome.run}")
    if outcome.error is not None:
        show_text(str(outcome.error))
        return
    show_text("~ differs, - expected and not there, + there and not expected:")
    for line in outcome.diff.lines():
        show_text(f"  {line}")
