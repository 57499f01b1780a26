"""Tests of jobs as they run: dimensions outside of the lake."""

from __future__ import annotations

from pathlib import Path

import pytest

from lakeflow.config import Settings, settings_of
from lakeflow.runner.job_testing import Outcome, run_test
from lakeflow.runner.job_tests import JobTest, Rows

JOB = """
import lakeflow as lf

@lf.job(target="gold.named")
def named(flights=lf.Read("bronze.flights"), names={lookup}):
    return flights.join(names, on="carrier", how="left")
"""
FLIGHTS = Rows(({"carrier": "AA"}, {"carrier": "ZZ"}))
NAMED = Rows(({"carrier": "AA", "name": "American"}, {"carrier": "ZZ", "name": None}))
NAMES = Rows(({"carrier": "AA", "name": "American"},))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "tables").mkdir()
    (tmp_path / "jobs").mkdir()
    (tmp_path / "names.csv").write_text("carrier,name\nAA,American\n", encoding="utf-8")
    return settings_of({"project": {"name": "p"}}, tmp_path, None, {})


def outcomes(settings: Settings, lookup: str, **given: Rows) -> list[Outcome]:
    (settings.root / "jobs" / "named.py").write_text(JOB.format(lookup=lookup), encoding="utf-8")
    tables = {"bronze.flights": FLIGHTS, **{name.replace("__", "."): rows for name, rows in given.items()}}
    return list(run_test(JobTest("a", "named", Path("jobs/named.test.yaml"), tables, NAMED), settings))


def test_a_file_of_the_project_is_read_as_it_is(settings: Settings) -> None:
    assert [one.passed for one in outcomes(settings, 'lf.LookupFile("names.csv")')] == [True, True]


def test_rows_may_be_given_for_a_file_and_for_a_table_of_postgresql(settings: Settings) -> None:
    assert [one.passed for one in outcomes(settings, 'lf.LookupFile("names.parquet")', names__parquet=NAMES)] == [True, True]
    lookup = 'lf.LookupPostgres("postgresql://nowhere/db", "public.names")'
    assert [one.passed for one in outcomes(settings, lookup, public__names=NAMES)] == [True, True]


@pytest.mark.parametrize(
    ("lookup", "said"),
    [
        (
            'lf.LookupPostgres("postgresql://nowhere/db", "public.names")',
            "looks rows up in public.names, which a test does not ask",
        ),
        ('lf.LookupFile("s3://nowhere/names.parquet")', "looks rows up in s3://nowhere/names.parquet"),
        ('lf.LookupPostgres("postgresql://nowhere/db", "public.names", key="carrier")', "since it is asked by key"),
    ],
)
def test_no_service_is_asked(settings: Settings, lookup: str, said: str) -> None:
    for one in outcomes(settings, lookup):
        assert said in str(one.error)
