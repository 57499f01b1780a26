"""How many flights leave an airport in an hour, and how late, corrected by each flight that is heard of later."""

import polars as pl

import lakeflow as lf

LATE_AFTER_MINUTES = 15


@lf.job(target="gold.hourly_departures", window=lf.Tumble("time_hour", "1h"), on_change="recompute")
def hourly_departures(departures=lf.Read("silver.departures")) -> pl.LazyFrame:
    """One row an airport and hour. An hour is made anew when a flight of it comes, or another record of one that is there."""
    return departures.group_by("window_start", "window_end", "origin").agg(
        pl.len().cast(pl.Int64).alias("departures"),
        pl.col("dep_delay").is_null().sum().cast(pl.Int64).alias("cancelled"),
        (pl.col("dep_delay") > LATE_AFTER_MINUTES).sum().cast(pl.Int64).alias("late"),
        (pl.col("late_probability") > 0.5).sum().cast(pl.Int64).alias("foretold_late"),
        pl.col("dep_delay").mean().alias("mean_delay_minutes"),
    )
