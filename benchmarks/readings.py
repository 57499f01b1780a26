"""Readings of weather stations as JSON records: about 200 bytes, 8 fields of which one is a struct, 10 leaves in all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from lakeflow.topics.embedded import Row

TABLE = "bronze.readings"
DECLARATION = """
CREATE TABLE {table} (
  reading_id BIGINT,
  station STRING,
  kind STRING,
  value DOUBLE,
  quality INT,
  valid BOOLEAN,
  measured_at TIMESTAMP_LTZ(6),
  place ROW<latitude DOUBLE, longitude DOUBLE, airport STRING>
)
WITH ('connector' = 'kafka', 'topic' = '{topic}', 'value.format' = 'json', 'on_error' = 'dead_letter');
"""
KINDS = ("temperature", "humidity", "wind_speed", "pressure", "visibility")
STATIONS = 500
BEGIN = datetime(2013, 1, 1, tzinfo=UTC)
POISON = (
    lambda sound: sound[:-7],
    lambda sound: sound.replace(b'"value":', b'"value":"high","was":', 1),
    lambda sound: sound.replace(b'"quality":', b'"quality":9999999999,"was":', 1),
    lambda sound: sound.replace(b'"station":"', b'"station":"\xff', 1),
)
"""Broken JSON, a wrong type, a number out of range, broken UTF-8."""


class Stations:
    """Makes records that are the same for the same seed."""

    def __init__(self, seed: int = 0) -> None:
        random = Random(seed)
        self._places = [
            (f"K{number:03d}", round(random.uniform(25, 48), 4), round(random.uniform(-124, -67), 4))
            for number in range(STATIONS)
        ]
        self._random = random

    def value(self, number: int) -> bytes:
        """The JSON of the reading `number`."""
        draw = self._random.random
        airport, latitude, longitude = self._places[int(draw() * STATIONS)]
        at = BEGIN + timedelta(seconds=number)
        return (
            f'{{"reading_id":{1_000_000_000 + number},"station":"{airport}-{int(draw() * 9)}",'
            f'"kind":"{KINDS[int(draw() * 5)]}","value":{draw() * 1000:.3f},"quality":{int(draw() * 100)},'
            f'"valid":{"true" if draw() < 0.97 else "false"},"measured_at":"{at:%Y-%m-%dT%H:%M:%S}Z",'
            f'"place":{{"latitude":{latitude},"longitude":{longitude},"airport":"{airport}"}}}}'
        ).encode()


def rows(count: int, partitions: int, poison: float = 0.0) -> list[Row]:
    """`count` records spread over the partitions in turn; of those a share is broken, each kind as often."""
    stations = Stations()
    every = round(1 / poison) if poison else 0
    made: list[Row] = []
    for number in range(count):
        value = stations.value(number)
        if every and number % every == every // 2:
            value = POISON[number // every % len(POISON)](value)
        made.append(Row(b"%d" % (number % 10_000), value, number % partitions))
    return made


def naive_row(record: dict[str, Any]) -> dict[str, Any]:
    """What a loop without lakeflow has to mend by hand before Arrow takes a record: the time is text."""
    record["measured_at"] = datetime.fromisoformat(record["measured_at"])
    return record
