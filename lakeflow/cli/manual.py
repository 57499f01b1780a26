"""docs/cli.md, made out of the verbs as they are registered.

python -m lakeflow.cli.manual > docs/cli.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from typer.core import TyperGroup
from typer.main import get_command

from lakeflow.cli.app import app

COMMON = ("--project", "--target", "--output")
HEAD = """# Commands

Every verb takes `--help`, and looks for its project from the current folder upward. (This page is generated from the
verbs: run `python -m lakeflow.cli.manual > docs/cli.md` after a change there.)

| option | |
| --- | --- |
| `--project DIR` | the project's folder, in place of the nearest one with a `lakeflow.toml` |
| `--target NAME` | run against the `[target.NAME]` of `lakeflow.toml` |
| `--output text\\|json` | text, or JSON: one document; `query`, `start`: an object a line; `run --follow`: one a round |
| `-v`, `-vv` | more log lines; stands before the verb: `lakeflow -v land` |

Data goes to stdout; logs, progress and errors go to stderr. A progress bar is shown on a terminal alone, and a question
is asked nowhere else.

| exit code | |
| --- | --- |
| 0 | done |
| 1 | a job or a check failed; `run --follow` and `start`: one was given up, even where a signal came after that |
| 2 | usage or configuration, where nothing failed for another reason |
| 130, 143 | ended by SIGINT or SIGTERM; the commit under way was finished first |
| as chosen | `--exit-on-empty N` of `land` and `run`: there was nothing to do |
"""


def documentation() -> str:
    """The page, as Markdown."""
    return "\n".join([HEAD, *(_section(words, command) for words, command in verbs())])


def verbs() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every verb that does something, with its command: ("init",), ("index", "build"), in the order of --help."""
    yield from _within((), get_command(app))


def _within(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(command, TyperGroup):
        for name, inner in command.commands.items():
            yield from _within((*words, name), inner)
    else:
        yield words, command


def _section(words: tuple[str, ...], command: Any) -> str:
    name = f"lakeflow {' '.join(words)}"
    with command.make_context(name, [], resilient_parsing=True) as context:
        pieces = [piece.strip("{}") for piece in command.collect_usage_pieces(context) if piece != "[OPTIONS]"]
        parameters = [_row(parameter, context) for parameter in command.params if _is_shown(parameter)]
    about, examples = parts_of(command.help)
    lines = [f"## {name}", "", about, "", f"    {' '.join([name, '[OPTIONS]', *pieces])}", ""]
    if parameters:
        lines += ["| argument or option | |", "| --- | --- |", *parameters, ""]
    others = [option for option in COMMON if _own_or_common(command, option)]
    if others:
        lines += [f"Takes {', '.join(f'`{option}`' for option in others)} too.", ""]
    return "\n".join([*lines, *(f"    {example}" for example in examples), ""])


def parts_of(help_text: str) -> tuple[str, list[str]]:
    """What a verb's help says, and its examples: the lines that begin with two blanks."""
    about, _, examples = help_text.partition("\n\nExample")
    return about, [line.strip() for line in examples.splitlines() if line.startswith("  ")]


def _is_shown(parameter: Any) -> bool:
    return parameter.param_type_name == "argument" or not _is_common(parameter)


def _is_common(parameter: Any) -> bool:
    """Whether the option is told of at the top of the page; query's --output has a value more."""
    return parameter.opts[0] in COMMON and "csv" not in (parameter.help or "")


def _own_or_common(command: Any, option: str) -> bool:
    return any(parameter.opts[0] == option and _is_common(parameter) for parameter in command.params)


def _row(parameter: Any, context: Any) -> str:
    name, text = parameter.get_help_record(context)
    return f"| `{_cell(name)}` | {_cell(text)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(documentation())
