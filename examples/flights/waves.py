"""What the demo sends: January's records as Kafka carries them, cut into two waves, with some that are broken."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import polars as pl

Record = tuple[bytes | None, bytes | None]
"""Key and value; a value of None is a tombstone."""

DATA = Path(__file__).parent / "data"
DIMENSIONS = {"carriers": "carrier", "airports": "faa", "planes": "tailnum", "weather": "origin"}
"""Topic -> the column whose value is the record's key."""


def flight_records(part: pl.DataFrame) -> list[Record]:
    """A record a flight, keyed by carrier and number, so that each flight number stays in one partition."""
    keys = part.select(pl.concat_str("carrier", "flight").cast(pl.Binary)).to_series().to_list()
    return list(zip(keys, as_json(part), strict=True))


def dimension_records(topic: str) -> list[Record]:
    """Every row of a dimension as a record."""
    table = pl.read_parquet(DATA / f"{topic}.parquet")
    return list(zip(table[DIMENSIONS[topic]].cast(pl.Binary).to_list(), as_json(table), strict=True))


def doc_records(lines: Iterable[bytes]) -> list[Record]:
    """A record a line of docs_corpus.py, keyed by doc_id."""
    return [(json.loads(line)["doc_id"].encode(), line) for line in lines if line.strip()]


def as_json(table: pl.DataFrame) -> list[bytes]:
    """Each row as a JSON object: numbers as numbers, nulls as null, times as ISO 8601 with Z."""
    times = [name for name, kind in table.schema.items() if isinstance(kind, pl.Datetime)]
    return table.with_columns(pl.col(times).dt.strftime("%Y-%m-%dT%H:%M:%SZ")).write_ndjson().encode().splitlines()


def halves(flights: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The flights of the first half of the days, and the others; every flight in one of them."""
    first = pl.col("day") <= flights["day"].max() // 2  # type: ignore[operator]
    return flights.filter(first), flights.filter(~first)


def broken_records(sound: bytes) -> dict[str, Record]:
    """One record of each way to be wrong, made from a sound one, by what is wrong with it."""
    return {
        "broken JSON": (b"broken", sound[:-10]),
        "wrong type": (b"broken", json.dumps({**json.loads(sound), "distance": "far"}).encode()),
        "number out of range": (b"broken", json.dumps({**json.loads(sound), "flight": 2**40}).encode()),
        "broken UTF-8": (b"broken", sound.replace(b'"carrier":"', b'"carrier":"\xff\xfe', 1)),
        "tombstone": (b"broken", None),
    }


def strewn(records: list[Record], broken: list[Record]) -> list[Record]:
    """`records` with `broken` spread evenly among them, all in order."""
    step = len(records) // (len(broken) + 1)
    mixed: list[Record] = []
    for place, one in enumerate(broken):
        mixed += [*records[place * step : (place + 1) * step], one]
    return mixed + records[len(broken) * step :]
