"""The demo's report, and the two queries that it judges by."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pytest
from demo import AUC, DIFFERENCE, QUESTIONS, Report, rate
from docs_corpus import corpus


@pytest.fixture
def lake() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("CREATE SCHEMA gold; CREATE SCHEMA audit")
        yield connection


def scored(lake: duckdb.DuckDBPyConnection, rows: str) -> None:
    lake.execute(f"CREATE TABLE gold.scored_flights AS SELECT * FROM (VALUES {rows}) AS t(dep_delay, late_probability)")


@pytest.mark.parametrize(
    ("rows", "auc"),
    [
        ("(60, 0.9), (0, 0.1), (-3, 0.2), (16, 0.8)", 1.0),
        ("(60, 0.1), (0, 0.9)", 0.0),
        ("(60, 0.5), (0, 0.5), (15, 0.5)", 0.5),
        ("(60, 0.5), (20, 0.9), (0, 0.5), (1, 0.7)", 0.625),
        ("(60, 0.9), (0, 0.1), (NULL, 0.0), (NULL, 1.0)", 1.0),
    ],
)
def test_auc_by_sql(lake: duckdb.DuckDBPyConnection, rows: str, auc: float) -> None:
    scored(lake, rows)
    found = lake.execute(AUC).fetchone()
    assert found is not None
    assert float(found[0]) == pytest.approx(auc)


@pytest.mark.parametrize(
    ("others", "missing", "added"),
    [
        ("(1, 0.5), (1, 0.5), (2, 0.1)", 0, 0),
        ("(1, 0.5), (2, 0.1)", 1, 0),
        ("(1, 0.5), (1, 0.5), (2, 0.1), (2, 0.1)", 0, 1),
        ("(1, 0.5), (1, 0.4), (2, 0.1)", 1, 1),
    ],
)
def test_difference_counts_rows_that_stand_once_too_often_too(
    lake: duckdb.DuckDBPyConnection, others: str, missing: int, added: int
) -> None:
    scored(lake, "(1, 0.5), (1, 0.5), (2, 0.1)")
    lake.execute(f"CREATE TABLE audit.scored_flights AS SELECT * FROM (VALUES {others})")
    assert lake.execute(DIFFERENCE).fetchone() == (missing, added)


def test_the_report_keeps_the_order_and_remembers_what_failed() -> None:
    shown: list[str] = []
    report = Report(shown.append)
    report.heading("One")
    report.fact("seen")
    report.check(True, "holds")
    report.check(False, "does not")
    assert shown == report.lines == ["", "One", "    seen", "  ✓ holds", "  ✗ does not"]
    assert report.failed == ["does not"]


def test_a_rate_of_no_time_is_no_error() -> None:
    assert rate(0, 0.0).startswith("0 rows in 0.0 s")
    assert "(13,502 rows/s)" in rate(27_004, 2.0)


def test_every_answer_that_the_demo_asks_for_is_in_the_corpus() -> None:
    assert set(QUESTIONS.values()) <= {doc.doc_id for doc in corpus()}
