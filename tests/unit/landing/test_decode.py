"""Values, keys and what Kafka knows of a record come to rows together, by the record's place."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from lakeflow.declare import TableSpec
from lakeflow.landing.cut import Limits
from lakeflow.landing.decode import RecordDecoder
from lakeflow.landing.open import open_decoder
from lakeflow.landing.spec import landing_spec
from lakeflow.topics.formats import Decoded
from lakeflow.topics.source import Records

KEYED = pa.schema([pa.field("id", pa.int64(), nullable=False), ("v", pa.string())])
ROWS = [
    (b'{"id": 1}', b'{"id": 1, "v": "a"}'),
    (b'{"id": 2}', None),
    (None, b'{"id": 3, "v": "c"}'),
    (b"{", None),
    (None, None),
]


def decoder(options: dict[str, str], schema: pa.Schema = KEYED, key: tuple[str, ...] = ("id",)) -> RecordDecoder:
    given = {"connector": "kafka", "topic": "t", **options}
    return open_decoder(landing_spec(TableSpec("b.t", schema, given, primary_key=key), given, Limits(9, 9, 9.0)), None)


def records(*pairs: tuple[bytes | None, bytes | None]) -> Records:
    count = len(pairs)
    return Records(
        topics=["t"] * count,
        partitions=[0] * count,
        offsets=list(range(100, 100 + count)),
        timestamps=[1000 + place for place in range(count)],
        timestamp_types=[1] * count,
        keys=[key for key, _ in pairs],
        values=[value for _, value in pairs],
        headers=[[("h", b"1"), ("h", None)] if place % 2 else None for place in range(count)],
        leader_epochs=[7] * count,
    )


def rows(decoded: Decoded) -> list[dict[str, Any]]:
    return [row for part in decoded.parts for row in part.rows.to_pylist()]


def rejected(decoded: Decoded) -> list[tuple[int, str, str]]:
    return [(reject.index, str(reject.kind), reject.reason) for reject in decoded.rejects]


def test_a_tombstone_deletes_the_row_of_its_key() -> None:
    decoded = decoder({"changelog.mode": "upsert", "key.format": "json"}).decode(records(*ROWS))
    assert rows(decoded) == [{"id": 1, "v": "a"}, {"id": 3, "v": "c"}]
    (deletes,) = decoded.deletes
    assert (deletes.rows.to_pylist(), deletes.kept.to_pylist()) == ([{"id": 2}], [1])  # type: ignore[union-attr]
    assert [(index, kind) for index, kind, _ in rejected(decoded)] == [(3, "malformed"), (4, "misfit")]
    assert rejected(decoded)[1][2] == "its key: there is none"


def test_without_a_format_of_keys_a_tombstone_is_rejected() -> None:
    decoded = decoder({"changelog.mode": "upsert"}).decode(records(*ROWS))
    assert (rows(decoded), decoded.deletes) == ([{"id": 1, "v": "a"}, {"id": 3, "v": "c"}], ())
    assert [(index, kind) for index, kind, _ in rejected(decoded)] == [(1, "tombstone"), (3, "tombstone"), (4, "tombstone")]


def test_a_table_that_appends_has_no_place_for_a_tombstone() -> None:
    decoded = decoder({"key.format": "json"}).decode(records(*ROWS))
    assert [index for index, kind, _ in rejected(decoded) if kind == "tombstone"] == [1, 3, 4]


PREFIXED = {"key.format": "json", "key.fields": "k_id", "key.fields-prefix": "k_", "value.fields-include": "EXCEPT_KEY"}


def test_columns_of_the_key_come_from_the_key() -> None:
    schema = pa.schema([pa.field("k_id", pa.int64(), nullable=False), ("v", pa.string())])
    with_keys = decoder(PREFIXED, schema, ())
    assert with_keys.columns() == pa.schema([("v", pa.string()), schema.field("k_id")])
    decoded = with_keys.decode(
        records((b'{"id": 1}', b'{"v": "a"}'), (None, b'{"v": "b"}'), (b'{"id": 3}', b"bad"), (b'{"id": 4}', b'{"v": null}'))
    )
    assert rows(decoded) == [{"v": "a", "k_id": 1}, {"v": None, "k_id": 4}]
    assert decoded.kept is not None
    assert decoded.kept.to_pylist() == [0, 3]
    assert [(index, kind) for index, kind, _ in rejected(decoded)] == [(1, "misfit"), (2, "malformed")]


def test_of_no_record_a_key_can_be_read() -> None:
    schema = pa.schema([("k_id", pa.int64()), ("v", pa.string())])
    decoded = decoder(PREFIXED, schema, ()).decode(records((b"?", b'{"v": "a"}'), (None, b'{"v": "b"}')))
    assert (rows(decoded), [index for index, *_ in rejected(decoded)]) == ([], [0, 1])


def test_every_metadata_column_is_of_its_own_record() -> None:
    decoded = decoder({"metadata.columns": "all"}, key=()).decode(
        records((b"k", b'{"id": 1}'), (b"l", b"?"), (None, b'{"id": 2}'))
    )
    first, second = rows(decoded)
    assert (first["kafka_offset"], first["kafka_key"], first["kafka_value"]) == (100, b"k", b'{"id": 1}')
    assert (first["kafka_headers"], first["kafka_leader_epoch"], first["kafka_timestamp_type"]) == ([], 7, "CreateTime")
    assert (second["kafka_offset"], second["kafka_key"], second["kafka_topic"], second["kafka_partition"]) == (
        102,
        None,
        "t",
        0,
    )


def test_headers_keep_their_order_and_repeat() -> None:
    decoded = decoder({"metadata.columns": "headers"}, key=()).decode(records((None, b"?"), (None, b'{"id": 1}')))
    assert rows(decoded)[0]["kafka_headers"] == [{"key": "h", "value": b"1"}, {"key": "h", "value": None}]


@pytest.mark.parametrize("options", [{}, {"key.format": "json"}, {"changelog.mode": "upsert", "key.format": "json"}])
def test_no_records_come_to_nothing(options: dict[str, str]) -> None:
    decoded = decoder(options).decode(records())
    assert (rows(decoded), decoded.rejects, decoded.deletes) == ([], (), ())
