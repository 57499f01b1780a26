"""Backslash commands of the SQL shell, and when what was typed is a whole."""

from __future__ import annotations

import pytest

from lakeflow.cli.rows import RowFormat
from lakeflow.cli.sql_commands import (
    COMMANDS,
    Command,
    Help,
    Quit,
    RunFile,
    SetFormat,
    SetLimit,
    Statements,
    Switch,
    help_lines,
    is_whole,
    read_command,
)
from lakeflow.errors import UsageError


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("\\d", Statements("SHOW TABLES")),
        ("\\d bronze.orders;", Statements("DESCRIBE TABLE EXTENDED bronze.orders")),
        ('  \\d bronze."Or ders" ', Statements('DESCRIBE TABLE EXTENDED bronze."Or ders"')),
        ("\\dm", Statements("SHOW MODELS")),
        ("\\dm price$2", Statements("DESCRIBE MODEL EXTENDED price$2")),
        ("\\di", Statements("SHOW VECTOR INDEXES")),
        ("\\di docs", Statements("DESCRIBE VECTOR INDEX docs")),
        ("\\dj", Statements("SHOW JOBS")),
        ("\\i my report.sql", RunFile("my report.sql")),
        ("\\x", Switch("\\x", None)),
        ("\\timing off", Switch("\\timing", on=False)),
        ("\\pager on", Switch("\\pager", on=True)),
        ("\\format csv", SetFormat(RowFormat.CSV)),
        ("\\format", SetFormat(None)),
        ("\\limit 20", SetLimit(20)),
        ("\\limit", SetLimit(None)),
        ("\\?", Help()),
        ("\\q", Quit()),
    ],
)
def test_a_command_is_read(line: str, command: Command) -> None:
    assert read_command(line) == command


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("\\dd", "unknown command '\\\\dd'"),
        ("\\", "unknown command"),
        ("\\q now", "\\q takes nothing; found 'now'"),
        ("\\i", "\\i takes a file"),
        ("\\x maybe", "\\x takes on or off, or nothing for the other; found 'maybe'"),
        ("\\format xml", "unknown format 'xml'"),
        ("\\limit 0", "\\limit takes a number of rows from 1 on; found '0'"),
        ("\\limit many", "found 'many'"),
    ],
)
def test_a_slip_is_told(line: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_command(line)
    assert said in str(refused.value)


def test_help_names_every_command() -> None:
    lines = help_lines()
    assert all(any(line.startswith(name) for line in lines) for name in COMMANDS)


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("", True),
        ("  \n", True),
        ("\\d", True),
        ("SELECT 1", False),
        ("SELECT 1;", True),
        ("SELECT 1; -- done", True),
        ("SELECT 1; SELECT 2", False),
        ("SELECT 1;\nSELECT 2;", True),
        ("SELECT ';", False),
        ("SELECT ';';", True),
        ("SELECT 1 -- ;", False),
        ("SELECT 1 /* ;", False),
        ('SELECT "a;', False),
        ("-- nothing yet", False),
        ("BEGIN STATEMENT SET;", False),
        ("BEGIN STATEMENT SET; INSERT INTO a SELECT 1;", False),
        ("BEGIN STATEMENT SET; INSERT INTO a SELECT CASE WHEN true THEN 1 END;", False),
        ("BEGIN STATEMENT SET; INSERT INTO a SELECT CASE WHEN true THEN 1 END; END;", True),
        ("EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1; END;", True),
        ("SELECT 1; begin statement set; INSERT INTO a SELECT 1;", False),
        ("SELECT CASE WHEN true THEN 1 END;", True),
    ],
)
def test_what_is_whole_is_run(text: str, whole: bool) -> None:
    assert is_whole(text) is whole
