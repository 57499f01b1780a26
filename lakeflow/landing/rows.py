"""Pure steps between the records of a poll and the rows of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import pyarrow as pa

from lakeflow.landing.spec import METADATA_COLUMNS
from lakeflow.topics.source import Headers, Records, TopicPartition, last_offsets

_COLUMN_OF = {
    "topic": "topics",
    "partition": "partitions",
    "offset": "offsets",
    "timestamp": "timestamps",
    "timestamp_type": "timestamp_types",
    "leader_epoch": "leader_epochs",
    "headers": "headers",
    "key": "keys",
    "value": "values",
}
_UNKNOWN_TIME = -1
TIMESTAMP_TYPES = {1: "CreateTime", 2: "LogAppendTime"}
_US_PER_MS = 1000
_MOST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999."""


def with_metadata(rows: pa.RecordBatch, records: Records, kept: pa.Array | None, names: Mapping[str, str]) -> pa.RecordBatch:
    """`rows` with metadata columns behind them: for each key of `names` the column that it is called.

    `kept` holds each row's place in `records`; None: all.
    """
    if not names:
        return rows
    columns = list(rows.columns)
    fields = list(rows.schema)
    for name, called in names.items():
        kind = METADATA_COLUMNS[name]
        column = _metadata_column(name, getattr(records, _COLUMN_OF[name]), kind)
        columns.append(column if kept is None else column.take(kept))
        fields.append(pa.field(called, kind))
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))


def _metadata_column(name: str, values: Sequence[Any] | None, kind: pa.DataType) -> pa.Array:
    assert values is not None, f"the source was asked for {name}"
    match name:
        case "timestamp":
            values = [microseconds(stamp) for stamp in values]
        case "timestamp_type":
            values = [TIMESTAMP_TYPES.get(kind) for kind in values]
        case "headers":
            return headers_column([of or [] for of in values])
        case _:
            pass
    return pa.array(values, kind)


def microseconds(stamp: int) -> int | None:
    """A record's timestamp (ms since the epoch, -1 unknown) for a column; None where it is unknown or beyond all calendars.

    Producers write what they like there, nanoseconds too.
    """
    return stamp * _US_PER_MS if stamp != _UNKNOWN_TIME and abs(stamp) <= _MOST_MS else None


def headers_column(headers: Sequence[Headers | None]) -> pa.Array:
    """For each record a list of (key, value) in the order they came, as names may repeat; null where they were not read."""
    kind = METADATA_COLUMNS["headers"]
    entry = kind.value_type
    ends = list(accumulate((len(of or ()) for of in headers), initial=0))
    pairs = [pair for of in headers for pair in of or ()]
    columns = [pa.array([pair[place] for pair in pairs], entry.field(place).type) for place in range(2)]
    absent = pa.array([of is None for of in headers]) if None in headers else None
    entries = pa.StructArray.from_arrays(columns, fields=list(entry))
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), entries, type=kind, mask=absent)


def next_offsets(records: Records) -> dict[TopicPartition, int]:
    """For each partition that `records` tell of, the offset to read next."""
    return {place: offset + 1 for place, offset in last_offsets(records).items()} | dict(records.ends)


def before(records: Records, first: Mapping[TopicPartition, int]) -> Records:
    """The records whose partition is not in `first`, or whose offset is below the one given there."""
    keep = [
        offset < first.get((topic, part), offset + 1)
        for topic, part, offset in zip(records.topics, records.partitions, records.offsets, strict=True)
    ]
    ends = {place: end for place, end in records.ends.items() if place not in first}
    return records.chosen(keep, ends)
