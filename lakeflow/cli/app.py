"""`lakeflow VERB`: the verbs put together, and how a run ends.

Exit codes: 0 done; 1 a job or a check failed, or `run --follow` or `start` gave one up; 2 usage or configuration; 130 and 143
after SIGINT and SIGTERM; `--exit-on-empty N` of land and run for "nothing to do".
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from lakeflow.cli import (
    deadletters,
    demo,
    doctor,
    index,
    init,
    jobs,
    land,
    maintain,
    models,
    plan,
    produce,
    query,
    run,
    runs,
    search,
    serve,
    sql,
    start,
    state,
    status,
    tables,
    test,
)
from lakeflow.cli.common import exit_code_of
from lakeflow.cli.output import WithoutSecrets, show_error
from lakeflow.cli.signals import ended_by_sigterm
from lakeflow.errors import LakeflowError

FAILED = 1

app = typer.Typer(
    name="lakeflow",
    help="Kafka topics to Iceberg tables, jobs that run models over them, and search. Start with: lakeflow demo",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for verb in (
    init,
    demo,
    doctor,
    plan,
    land,
    deadletters,
    run,
    produce,
    start,
    query,
    sql,
    search,
    serve,
    index,
    tables,
    jobs,
    state,
    test,
    models,
    runs,
    status,
    maintain,
):
    verb.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"lakeflow {version('lakeflow')}\n")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="The version, and exit.")
    ] = False,
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, show_default=False, help="More log lines on stderr; twice for all.")
    ] = 0,
) -> None:
    level = {0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG)
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(WithoutSecrets("%(levelname)s %(name)s: %(message)s", traces=verbose > 1))
    logging.basicConfig(level=logging.WARNING, handlers=[lines])
    logging.getLogger("lakeflow").setLevel(level)
    logging.getLogger("lakeflow.topics.librdkafka").setLevel(level if verbose else logging.CRITICAL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line with the process's arguments, or those given; the exit code.

    A user's mistake shows no stack trace.
    """
    try:
        with ended_by_sigterm():
            app(arguments)
    except LakeflowError as error:
        show_error(error)
        return exit_code_of([error])
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else FAILED
    return 0
