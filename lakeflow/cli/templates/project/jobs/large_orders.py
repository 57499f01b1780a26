"""A job reads tables and writes one. Run it with: lakeflow run large_orders"""

import polars as pl

import lakeflow as lf

LARGE = 100.0


@lf.job(target="gold.large_orders", mode="incremental")
def large_orders(orders=lf.Read("bronze.orders")) -> pl.LazyFrame:
    """The orders above 100. Each run reads only what has landed since the last one."""
    return orders.filter(pl.col("amount") > LARGE)
