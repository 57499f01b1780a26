"""Progress: what the strings in commits say, and what is not accepted as one."""

from __future__ import annotations

import pytest

from lakeflow.errors import Terminal
from lakeflow.progress import KAFKA_EXAMPLE, POSITION_EXAMPLE, JobProgress, KafkaOffsets, SnapshotPosition


def test_offsets_point_one_past_the_last_record() -> None:
    after = KafkaOffsets().advance([("flights", 0, 4), ("flights", 1, 0), ("flights", 0, 2)])
    assert after.next_offset("flights", 0) == 5
    assert after.next_offset("flights", 1) == 1
    assert after.next_offset("flights", 2) is None


def test_advance_leaves_what_it_started_from_alone() -> None:
    before = KafkaOffsets({("flights", 0): 5})
    assert before.advance([("flights", 0, 9)]).next_offset("flights", 0) == 10
    assert before.next_offset("flights", 0) == 5


def test_equal_offsets_are_equal_strings_whatever_the_order() -> None:
    one = KafkaOffsets({("b", 0): 1, ("a", 10): 2, ("a", 9): 3})
    other = KafkaOffsets({("a", 9): 3, ("b", 0): 1, ("a", 10): 2})
    assert one.dumps() == other.dumps()


def test_ids_stand_behind_the_topics_and_are_left_out_where_none_is_known() -> None:
    known = KafkaOffsets({("b", 0): 1, ("a", 10): 2}, {"b": "two", "a": "one"})
    assert known.dumps() == '{"a":{"10":2},"b":{"0":1},"#ids":{"a":"one","b":"two"}}'
    assert KafkaOffsets.loads(known.dumps()) == known
    assert KafkaOffsets.loads('{"a":{"0":2}}').topic_ids == {}


def test_moving_keeps_the_ids() -> None:
    begun = KafkaOffsets({("a", 0): 1, ("b", 0): 1}, {"a": "one"})
    assert begun.advance([("a", 0, 4)]) == KafkaOffsets({("a", 0): 5, ("b", 0): 1}, {"a": "one"})
    assert begun.moved_to({("b", 0): 9}) == KafkaOffsets({("a", 0): 1, ("b", 0): 9}, {"a": "one"})


def test_ids_are_taken_up_where_they_are_known_and_of_topics_that_were_read() -> None:
    begun = KafkaOffsets({("a", 0): 1, ("b", 0): 1}, {"a": "one"})
    assert begun.identified({"a": None, "b": "two", "c": "three"}).topic_ids == {"a": "one", "b": "two"}


def test_only_some_topics_come_with_only_their_ids() -> None:
    both = KafkaOffsets({("a", 0): 1, ("b", 0): 1}, {"a": "one", "b": "two"})
    assert both.only("b".__eq__) == KafkaOffsets({("b", 0): 1}, {"b": "two"})


def test_the_beginning_is_no_string() -> None:
    assert KafkaOffsets.loads(None) == KafkaOffsets()
    assert SnapshotPosition.loads(None) is None


def test_the_examples_of_the_messages_are_readable() -> None:
    assert KafkaOffsets.loads(KAFKA_EXAMPLE).dumps() == KAFKA_EXAMPLE
    position = SnapshotPosition.loads(POSITION_EXAMPLE)
    assert position is not None
    assert position.dumps() == POSITION_EXAMPLE


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "12", '"a"', "null", '{"t":3}', '{"t":{"x":1}}', '{"t":{"0":null}}', '{"#ids":{"t":1}}']
)
def test_offsets_that_are_not_readable_are_refused_with_what_was_read(text: str) -> None:
    with pytest.raises(Terminal, match="progress of a landing is not readable") as caught:
        KafkaOffsets.loads(text)
    assert repr(text) in caught.value.message


@pytest.mark.parametrize("text", ["", "{", "[]", "12", '"a"', "null", "{}", '{"table":"u","snapshot":"x","sequence":1}'])
def test_a_position_that_is_not_readable_is_refused_with_what_was_read(text: str) -> None:
    with pytest.raises(Terminal, match="progress of a job is not readable") as caught:
        SnapshotPosition.loads(text)
    assert repr(text) in caught.value.message


@pytest.mark.parametrize(
    ("position", "covered", "left"),
    [
        (SnapshotPosition("u", 1, 5), [(4, "z"), (5, "a"), (5, "z")], [(6, "a")]),
        (SnapshotPosition("u", 1, 5, "m"), [(4, "z"), (5, "a"), (5, "m")], [(5, "n"), (6, "a")]),
    ],
)
def test_a_position_covers_the_files_up_to_it(
    position: SnapshotPosition, covered: list[tuple[int, str]], left: list[tuple[int, str]]
) -> None:
    assert all(position.covers(*place) for place in covered)
    assert not any(position.covers(*place) for place in left)


HERE, THERE = SnapshotPosition("u", 7, 3, "a/b.parquet"), SnapshotPosition("v", 9, 4)


def test_progress_in_one_table_is_its_position_alone() -> None:
    progress = JobProgress({"bronze.flights": HERE})
    assert progress.dumps() == HERE.dumps()
    assert JobProgress.loads(HERE.dumps(), "bronze.flights") == progress


def test_progress_in_several_tables_or_with_state_is_read_back() -> None:
    for progress in (
        JobProgress({"bronze.flights": HERE, "dim.carriers": THERE}),
        JobProgress({"bronze.flights": HERE}, {"windows": {"watermark": 12, "idle": [True, None, "x"]}}),
    ):
        assert JobProgress.loads(progress.dumps(), "another.table") == progress


def test_equal_progress_is_an_equal_string_whatever_the_order() -> None:
    one = JobProgress({"a.b": HERE, "c.d": THERE}, {"keys": {"x": 1, "y": 2}, "windows": 3})
    other = JobProgress({"c.d": THERE, "a.b": HERE}, {"windows": 3, "keys": {"y": 2, "x": 1}})
    assert one.dumps() == other.dumps()


def test_the_beginning_of_a_job_has_no_position() -> None:
    assert JobProgress.loads(None, "a.b") == JobProgress()
    assert JobProgress().of("a.b", "u") is None


def test_a_renamed_table_is_known_by_its_identity_and_one_made_anew_shows_the_position_before() -> None:
    progress = JobProgress({"a.b": HERE, "c.d": THERE})
    assert progress.of("a.renamed", "u") == HERE
    assert progress.of("c.d", "w") == THERE
    assert progress.of("a.other", "w") is None


def test_moving_in_one_table_leaves_the_rest() -> None:
    moved = JobProgress({"a.b": HERE, "c.d": THERE}, {"windows": 1}).at("c.d", HERE)
    assert moved == JobProgress({"a.b": HERE, "c.d": HERE}, {"windows": 1})


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "12", '"a"', "null", "{}", '{"tables":3}', '{"tables":{"a":{}}}', '{"tables":{},"state":[]}']
)
def test_progress_of_a_job_that_is_not_readable_is_refused_with_what_was_read(text: str) -> None:
    with pytest.raises(Terminal, match="progress of a job is not readable") as caught:
        JobProgress.loads(text, "a.b")
    assert repr(text) in caught.value.message
