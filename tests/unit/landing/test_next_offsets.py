"""Where a landing goes on in each partition, after a poll."""

from __future__ import annotations

import pytest

from lakeflow.landing.rows import next_offsets
from lakeflow.topics.source import Records, TopicPartition


def polled(*places: tuple[str, int, int], ends: dict[TopicPartition, int]) -> Records:
    topics, partitions, offsets = map(list, zip(*places, strict=True)) if places else ([], [], [])
    return Records(topics=topics, partitions=partitions, offsets=offsets, ends=ends)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ({}, {("t", 0): 8, ("t", 1): 3}),
        ({("t", 0): 10}, {("t", 0): 10, ("t", 1): 3}),
        ({("t", 2): 5}, {("t", 0): 8, ("t", 1): 3, ("t", 2): 5}),
    ],
    ids=["no end", "an end beyond the last record", "an end alone"],
)
def test_an_end_goes_before_the_last_record(ends: dict[TopicPartition, int], expected: dict[TopicPartition, int]) -> None:
    assert next_offsets(polled(("t", 0, 6), ("t", 1, 2), ("t", 0, 7), ends=ends)) == expected


def test_several_topics_are_told_apart() -> None:
    after = next_offsets(polled(("t", 0, 6), ("u", 0, 2), ("u", 1, 9), ("t", 0, 7), ends={}))
    assert after == {("t", 0): 8, ("u", 0): 3, ("u", 1): 10}
    assert next_offsets(polled(ends={})) == {}
