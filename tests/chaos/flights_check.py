"""Whether the year's tables are right, by DuckDB over the data files of their heads and over the records that were sent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb
import polars as pl

from tests.independent_reader import read_table, unreferenced

AUDITED = {
    "departures": ("silver.departures", "audit.departures"),
    "hourly_departures": ("gold.hourly_departures", "audit.hourly_departures"),
    "daily_departures": ("gold.daily_departures", "audit.daily_departures"),
}
"""Job -> the table that grew in waves, and the one that a snapshot run of the same job wrote."""

DEPARTURES = """
SELECT f.carrier, f.flight, f.time_hour, make_date(f.year, f.month, f.day) AS flight_date, f.origin, f.dest, f.tailnum,
       c.name AS carrier_name, p.manufacturer, p.seats, w.time_hour AS observed_at,
       coalesce(w.wind_speed, 10.0) AS wind_speed, coalesce(w.visib, 10.0) AS visib, f.dep_delay, f.arr_delay
FROM flights AS f
LEFT JOIN carriers AS c USING (carrier)
LEFT JOIN planes AS p ON p.tailnum = f.tailnum
ASOF LEFT JOIN weather AS w ON w.origin = f.origin AND f.time_hour - INTERVAL 1 HOUR >= w.time_hour
"""
HOURLY = """
SELECT time_hour AS window_start, time_hour + INTERVAL 1 HOUR AS window_end, origin, count(*) AS departures,
       count(*) FILTER (WHERE dep_delay IS NULL) AS cancelled, count(*) FILTER (WHERE dep_delay > 15) AS late,
       count(*) FILTER (WHERE late_probability > 0.5) AS foretold_late, avg(dep_delay) AS mean_delay_minutes
FROM departures GROUP BY ALL
"""
DAILY = """
SELECT flight_date, origin, carrier_name, count(*) AS departures, sum(seats) AS seats,
       count(*) FILTER (WHERE dep_delay > 15) AS late, sum(late_probability::DECIMAL(9, 6)) AS late_expected,
       avg(dep_delay) AS mean_delay_minutes
FROM departures GROUP BY ALL
"""


@dataclass(frozen=True, slots=True)
class Tables:
    """What was sent, as it is: each flight once, as its last record says it."""

    flights: pl.DataFrame
    weather: pl.DataFrame
    planes: pl.DataFrame
    carriers: pl.DataFrame


def check(state: Path, tables: Tables, sent: int) -> dict[str, int]:
    """Counts of what was compared. Raises AssertionError where a row is missing, there twice or another.

    `state` is the project's folder of catalog and warehouse, `sent` how many records of flights there were.
    """
    catalog = state / "catalog.db"
    facts: dict[str, int] = {}
    with duckdb.connect() as connection:
        for name in ("flights", "weather", "planes", "carriers"):
            connection.register(name, getattr(tables, name).to_arrow())
        for name in (*(one for pair in AUDITED.values() for one in pair), "bronze.flights"):
            connection.sql(f'CREATE VIEW "{name}" AS SELECT * FROM {_files(catalog, name)}')
        connection.sql('CREATE VIEW departures AS FROM "silver.departures"')
        landed = _count(connection, '"bronze.flights"')
        assert landed == sent, f"{sent:,} records were sent, {landed:,} are in bronze.flights"
        for grown, whole in AUDITED.values():
            facts[f"rows of {grown}, each as a snapshot run makes it"] = _same(connection, f'FROM "{grown}"', f'FROM "{whole}"')
        own = 'SELECT * EXCLUDE (late_probability) FROM "silver.departures"'
        facts["departures, each as DuckDB joins it"] = _same(connection, own, DEPARTURES)
        facts["hours of airports, each as DuckDB groups it"] = _same(connection, 'FROM "gold.hourly_departures"', HOURLY)
        facts["days of airports and carriers, likewise"] = _same(connection, 'FROM "gold.daily_departures"', DAILY)
    facts["files that no snapshot names, of dead processes and of the past"] = len(unreferenced(catalog, state / "warehouse"))
    return facts


def _files(catalog: Path, name: str) -> str:
    paths = [str(file.path) for file in read_table(catalog, name).files()]
    return f"read_parquet({paths}, hive_partitioning = false)"


def _same(connection: duckdb.DuckDBPyConnection, one: str, other: str) -> int:
    """How many rows both queries have. Raises AssertionError where a row is in one alone, with some of them."""
    for left, right in ((one, other), (other, one)):
        apart = connection.sql(f"SELECT * FROM ({left}) EXCEPT ALL SELECT * FROM ({right})").limit(5)
        assert not len(apart), f"rows of {left} that are not in {right}:\n{apart}"
    return _count(connection, f"({one})")


def _count(connection: duckdb.DuckDBPyConnection, rows: str) -> int:
    [(count,)] = connection.sql(f"SELECT count(*) FROM {rows}").fetchall()
    return int(count)
