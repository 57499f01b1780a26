"""What is printed: aligned columns, JSON, sizes."""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from lakeflow.cli import output
from lakeflow.cli.output import aligned, cell_text, json_text, keep_secret, show_facts, show_json, show_rows, size_text
from lakeflow.config import settings_of


@pytest.fixture(autouse=True)
def forget_secrets() -> Iterator[None]:
    kept = list(output._settings)
    yield
    output._settings[:] = kept


def test_numbers_stand_to_the_right_and_texts_to_the_left() -> None:
    assert list(aligned(["name", "rows"], [["a", "1,000"], ["long name", "-"]])) == [
        "name        rows",
        "a          1,000",
        "long name      -",
    ]


def test_a_table_without_rows_is_its_header() -> None:
    assert list(aligned(["name", "rows"], [])) == ["name  rows"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "yes"),
        (1234567, "1,234,567"),
        (0.00012345, "0.0001234"),
        (12345678.9, "12,345,679"),
        ("two\nlines", "two lines"),
        ("", "-"),
        (["a", "b"], "a, b"),
        ((), "-"),
    ],
)
def test_cells(value: object, text: str) -> None:
    assert cell_text(value) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3 << 20, "3.0 MiB"), (5 << 40, "5.0 TiB")]
)
def test_sizes(size: int, text: str) -> None:
    assert size_text(size) == text


def test_json_is_json_for_every_kind_of_value() -> None:
    document = {
        "time": datetime(2013, 1, 2, 3, tzinfo=UTC),
        "bytes": b"\x00\xff",
        "nan": math.nan,
        "path": Path("a/b"),
        "text": "é",
    }
    assert json.loads(json_text(document)) == {
        "time": "2013-01-02T03:00:00Z",
        "bytes": "AP8=",
        "nan": None,
        "path": "a/b",
        "text": "é",
    }
    assert json_text(Decimal("12345678901234567890.10")) == "12345678901234567890.10"


def test_a_list_is_one_document_or_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"name": "a", "hidden": 1}]
    show_rows(rows, ["name"], as_json=True)
    show_rows(rows, ["name"], as_json=False)
    assert capsys.readouterr().out.splitlines() == ['[{"name":"a","hidden":1}]', "name", "a"]


def test_facts_stand_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    show_facts({"name": "a", "last_run": None})
    assert capsys.readouterr().out == "name      a\nlast_run  -\n"


def test_secrets_are_taken_out(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    document = {"kafka": {"bootstrap.servers": "b:9092", "sasl.password": "{{ secret.KAFKA }}"}}
    keep_secret(settings_of(document, tmp_path, None, {"LAKEFLOW_SECRET_KAFKA": "hunter-two"}))
    show_json({"said": "refused hunter-two"})
    output.note("refused hunter-two")
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"said": "refused ***"}
    assert captured.err == "refused ***\n"


def test_the_log_lines_of_libraries_hold_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "without_secrets", lambda text: text.replace("hunter2", "***"))
    record = logging.LogRecord("pyiceberg.io", logging.WARNING, __file__, 1, "no region for %s", ("hunter2",), None)
    assert output.WithoutSecrets("%(name)s: %(message)s").format(record) == "pyiceberg.io: no region for ***"


@pytest.mark.parametrize("traces", [True, False])
def test_a_library_s_trace_is_shown_on_request_only(traces: bool) -> None:
    try:
        raise FileNotFoundError("no manifest")
    except FileNotFoundError:
        record = logging.LogRecord("pyiceberg.table", logging.WARNING, "", 0, "not deleted", (), sys.exc_info())
    said = output.WithoutSecrets("%(message)s", traces=traces).format(record)
    assert said.splitlines()[0] == "not deleted"
    assert said.splitlines()[-1] == "FileNotFoundError: no manifest"
    assert ("Traceback" in said) is traces
