"""Columns METADATA FROM '..' of a declaration, from its text to the rows that are landed."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from lakeflow.declare import TableSpec
from lakeflow.errors import DeclarationError
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Committer
from lakeflow.landing.cut import Limits
from lakeflow.landing.decode import RecordDecoder
from lakeflow.landing.reading import OwnReading
from lakeflow.landing.spec import LandingSpec, landing_spec
from lakeflow.landing.writer import Landing
from lakeflow.sql.parse import parse_declarations
from lakeflow.sql.statements import CreateTable
from lakeflow.testing.source import ListSource
from lakeflow.topics.formats import Opening, open_format
from lakeflow.topics.source import Earliest
from tests.lakes import query

LIMITS = Limits(rows=1000, bytes=1 << 20, seconds=60.0)
DECLARED = """
CREATE TABLE bronze.flights (
  ts TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
  id BIGINT,
  `offset` BIGINT METADATA,
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) PARTITIONED BY (day(ts)) WITH ('connector' = 'kafka', 'topic' = 'flights', 'metadata.columns' = 'partition')
"""


def declared(text: str) -> TableSpec:
    [statement] = parse_declarations(text)
    assert isinstance(statement, CreateTable)
    return statement.table


def spec_of(text: str) -> LandingSpec:
    table = declared(text)
    return landing_spec(table, table.options, LIMITS)


def land(spec: LandingSpec, lake: Lake, source: ListSource) -> None:
    assert spec.columns is not None
    landing = Landing(
        spec,
        OwnReading(spec.topics, source, Earliest(), group=source, identity=source, clock=lambda: 0.0),
        RecordDecoder(spec, open_format("json", Opening(spec.columns, spec.options)), None),
        lake,
        Committer(lake),
        clock=lambda: 0.0,
    )
    landing.run()


def test_metadata_is_landed_under_the_names_that_are_declared(lake: Lake) -> None:
    at = datetime(2013, 1, 1, 10, tzinfo=UTC)
    records = [(None, b'{"id": 7}', int(at.timestamp() * 1000)), (None, b'{"id": 8}', int(at.timestamp() * 1000))]
    land(spec_of(DECLARED), lake, ListSource({("flights", 0): records}))
    landed = query(lake.table("bronze.flights"), 'SELECT id, kafka_partition, epoch_us(ts), "offset" FROM rows ORDER BY id')
    assert landed == [(7, 0, int(at.timestamp() * 1e6), 0), (8, 0, int(at.timestamp() * 1e6), 1)]
    assert [field.name for field in lake.table("bronze.flights").spec().fields] == ["ts_day"]


def test_metadata_stands_behind_the_columns_of_values() -> None:
    spec = spec_of(DECLARED)
    assert spec.stored(spec.declared.schema).schema.names == ["id", "kafka_partition", "ts", "offset"]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            "ts TIMESTAMP METADATA FROM 'timestamp'",
            "'ts' is METADATA FROM 'timestamp' and of type timestamp[us]; valid: timestamp[us,",
        ),
        ("ts BIGINT METADATA FROM 'ofset'", "column 'ts' is METADATA FROM 'ofset'; did you mean 'offset'?"),
        ("a BIGINT METADATA FROM 'offset', b BIGINT METADATA FROM 'offset'", "'a' and 'b' are both METADATA FROM 'offset'"),
        (
            "a INT METADATA FROM 'leader-epoch', id2 STRING METADATA FROM 'timestamp-type', b INT METADATA",
            "METADATA FROM 'b'; valid:",
        ),
    ],
)
def test_metadata_that_no_record_has_is_refused(column: str, message: str) -> None:
    with pytest.raises(DeclarationError) as raised:
        spec_of(f"CREATE TABLE bronze.t (id BIGINT, {column}) WITH ('connector' = 'kafka', 'topic' = 'flights')")
    assert message in raised.value.message
