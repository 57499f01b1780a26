"""Jobs with a schedule: `lakeflow run --due`, `--follow`, and what `jobs` and `status` say of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lakeflow.observe.runs import Run, RunLog
from tests.integration.cli.conftest import JOBS, Shop

YEARLY = JOBS["large.py"].replace('target="gold.large"', 'target="gold.large", schedule="0 0 1 1 *"')
ON_SQL = """SET 'lakeflow.schedule' = '0 6 * * *';
SET 'lakeflow.timezone' = 'Europe/Berlin';
INSERT INTO gold.sql SELECT * FROM bronze.orders;
"""


def statuses(rows: list[dict[str, Any]]) -> dict[str, str]:
    return {row["name"]: row["status"] for row in rows}


@pytest.fixture
def scheduled(stocked: Shop) -> Shop:
    stocked.declare("jobs/large.py", YEARLY)
    (stocked.folder / "jobs" / "embed.py").unlink()
    stocked.declare("tables/shop.sql", (stocked.folder / "tables" / "shop.sql").read_text().split("CREATE VECTOR")[0])
    return stocked


def test_a_job_runs_when_it_is_due_and_not_again_before_the_next_moment(scheduled: Shop) -> None:
    assert statuses(scheduled.json("run", "--due")) == {"large": "done", "totals": "done"}
    scheduled.orders(("o5", "ann", 700.0))
    assert statuses(scheduled.json("run", "--due")) == {"large": "fresh", "totals": "done"}
    again = scheduled("run", "large", "--due", "--exit-on-empty", "3")
    assert again.code == 3, again.err
    assert statuses(scheduled.json("run", "large")) == {"large": "done"}, "named without --due it runs now"


def test_a_run_that_finds_nothing_counts_as_well(scheduled: Shop) -> None:
    scheduled.json("run", "large")
    scheduled.project.lake.drop("lakeflow.runs")
    year_ago(scheduled, "large")
    assert statuses(scheduled.json("run", "large", "--due")) == {"large": "empty"}
    assert statuses(scheduled.json("run", "large", "--due")) == {"large": "fresh"}
    due = {job["name"]: job for job in scheduled.json("jobs")}["large"]
    year = datetime.now(UTC).year
    assert due["schedule"] == "0 0 1 1 *"
    assert due["due"] == f"{year + 1}-01-01T00:00:00Z"
    assert due["last"].startswith(str(year))


def year_ago(shop: Shop, name: str, into: str = "gold.large") -> None:
    """A run that took place a year ago, recorded."""
    project = shop.project
    began = datetime.now(UTC) - timedelta(days=366)
    with RunLog(project.lake, project.commits, project.settings).recorded(
        Run("job", name, into, "incremental", started_at=began)
    ):
        pass


def test_what_failed_or_wrote_elsewhere_is_no_run_of_the_schedule(scheduled: Shop) -> None:
    year_ago(scheduled, "large")
    assert scheduled("run", "large", "--mode", "snapshot", "--into", "audit.large").code == 0
    scheduled.declare("jobs/large.py", YEARLY.replace('"amount"', '"amuont"'))
    assert scheduled("run", "large").code == 1
    [shown] = [row for row in scheduled.json("status") if row["name"] == "large"]
    assert shown["due"] == f"{datetime.now(UTC).year}-01-01T00:00:00Z"
    scheduled.declare("jobs/large.py", YEARLY)
    assert statuses(scheduled.json("run", "large", "--due")) == {"large": "done"}


def test_without_its_runs_the_target_tells_when_a_job_ran(scheduled: Shop) -> None:
    scheduled.json("run", "large")
    scheduled.project.lake.drop("lakeflow.runs")
    assert statuses(scheduled.json("run", "large", "--due")) == {"large": "fresh"}


def test_a_job_in_sql_is_due_by_what_is_set(scheduled: Shop) -> None:
    scheduled.declare("jobs/sql.sql", ON_SQL)
    listed = {job["name"]: job for job in scheduled.json("jobs")}
    assert listed["sql"]["schedule"] == "0 6 * * * Europe/Berlin"
    assert listed["totals"]["schedule"] is None
    assert "schedule" in scheduled("jobs").out
    assert scheduled.json("jobs", "show", "sql")["due"] is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [("0 6 * *", "schedule of job 'sql' is '0 6 * *'; valid: five fields"), ("0 66 * * *", "the hour is '66'; valid: 0 to 23")],
)
def test_a_wrong_expression_ends_with_2_and_points_at_it(scheduled: Shop, wrong: str, said: str) -> None:
    scheduled.declare("jobs/sql.sql", ON_SQL.replace("0 6 * * *", wrong))
    ran = scheduled("jobs")
    assert ran.code == 2
    assert "jobs/sql.sql:3" in ran.err
    assert said in " ".join(ran.err.split())


@pytest.mark.parametrize("more", [["--follow"], ["--mode", "snapshot"]])
def test_due_goes_without_what_changes_the_run(scheduled: Shop, more: list[str]) -> None:
    ran = scheduled("run", "--due", *more)
    assert (ran.code, "--due runs jobs as they are declared" in ran.err) == (2, True)
