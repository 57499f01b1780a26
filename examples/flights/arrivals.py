"""The year as it reaches the topics: a wave a day, out of order, some flights days late, some told twice.

Everything is drawn by a seed, so that the same waves come again wherever they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from waves import Record, as_json, flight_records

LATE_SHARE = 0.03
LATE_DAYS = 10
ANNOUNCED_SHARE = 0.01
REPEATED_SHARE = 0.01
REPEATED_DAYS = 5

UNKNOWN_BEFORE = ("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time")
"""What the record of a flight that has not left yet does not say."""


@dataclass(frozen=True, slots=True)
class Wave:
    """What comes on one day: the records of the topics flights and weather."""

    number: int
    flights: list[Record]
    weather: list[Record]


def arrivals(flights: pl.DataFrame, seed: int) -> pl.DataFrame:
    """The flights' records in the order in which they come, with the number of their wave (from 0) in `wave`.

    A wave is a local day of departure, in any order within. Of the flights `LATE_SHARE` come up to `LATE_DAYS` waves later,
    the last wave at the latest; of `ANNOUNCED_SHARE` an earlier record comes on the day itself, which knows nothing of the
    departure yet; `REPEATED_SHARE` come once more, unchanged, up to `REPEATED_DAYS` waves behind the first time.
    """
    roll = np.random.default_rng(seed)
    first = pl.date("year", "month", "day")
    days = flights.select((first - first.min()).dt.total_days()).to_series().to_numpy()
    last = int(days.max())
    late = (roll.random(flights.height) < LATE_SHARE) * roll.integers(1, LATE_DAYS + 1, flights.height)
    place = roll.random(flights.height)
    told = flights.with_columns(wave=np.minimum(days + late, last), day_of_wave=days, place=place)
    announced = told.filter(roll.random(flights.height) < ANNOUNCED_SHARE).with_columns(
        pl.lit(None).cast(flights.schema[name]).alias(name) for name in UNKNOWN_BEFORE
    )
    announced = announced.with_columns(wave="day_of_wave", place=pl.col("place") - 1)
    again = told.filter(roll.random(flights.height) < REPEATED_SHARE)
    later = roll.integers(0, REPEATED_DAYS + 1, again.height)
    again = again.with_columns(wave=np.minimum(again["wave"].to_numpy() + later, last), place=pl.col("place") + 1)
    return pl.concat([announced, told, again]).sort("wave", "place").drop("place", "day_of_wave")


def waves(flights: pl.DataFrame, weather: pl.DataFrame, seed: int) -> Iterator[Wave]:
    """Each wave in turn; the weather of a day comes with it, whole."""
    coming = arrivals(flights, seed)
    first = flights.select(pl.date("year", "month", "day").min()).item()
    observed = weather.with_columns(wave=(pl.date("year", "month", "day") - first).dt.total_days())
    for number in range(coming["wave"][-1] + 1):
        of_day = coming.filter(pl.col("wave") == number).drop("wave")
        seen = observed.filter(pl.col("wave") == number).drop("wave")
        keys = seen["origin"].cast(pl.Binary).to_list()
        yield Wave(number, flight_records(of_day), list(zip(keys, as_json(seen), strict=True)))
