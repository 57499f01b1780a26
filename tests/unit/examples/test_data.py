"""The committed data are what their README says they are."""

from __future__ import annotations

import hashlib
import re

import polars as pl
import pytest
from nycflights import SCHEMAS
from waves import DATA

STATED = {
    name: (int(rows.replace(",", "")), checksum)
    for name, rows, checksum in re.findall(
        r"\| (\w+)\.parquet \| ([\d,]+) \| ([0-9a-f]{64}) \|", (DATA / "README.md").read_text()
    )
}
TABLES = ("flights", "weather", "carriers", "airports", "planes")


def test_the_readme_states_every_file() -> None:
    assert sorted(STATED) == sorted(TABLES) == sorted(path.stem for path in DATA.glob("*.parquet"))


@pytest.mark.parametrize("name", TABLES)
def test_rows_and_checksum_are_the_stated_ones(name: str) -> None:
    path = DATA / f"{name}.parquet"
    assert (pl.read_parquet(path).height, hashlib.sha256(path.read_bytes()).hexdigest()) == STATED[name]


@pytest.mark.parametrize("name", TABLES)
def test_columns_and_types_are_those_of_the_package(name: str) -> None:
    schema = SCHEMAS["airlines" if name == "carriers" else name]
    assert dict(pl.read_parquet_schema(DATA / f"{name}.parquet")) == {
        column: kind if isinstance(kind, pl.DataType) else kind() for column, kind in schema.items()
    }


def test_the_folder_stays_small() -> None:
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 2_000_000


def test_only_january_and_every_carrier_known() -> None:
    flights = pl.read_parquet(DATA / "flights.parquet")
    assert flights["month"].unique().to_list() == [1]
    assert set(flights["carrier"]) <= set(pl.read_parquet(DATA / "carriers.parquet")["carrier"])
