"""What an analyst looks at: per carrier and day, how many flights were late and how many were expected to be."""

import polars as pl

import lakeflow as lf

LATE_AFTER_MINUTES = 15


@lf.job(target="gold.delays_by_carrier", mode="snapshot")
def delays_by_carrier(flights=lf.Read("gold.scored_flights")) -> pl.LazyFrame:
    """One row a carrier and day, all written anew at each run. Cancelled flights are not late."""
    return (
        flights.group_by("carrier", "carrier_name", "flight_date")
        .agg(
            pl.len().cast(pl.Int64).alias("flights"),
            pl.col("dep_delay").is_null().sum().cast(pl.Int64).alias("cancelled"),
            (pl.col("dep_delay") > LATE_AFTER_MINUTES).sum().cast(pl.Int64).alias("late"),
            pl.col("late_probability").sum().alias("late_expected"),
            pl.col("dep_delay").mean().alias("mean_delay_minutes"),
        )
        .sort("carrier", "flight_date")
    )
