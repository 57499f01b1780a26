"""How likely is each flight to leave late, judged by what is known before it leaves?"""

import polars as pl

import lakeflow as lf

FEATURES = [
    "dep_hour",
    "day_of_week",
    "distance",
    "carrier",
    "origin",
    "dest",
    "humid",
    "wind_speed",
    "wind_gust",
    "precip",
    "visib",
]

# What stands in where a station reported nothing for the hour: a calm, clear, ordinary day.
FAIR_WEATHER = {"humid": 60.0, "wind_speed": 10.0, "wind_gust": 0.0, "precip": 0.0, "visib": 10.0}


def with_features(flights: pl.LazyFrame, weather: pl.LazyFrame) -> pl.LazyFrame:
    """Flights with the model's input beside them. The weather is that of the last full hour before the scheduled one."""
    known_weather = weather.select("origin", pl.col("time_hour").dt.offset_by("1h"), *FAIR_WEATHER)
    return flights.join(known_weather, on=["origin", "time_hour"], how="left", maintain_order="left").with_columns(
        (pl.col("hour") + pl.col("minute") / 60).alias("dep_hour"),
        pl.date("year", "month", "day").dt.weekday().cast(pl.Int32).alias("day_of_week"),
        *(pl.col(name).fill_null(value) for name, value in FAIR_WEATHER.items()),
    )


@lf.job(target="gold.scored_flights", mode="incremental")
def score_flights(
    flights=lf.Read("bronze.flights"),
    weather=lf.Lookup("dim.weather"),
    carriers=lf.Lookup("dim.carriers"),
) -> pl.LazyFrame:
    """Every flight with its carrier's name, the model's probability of a late departure, and what came of it."""
    named = flights.join(carriers.rename({"name": "carrier_name"}), on="carrier", how="left", maintain_order="left")
    scored = lf.ml_predict(with_features(named, weather), "delay_classifier", FEATURES)
    return scored.select(
        pl.date("year", "month", "day").alias("flight_date"),
        "time_hour",
        "carrier",
        "carrier_name",
        "flight",
        "origin",
        "dest",
        "dep_hour",
        "wind_gust",
        "visib",
        "precip",
        "late_probability",
        "dep_delay",
    )
