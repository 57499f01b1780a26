"""Files of tests: what they say, and where they are wrong."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from textwrap import dedent
from typing import Any

import pyarrow as pa
import pytest

from lakeflow.errors import DeclarationError, LakeflowError, SchemaMismatch, UnknownName
from lakeflow.runner import job_tests
from lakeflow.runner.job_testing import arrow_of
from lakeflow.runner.job_tests import JobTest, Rows, load_tests

PATH = Path("jobs/late.test.yaml")


def read(text: str) -> tuple[JobTest, ...]:
    return tuple(job_tests.tests_of(dedent(text), PATH))


def test_a_file_says_what_tables_hold_what_models_answer_and_what_comes_of_it() -> None:
    [found] = read(
        """
        tests:
          - name: on time
            given:
              - table: bronze.flights
                columns: {carrier: STRING, delay: DOUBLE}
                rows: [{carrier: NO, delay: 1.5}, {carrier: yes, delay: ~}]
              - {table: dim.carriers, sql: SELECT 1 AS a}
            models: {m: [{delay: 1.5, late: true}, {late: false}]}
            expect: {rows: [{carrier: NO}]}
            row_by_row: false
        """
    )
    assert found == JobTest(
        "on time",
        "late",
        PATH,
        {
            "bronze.flights": Rows(
                ({"carrier": "NO", "delay": 1.5}, {"carrier": "yes", "delay": None}),
                None,
                {"carrier": "STRING", "delay": "DOUBLE"},
            ),
            "dim.carriers": Rows((), "SELECT 1 AS a"),
        },
        Rows(({"carrier": "NO"},)),
        {"m": ({"delay": 1.5, "late": True}, {"late": False})},
        False,
    )


def test_a_file_may_name_its_job_and_hold_several_tests() -> None:
    found = read("{job: other, tests: [{name: a, given: [], expect: {rows: []}}, {name: b, given: [], expect: {rows: []}}]}")
    assert [(one.job, one.name) for one in found] == [("other", "a"), ("other", "b")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1", "late.test.yaml:1:6: this is no YAML"),
        ("{tests: [], tests: []}", "key 'tests' comes twice"),
        ("[1]", "jobs/late.test.yaml is [1]; valid: names with values"),
        ("job: late", "tests is missing; valid: a list"),
        ("testz: []", "unknown key 'testz'; did you mean 'tests'?"),
        ("tests: [{given: []}]", "test 1: name is missing"),
        ("tests: [{name: a}]", "given is missing"),
        ("tests: [{name: a, given: []}]", "test 'a': nothing is expected"),
        ("tests: [{name: a, given: [], expect: {}}]", "valid: rows: [..], or sql: SELECT .."),
        ("tests: [{name: a, given: [{table: t}], expect: {rows: []}}]", "table t: valid: rows"),
        ("tests: [{name: a, given: [{table: t, rows: [3]}], expect: {rows: []}}]", "table t: a row is 3"),
        (
            "tests: [{name: a, given: [{table: t, rows: []}, {table: t, rows: []}], expect: {rows: []}}]",
            "table t is given twice",
        ),
        ("tests: [{name: a, given: [], expect: {rows: []}, row_by_row: never}]", "row_by_row is 'never'; valid: true, false"),
        ("tests: [{name: a, given: [], expect: {rows: []}}, {name: a, given: [], expect: {rows: []}}]", "called 'a'"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_place(text: str, said: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        read(text)
    assert said in str(caught.value)
    assert "jobs/late.test.yaml" in str(caught.value)


def test_files_stand_at_any_depth_and_come_in_order(tmp_path: Path) -> None:
    text = "tests: [{name: a, given: [], expect: {rows: []}}]"
    for name in ("b.test.yaml", "sub/a.test.yaml", "c.yaml"):
        path = tmp_path / "jobs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    found = load_tests(tmp_path / "jobs", tmp_path)
    assert [(one.job, str(one.path)) for one in found] == [("b", "jobs/b.test.yaml"), ("a", "jobs/sub/a.test.yaml")]


@pytest.mark.parametrize(
    ("value", "arrow", "expected"),
    [
        ("2013-01-01T05:00:00", pa.timestamp("us", "UTC"), datetime(2013, 1, 1, 5, tzinfo=UTC)),
        (datetime(2013, 1, 1, 5), pa.timestamp("us", "UTC"), datetime(2013, 1, 1, 5, tzinfo=UTC)),
        ("2013-01-01T05:00:00+02:00", pa.timestamp("us"), datetime(2013, 1, 1, 3)),
        (date(2013, 1, 1), pa.timestamp("us"), datetime(2013, 1, 1)),
        ("2013-01-01", pa.date32(), date(2013, 1, 1)),
        ("1.10", pa.decimal128(5, 2), Decimal("1.10")),
        (1.1, pa.decimal128(5, 2), Decimal("1.10")),
        (2, pa.float64(), 2.0),
        ("é", pa.binary(), "é".encode()),
        (None, pa.int64(), None),
    ],
)
def test_values_become_what_their_column_holds(value: Any, arrow: pa.DataType, expected: Any) -> None:
    table = arrow_of(Rows(({"x": value},)), pa.schema([("x", arrow)]), "here")
    assert table.to_pylist() == [{"x": expected}]


@pytest.mark.parametrize(
    ("rows", "kind", "said"),
    [
        (Rows(({"y": 1},)), UnknownName, "unknown column, in here: 'y'"),
        (Rows(({"x": "a"},)), SchemaMismatch, "here: a value does not fit its column"),
        (Rows(sql="SELECT 1 AS y"), SchemaMismatch, "has no column 'y'"),
    ],
)
def test_rows_that_do_not_fit_are_told(rows: Rows, kind: type[LakeflowError], said: str) -> None:
    with pytest.raises(kind) as caught:
        arrow_of(rows, pa.schema([("x", pa.int64())]), "here")
    assert said in str(caught.value)


def test_without_a_declaration_the_values_tell_the_types() -> None:
    found = arrow_of(Rows(({"a": 1, "b": "x"}, {"a": None, "b": "y"})), None, "here")
    assert [str(kind) for kind in found.schema.types] == ["int64", "large_string"]
    with pytest.raises(DeclarationError, match="no row tells its columns"):
        arrow_of(Rows(), None, "here")


def test_the_file_in_the_page_is_valid() -> None:
    page = (Path(__file__).parents[3] / "docs" / "testing.md").read_text(encoding="utf-8")
    [found] = read(page.partition("```yaml\n")[2].partition("```")[0])
    assert set(found.given) == {"bronze.flights", "dim.carriers"}
    assert found.models["delay_classifier"][1] == {"late_probability": 0.1}
