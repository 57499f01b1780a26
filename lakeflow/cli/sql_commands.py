"""The commands of the SQL shell that begin with a backslash, and when what was typed is a whole. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lakeflow.cli.rows import RowFormat
from lakeflow.errors import DeclarationError, UnknownName, UsageError

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "\\d": ("[TABLE]", "tables, or the columns of one"),
    "\\dm": ("[MODEL]", "models, or INPUT and OUTPUT of one"),
    "\\di": ("[INDEX]", "vector indexes, or what is known of one"),
    "\\dj": ("", "jobs"),
    "\\i": ("FILE", "run the statements of a file"),
    "\\x": ("[on|off]", "a row as lines of name and value"),
    "\\timing": ("[on|off]", "how long statements take"),
    "\\pager": ("[on|off]", "long results go through $PAGER"),
    "\\format": ("[text|json|csv]", "how rows are written"),
    "\\limit": ("[ROWS]", "how many rows are shown as text"),
    "\\?": ("", "this list"),
    "\\q": ("", "leave, as Ctrl-D does"),
}
"""What each takes, and what it does."""

STATEMENT_SETS: Final = (("BEGIN", "STATEMENT", "SET"), ("EXECUTE", "STATEMENT", "SET"))


@dataclass(frozen=True, slots=True)
class Statements:
    """Statements that a command stands for, as text."""

    text: str


@dataclass(frozen=True, slots=True)
class RunFile:
    """\\i FILE."""

    file: str


@dataclass(frozen=True, slots=True)
class Switch:
    """\\x, \\timing, \\pager: on, off, or the other way round (None)."""

    name: str
    on: bool | None


@dataclass(frozen=True, slots=True)
class SetFormat:
    """\\format; None shows which it is."""

    form: RowFormat | None


@dataclass(frozen=True, slots=True)
class SetLimit:
    """\\limit; None shows what it is."""

    rows: int | None


@dataclass(frozen=True, slots=True)
class Help:
    """\\?."""


@dataclass(frozen=True, slots=True)
class Quit:
    """\\q."""


Command = Statements | RunFile | Switch | SetFormat | SetLimit | Help | Quit


def read_command(line: str) -> Command:
    """The command that a line holds. Raises UnknownName, UsageError for what it cannot take."""
    name, *arguments = line.strip().rstrip(";").split(maxsplit=1) or [""]
    argument = arguments[0].strip() if arguments else ""
    if name not in COMMANDS:
        raise UnknownName("command", name, COMMANDS, next_step="\\?")
    takes = COMMANDS[name][0]
    if argument and not takes:
        raise UsageError(f"{name} takes nothing; found {argument!r}")
    match name:
        case "\\d":
            return Statements(f"DESCRIBE TABLE EXTENDED {argument}" if argument else "SHOW TABLES")
        case "\\dm":
            return Statements(f"DESCRIBE MODEL EXTENDED {argument}" if argument else "SHOW MODELS")
        case "\\di":
            return Statements(f"DESCRIBE VECTOR INDEX {argument}" if argument else "SHOW VECTOR INDEXES")
        case "\\dj":
            return Statements("SHOW JOBS")
        case "\\i":
            if not argument:
                raise UsageError("\\i takes a file", next_step="\\i report.sql")
            return RunFile(argument)
        case "\\format":
            return SetFormat(_form(argument))
        case "\\limit":
            return SetLimit(_rows(argument))
        case "\\?":
            return Help()
        case "\\q":
            return Quit()
        case _:
            return Switch(name, _on(name, argument))


def _form(argument: str) -> RowFormat | None:
    if argument and argument not in list(RowFormat):
        raise UnknownName("format", argument, list(RowFormat))
    return RowFormat(argument) if argument else None


def _rows(argument: str) -> int | None:
    if argument and not (argument.isdecimal() and int(argument) > 0):
        raise UsageError(f"\\limit takes a number of rows from 1 on; found {argument!r}")
    return int(argument) if argument else None


def _on(name: str, argument: str) -> bool | None:
    if argument not in ("", "on", "off"):
        raise UsageError(f"{name} takes on or off, or nothing for the other; found {argument!r}")
    return argument == "on" if argument else None


def help_lines() -> list[str]:
    """What `\\?` shows."""
    heads = {f"{name} {takes}".strip(): what for name, (takes, what) in COMMANDS.items()}
    width = max(map(len, heads))
    return [
        "Statements end with ; and may take several lines. Tab completes, Ctrl-C cancels, Ctrl-D leaves.",
        "",
        *(f"{head:<{width}}  {what}" for head, what in heads.items()),
    ]


def is_whole(text: str) -> bool:
    """Whether what was typed can be run: nothing, a command, or statements of which the last has its `;`."""
    from lakeflow.sql.tokens import Source, tokenize

    stripped = text.strip()
    if not stripped or stripped.startswith("\\"):
        return True
    try:
        *tokens, _ = tokenize(Source(text))
    except DeclarationError:
        return False
    words = [token.upper for token in tokens]
    whole, first, in_set, cases = False, 0, False, 0
    for at, token in enumerate(tokens):
        in_set = in_set or (at == first and tuple(words[at : at + 3]) in STATEMENT_SETS)
        cases += words[at] == "CASE"
        whole = token.is_symbol(";") and (not in_set or (words[at - 1] == "END" and cases < 0))
        cases -= words[at] == "END"
        if whole:
            first, in_set, cases = at + 1, False, 0
    return whole
