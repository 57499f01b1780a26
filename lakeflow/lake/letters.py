"""The system table lakeflow.dead_letters: what landings and jobs could make no row of. Both write it."""

from __future__ import annotations

import pyarrow as pa

from lakeflow.declare import SYSTEM_NAMESPACE, TableSpec

DEAD_LETTERS = f"{SYSTEM_NAMESPACE}.dead_letters"
OF_JOBS = "#"
"""What `topic` begins with in a letter of a job; no topic has a name with `#`."""

_HEADER = pa.struct([pa.field("key", pa.string(), nullable=False), pa.field("value", pa.binary())])

SCHEMA = pa.schema(
    [
        pa.field("table", pa.string(), nullable=False),
        pa.field("topic", pa.string(), nullable=False),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("timestamp", pa.timestamp("us", "UTC")),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("error", pa.string(), nullable=False),
        pa.field("rejected_at", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("timestamp_type", pa.string()),
        pa.field("leader_epoch", pa.int32()),
        pa.field("headers", pa.list_(pa.field("element", _HEADER, nullable=False))),
        pa.field("model", pa.string()),
    ]
)
"""`table` is where the row was meant to go, `topic`, `partition` and `offset` are the record's place. A letter of a job has
`#job.NAME`, 0 and a number that counts up there, its `value` is the model's INPUT as an object of JSON, and `key` the SHA-256
of `model` and that; of a row that is not as expected it is the row, without a `model`."""

TABLE = TableSpec(DEAD_LETTERS, SCHEMA, comment="what landings and jobs could make no row of")
