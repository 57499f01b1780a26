"""How the SQL verb writes what is no query's rows, and when a pager takes a text."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from lakeflow.cli.rows import RowFormat
from lakeflow.cli.sql_output import expanded_lines, show_facts_of, show_lines, show_records
from lakeflow.cli.sql_pager import is_long, pager_command, show

ROWS: list[dict[str, Any]] = [{"name": "a", "rows": 1200}, {"name": "b", "rows": None}]


@pytest.mark.parametrize(
    ("form", "expanded", "written"),
    [
        (RowFormat.TEXT, False, "name   rows\na     1,200\nb         -\n"),
        (RowFormat.JSON, False, '{"name":"a","rows":1200}\n{"name":"b","rows":null}\n'),
        (RowFormat.CSV, False, "name,rows\na,1200\nb,\n"),
        (
            RowFormat.TEXT,
            True,
            "- row 1 ----------------\nname  a\nrows  1,200\n- row 2 ----------------\nname  b\nrows  -\n",
        ),
    ],
)
def test_records_are_written(form: RowFormat, expanded: bool, written: str, capsys: pytest.CaptureFixture[str]) -> None:
    show_records(ROWS, ("name", "rows"), form, expanded=expanded)
    assert capsys.readouterr().out == written


@pytest.mark.parametrize(
    ("form", "written"),
    [
        (RowFormat.TEXT, "\nmodel  price\n'a b'  1\nSHA-256 of f  00\n"),
        (RowFormat.CSV, "name,value\nmodel,price\n'a b',1\nSHA-256 of f,00\n"),
        (RowFormat.JSON, '{"model":"price","options":{"a b":"1"},"artifacts":{"f":"00"}}\n'),
    ],
)
def test_facts_are_written(form: RowFormat, written: str, capsys: pytest.CaptureFixture[str]) -> None:
    show_facts_of({"model": "price", "options": {"a b": "1"}, "artifacts": {"f": "00"}}, form)
    found = capsys.readouterr().out
    assert [" ".join(line.split()) for line in found.splitlines()] == [" ".join(line.split()) for line in written.splitlines()]


def test_lines_are_rows_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    for form in (RowFormat.TEXT, RowFormat.CSV, RowFormat.JSON):
        show_lines(["a, b", "c"], form, "plan")
    assert capsys.readouterr().out == 'a, b\nc\nplan\n"a, b"\nc\n{"plan":"a, b"}\n{"plan":"c"}\n'


def test_expanded_rows_are_as_wide_as_their_names() -> None:
    assert list(expanded_lines(["id", "customer"], [["1", "ann"]]))[1:] == ["id        1", "customer  ann"]
    assert list(expanded_lines([], [])) == []


@pytest.mark.parametrize(
    ("text", "long"), [("a\n" * 8, False), ("a\n" * 9, True), ("a" * 20, False), ("a" * 21, True), ("", False)]
)
def test_a_text_is_long_that_does_not_fit(text: str, long: bool) -> None:
    assert is_long(text, columns=20, lines=10) is long


def test_the_users_pager_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGER", "more -d 'a b'")
    assert pager_command() == ["more", "-d", "a b"]
    monkeypatch.setenv("PAGER", "")
    assert pager_command() == []


def test_long_texts_alone_go_through_the_pager(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "taken"
    monkeypatch.setenv("PAGER", f"tee {taken}")
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("LINES", "10")
    before = signal.getsignal(signal.SIGINT)
    show("short\n", paged=True)
    show("long\n" * 30, paged=False)
    assert not taken.exists()
    show("long\n" * 30, paged=True)
    assert taken.read_text() == "long\n" * 30
    assert signal.getsignal(signal.SIGINT) is before
    monkeypatch.setenv("PAGER", str(tmp_path / "none"))
    capfd.readouterr()
    show("long\n" * 30, paged=True)
    out, err = capfd.readouterr()
    assert out == "long\n" * 30
    assert "cannot be run: No such file or directory; \\pager off leaves it out" in err
