"""The year as it comes: every flight is told of, in its order, and as late and as often as is said."""

from __future__ import annotations

import json
from collections import Counter

import polars as pl
import pytest
from arrivals import LATE_DAYS, arrivals, waves
from polars.testing import assert_frame_equal
from waves import DATA

KEY = ["carrier", "flight", "time_hour"]
SEED = 7


@pytest.fixture(scope="module")
def flights() -> pl.DataFrame:
    return pl.read_parquet(DATA / "flights.parquet")


@pytest.fixture(scope="module")
def coming(flights: pl.DataFrame) -> pl.DataFrame:
    return arrivals(flights, SEED)


def test_the_last_record_of_each_flight_says_all_of_it(flights: pl.DataFrame, coming: pl.DataFrame) -> None:
    last = coming.drop("wave").unique(KEY, keep="last", maintain_order=True)
    assert_frame_equal(last, flights, check_row_order=False)


def test_flights_come_late_twice_and_announced_and_out_of_order(flights: pl.DataFrame, coming: pl.DataFrame) -> None:
    behind = coming["wave"] - (coming["day"].cast(pl.Int64) - 1)
    assert behind.min() == 0
    assert behind.filter(behind > 0).len() > 0.02 * flights.height
    assert max(behind) >= LATE_DAYS
    assert 0.015 * flights.height < coming.height - flights.height < 0.025 * flights.height
    first_day = coming.filter(pl.col("wave") == 0)["time_hour"]
    assert not first_day.is_sorted()
    announced = coming.join(flights.filter(pl.col("dep_delay").is_not_null()), on=KEY, how="semi")
    assert announced["dep_delay"].null_count() > 0.005 * flights.height


def test_a_seed_gives_the_same_waves_and_another_one_others(flights: pl.DataFrame, coming: pl.DataFrame) -> None:
    assert arrivals(flights, SEED).equals(coming)
    assert not arrivals(flights, SEED + 1).equals(coming)


def test_waves_hold_every_record_and_the_weather_of_their_day(flights: pl.DataFrame, coming: pl.DataFrame) -> None:
    weather = pl.read_parquet(DATA / "weather.parquet")
    days = list(waves(flights, weather, SEED))
    assert [wave.number for wave in days] == list(range(31))
    assert [len(wave.flights) for wave in days] == [count for _, count in sorted(Counter(coming["wave"].to_list()).items())]
    assert sum(len(wave.weather) for wave in days) == weather.height
    assert {json.loads(value or b"")["day"] for _, value in days[4].weather} == {5}
