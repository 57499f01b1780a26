from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from lakeflow.landing.rows import before, next_offsets, with_metadata
from lakeflow.landing.spec import METADATA_COLUMNS
from lakeflow.topics.source import Records, TopicPartition, size_of

PLACES = [("a", 0), ("a", 1)]


def records_of(*rows: tuple[int, int], ends: dict[TopicPartition, int] | None = None) -> Records:
    """Records of topic a at (partition, offset)."""
    return Records(
        topics=["a"] * len(rows),
        partitions=[partition for partition, _ in rows],
        offsets=[offset for _, offset in rows],
        timestamps=[1_357_000_000_000 if offset else -1 for _, offset in rows],
        timestamp_types=[offset % 3 for _, offset in rows],
        keys=[b"k" if offset else None for _, offset in rows],
        values=[b"value" for _ in rows],
        headers=[[("h", b"1")] for _ in rows],
        leader_epochs=[5 if offset else None for _, offset in rows],
        ends=ends or {},
    )


ROWS = pa.RecordBatch.from_pydict({"id": [10, 11, 12]})
THREE = records_of((0, 0), (1, 1), (0, 2))


def test_without_metadata_the_rows_are_left_alone() -> None:
    assert with_metadata(ROWS, THREE, None, {}) is ROWS


def test_metadata_stands_behind_the_rows() -> None:
    rows = with_metadata(ROWS, THREE, None, {name: f"kafka_{name}" for name in METADATA_COLUMNS})
    assert rows.schema.names == ["id", *(f"kafka_{name}" for name in METADATA_COLUMNS)]
    moment = datetime.fromtimestamp(1_357_000_000, UTC)
    assert rows.to_pylist() == [
        row(10, 0, 0, None, None, None),
        row(11, 1, 1, moment, "CreateTime", b"k"),
        row(12, 0, 2, moment, "LogAppendTime", b"k"),
    ]


def row(
    number: int, partition: int, offset: int, at: datetime | None, kind: str | None, key: bytes | None
) -> dict[str, object]:
    return {
        "id": number,
        "kafka_topic": "a",
        "kafka_partition": partition,
        "kafka_offset": offset,
        "kafka_timestamp": at,
        "kafka_timestamp_type": kind,
        "kafka_leader_epoch": 5 if offset else None,
        "kafka_headers": [{"key": "h", "value": b"1"}],
        "kafka_key": key,
        "kafka_value": b"value",
    }


def test_metadata_goes_with_the_rows_that_are_kept() -> None:
    rows = with_metadata(ROWS.slice(0, 2), THREE, pa.array([0, 2], pa.int64()), {"offset": "kafka_offset", "partition": "p"})
    assert rows.to_pydict() == {"id": [10, 11], "kafka_offset": [0, 2], "p": [0, 0]}


def test_the_next_offset_is_one_past_the_last_of_each_partition() -> None:
    assert next_offsets(THREE) == {("a", 0): 3, ("a", 1): 2}


def test_the_end_of_a_partition_goes_before_its_last_record() -> None:
    ended = records_of((0, 4), ends={("a", 0): 9, ("a", 1): 7})
    assert next_offsets(ended) == {("a", 0): 9, ("a", 1): 7}
    assert next_offsets(Records()) == {}


def test_the_size_is_that_of_keys_and_values() -> None:
    assert size_of(THREE) == 3 * 5 + 2
    assert size_of(Records(values=[None, b""], keys=[None, None])) == 0


OFFSETS = st.lists(st.integers(0, 1), max_size=20).map(
    lambda parts: records_of(
        *((part, parts[:place].count(part)) for place, part in enumerate(parts)), ends={("a", 0): 99, ("a", 1): 99}
    )
)


@given(records=OFFSETS, first=st.dictionaries(st.sampled_from(PLACES), st.integers(0, 20)))
def test_before_keeps_what_stands_before_the_first_of_each_partition(
    records: Records, first: dict[TopicPartition, int]
) -> None:
    kept = before(records, first)
    places = list(zip(kept.topics, kept.partitions, kept.offsets, strict=True))
    expected = [
        (topic, part, offset)
        for topic, part, offset in zip(records.topics, records.partitions, records.offsets, strict=True)
        if (topic, part) not in first or offset < first[topic, part]
    ]
    assert places == expected
    columns = (kept.timestamps, kept.timestamp_types, kept.keys, kept.values, kept.headers or [])
    assert {len(column) for column in columns} == {len(expected)}
    assert kept.ends == {place: 99 for place in PLACES if place not in first}


def test_before_leaves_headers_out_where_none_were_asked_for() -> None:
    assert before(Records(), {}).headers is None
