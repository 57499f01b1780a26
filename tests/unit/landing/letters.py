"""A topic, a table, landings that leave dead letters, and replays of these."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from lakeflow.declare import Origin, TableSpec
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import CommitProtocol, Committer
from lakeflow.landing.counts import Landed, Sizes
from lakeflow.landing.cut import Limits
from lakeflow.landing.letters_read import Wanted, newest_letters
from lakeflow.landing.open import open_decoder, open_staying_decoder
from lakeflow.landing.reading import OwnReading
from lakeflow.landing.replay import Replay, Replayed, Which
from lakeflow.landing.spec import LandingSpec, landing_spec
from lakeflow.landing.staying import KeptLetters
from lakeflow.landing.writer import Landing
from lakeflow.testing.source import ListSource, Row
from lakeflow.topics.registered import Registry
from lakeflow.topics.source import Earliest, Headers, TopicPartition
from tests.lakes import query

TABLE, TOPIC = "bronze.orders", "orders"
T0 = 1_357_000_000_000
NARROW = pa.schema([pa.field("id", pa.int32(), nullable=False), ("v", pa.string())])
MENDED = pa.schema([pa.field("id", pa.int64(), nullable=False), ("v", pa.string())])
LARGE = 1 << 40
"""No INT: a letter, until the declaration says BIGINT."""
OPTIONS = {"connector": "kafka", "topic": TOPIC, "on_error": "dead_letter", "metadata.columns": "partition,offset,timestamp"}
SIZES = Sizes(poll_seconds=0.0)

Ids = list[tuple[int, int, int]]


def record(number: int, key: bytes | None = None) -> Row:
    return key, json.dumps({"id": number, "v": f"v{number}"}).encode(), T0


BROKEN: Row = (b"k", b"{broken", T0)


@dataclass
class Post:
    """`declared` are the columns of the table by its declaration of now."""

    lake: Lake
    partitions: dict[TopicPartition, list[Row]] = field(default_factory=lambda: {(TOPIC, 0): []})
    declared: pa.Schema | None = NARROW
    options: Mapping[str, str] = field(default_factory=dict)
    registry: Registry | None = None
    headers: dict[tuple[str, int, int], Headers] | None = None
    key: tuple[str, ...] = ()

    def add(self, *rows: Row, partition: int = 0) -> None:
        self.partitions.setdefault((TOPIC, partition), []).extend(rows)

    def mend(self) -> None:
        self.declared = MENDED

    @property
    def spec(self) -> LandingSpec:
        options = {name: value for name, value in {**OPTIONS, **self.options}.items() if value}
        columns = pa.schema([]) if self.declared is None else self.declared
        declared = TableSpec(TABLE, columns, options, primary_key=self.key, origin=Origin(None, 1))
        return landing_spec(declared, options, Limits(1000, 1 << 20, 60.0))

    def landing(self, commits: CommitProtocol | None = None) -> Landing:
        commits, spec = commits or Committer(self.lake), self.spec
        decoder = open_staying_decoder(spec, self.registry, KeptLetters(self.lake, commits, TABLE))
        source = ListSource(self.partitions, headers=self.headers)
        reading = OwnReading(spec.topics, source, Earliest())
        return Landing(spec, reading, decoder, self.lake, commits, sizes=SIZES)

    def land(self) -> Landed:
        return self.landing().run()

    def replaying(self, which: Which = Which(), *, commits: CommitProtocol | None = None, sizes: Sizes = SIZES) -> Replay:
        decoder = open_decoder(self.spec, self.registry)
        return Replay(self.spec, decoder, self.lake, commits or Committer(self.lake), which=which, sizes=sizes)

    def replay(self, which: Which = Which()) -> Replayed:
        return self.replaying(which).run()

    def rows(self, sql: str = "SELECT kafka_partition, kafka_offset, id FROM rows ORDER BY ALL") -> list[tuple[Any, ...]]:
        return query(self.lake.table(TABLE), sql)

    def states(self) -> dict[tuple[int, int], str]:
        """The state of each letter of the table, by partition and offset."""
        found = newest_letters(self.lake, Committer(self.lake), Wanted((TABLE,)), 10_000)
        states = {(row["partition"], row["offset"]): row["state"] for row in found}
        assert len(states) == len(found), "a letter is there twice"
        return states
