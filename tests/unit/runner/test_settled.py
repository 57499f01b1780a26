"""How materialized tables over each other are refreshed."""

from __future__ import annotations

from pathlib import Path

from lakeflow.job import Mode
from lakeflow.runner.settled import settled
from lakeflow.runner.sql_jobs import jobs_of
from lakeflow.sql.parse import parse_jobs

BY_DAY = "CREATE MATERIALIZED TABLE gold.by_day AS SELECT day, sum(x) AS x FROM bronze.o GROUP BY day;"


def modes(*statements: str) -> dict[str, Mode]:
    path = Path("jobs/made.sql")
    jobs = {job.name: job for job in jobs_of(parse_jobs("\n".join(statements), path), path, {})}
    return {job.target: job.mode for job in settled(jobs).values()}


def test_one_over_groups_is_read_whole_and_so_is_one_over_that() -> None:
    assert modes(
        "CREATE MATERIALIZED TABLE gold.last AS SELECT x FROM gold.by_month;",
        "CREATE MATERIALIZED TABLE gold.by_month AS SELECT day // 30 AS month, sum(x) AS x FROM gold.by_day GROUP BY month;",
        BY_DAY,
    ) == {"gold.last": Mode.SNAPSHOT, "gold.by_month": Mode.SNAPSHOT, "gold.by_day": Mode.INCREMENTAL}


def test_what_a_statement_says_stands() -> None:
    said = "CREATE MATERIALIZED TABLE gold.n REFRESH_MODE = CONTINUOUS AS SELECT count(*) AS n FROM gold.by_day;"
    assert modes(said, BY_DAY)["gold.n"] is Mode.INCREMENTAL


def test_one_over_rows_that_are_added_goes_on() -> None:
    kept = "CREATE MATERIALIZED TABLE silver.o AS SELECT * FROM raw.o WHERE x > 1;"
    assert modes(kept, BY_DAY.replace("bronze", "silver")) == {"silver.o": Mode.INCREMENTAL, "gold.by_day": Mode.INCREMENTAL}
