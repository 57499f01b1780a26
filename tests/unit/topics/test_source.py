"""Where a landing starts: options to a Start, a Start and progress to offsets."""

from __future__ import annotations

import pytest

from lakeflow.errors import DeclarationError, SourceChanged, UnknownName
from lakeflow.progress import KafkaOffsets
from lakeflow.topics.source import (
    AtOffsets,
    AtTimestamp,
    Bounds,
    Earliest,
    Latest,
    Start,
    check_identity,
    start_of,
    start_offsets,
)

MODE = "scan.startup.mode"
BOUNDS = {("t", 0): Bounds(10, 100), ("t", 1): Bounds(0, 0), ("t", 2): Bounds(5, 7)}
NOTHING = KafkaOffsets()


@pytest.mark.parametrize(
    ("options", "start"),
    [
        ({}, Earliest()),
        ({"topic": "t"}, Earliest()),
        ({MODE: "earliest-offset"}, Earliest()),
        ({MODE: "latest-offset"}, Latest()),
        ({MODE: "timestamp", "scan.startup.timestamp-millis": "1356998400000"}, AtTimestamp(1356998400000)),
        (
            {MODE: "specific-offsets", "scan.startup.specific-offsets": "partition:0,offset:42;partition:1,offset:300"},
            AtOffsets({0: 42, 1: 300}),
        ),
    ],
)
def test_options_name_a_start(options: dict[str, str], start: Start) -> None:
    assert start_of(options) == start


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({MODE: "earliest"}, "'scan.startup.mode' is 'earliest'; did you mean 'earliest-offset'"),
        ({MODE: "group-offsets"}, "valid: earliest-offset, latest-offset, specific-offsets, timestamp"),
        ({MODE: "timestamp"}, "'scan.startup.timestamp-millis' is missing"),
        ({MODE: "specific-offsets"}, "'scan.startup.specific-offsets' is missing"),
        ({"scan.startup.timestamp-millis": "5"}, "'scan.startup.timestamp-millis' has no effect with 'scan.startup.mode'"),
        ({MODE: "timestamp", "scan.startup.timestamp-millis": "2013-01-01"}, "is '2013-01-01'; valid: milliseconds"),
        ({MODE: "timestamp", "scan.startup.timestamp-millis": "-5"}, "is '-5'; valid: milliseconds"),
        ({MODE: "specific-offsets", "scan.startup.specific-offsets": "0:42"}, "holds '0:42'; valid: 'partition:0,offset:42"),
        (
            {MODE: "specific-offsets", "scan.startup.specific-offsets": "partition:0,offset:1;partition:0,offset:2"},
            "gives partition 0 twice",
        ),
    ],
)
def test_wrong_options_say_what_is_valid(options: dict[str, str], message: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        start_of(options)
    assert message in caught.value.message


def test_an_unknown_startup_option_is_refused() -> None:
    with pytest.raises(UnknownName, match=r"did you mean 'scan\.startup\.mode'"):
        start_of({"scan.startup.mod": "timestamp"})


@pytest.mark.parametrize(
    ("start", "offsets"),
    [
        (Earliest(), [10, 0, 5]),
        (Latest(), [100, 0, 7]),
        (AtTimestamp(1), [50, 0, 7]),
        (AtOffsets({0: 42}), [42, 0, 5]),
    ],
)
def test_without_progress_the_start_counts(start: Start, offsets: list[int]) -> None:
    found = start_offsets(start, BOUNDS, NOTHING, {("t", 0): 50, ("t", 1): 0})
    assert found == dict(zip(BOUNDS, offsets, strict=True))


def test_progress_wins_and_added_partitions_start_at_their_beginning() -> None:
    progress = KafkaOffsets({("t", 0): 60, ("t", 1): 0})
    assert start_offsets(Latest(), BOUNDS, progress) == {("t", 0): 60, ("t", 1): 0, ("t", 2): 5}


def test_a_topic_without_progress_starts_as_declared_beside_one_with() -> None:
    bounds = {("t", 0): Bounds(0, 9), ("u", 0): Bounds(0, 9)}
    assert start_offsets(Latest(), bounds, KafkaOffsets({("t", 0): 3})) == {("t", 0): 3, ("u", 0): 9}


@pytest.mark.parametrize("offset", [10, 100])
def test_progress_at_either_bound_is_inside(offset: int) -> None:
    assert start_offsets(Earliest(), BOUNDS, KafkaOffsets({("t", 0): offset}))["t", 0] == offset


@pytest.mark.parametrize(
    ("progress", "message"),
    [
        ({("t", 0): 3}, "7 records from offset 3 on are gone; the first that is kept is at 10"),
        ({("t", 0): 101}, "ends at offset 100, before 101 where the table goes on"),
        ({("t", 9): 4}, "no partition 9, which was read up to offset 4"),
    ],
)
def test_progress_that_lost_its_place_is_never_moved(progress: dict[tuple[str, int], int], message: str) -> None:
    with pytest.raises(SourceChanged) as caught:
        start_offsets(Earliest(), BOUNDS, KafkaOffsets(progress))
    assert message in caught.value.message
    assert caught.value.next_step


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({7: 0}, "topic 't' has no partition 7; valid: 0, 1, 2"),
        ({0: 9}, "partition 0 of topic 't' has no offset 9; valid: 10 to 100"),
        ({0: 101}, "valid: 10 to 100"),
    ],
)
def test_given_offsets_must_be_there(given: dict[int, int], message: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        start_offsets(AtOffsets(given), BOUNDS, NOTHING)
    assert message in caught.value.message


def test_given_offsets_are_for_one_topic() -> None:
    with pytest.raises(DeclarationError, match=r"for one topic, and there are 2: t, u"):
        start_offsets(AtOffsets({0: 1}), {("t", 0): Bounds(0, 1), ("u", 0): Bounds(0, 1)}, NOTHING)


READ = KafkaOffsets({("t", 0): 60, ("t", 1): 0, ("t", 2): 5}, {"t": "one"})


def test_a_topic_of_another_id_is_refused_even_where_the_offsets_fit() -> None:
    with pytest.raises(SourceChanged) as caught:
        start_offsets(Earliest(), BOUNDS, READ, topic_ids={"t": "two"})
    assert "topic 't' was deleted and created anew since" in caught.value.message
    assert "id one" in caught.value.message
    assert "id two" in caught.value.message
    assert caught.value.next_step


def test_ids_are_compared_without_offsets_too() -> None:
    check_identity(READ, {"t": "one", "u": "x"})
    with pytest.raises(SourceChanged, match="created anew since"):
        check_identity(READ, {"t": "two"})


def test_the_id_is_told_before_the_offsets_that_come_of_it() -> None:
    with pytest.raises(SourceChanged, match="created anew since"):
        start_offsets(Earliest(), {("t", 0): Bounds(0, 1)}, READ, topic_ids={"t": "two"})


@pytest.mark.parametrize("now", [{"t": "one"}, {"t": None}, {}, None])
def test_the_same_id_and_one_that_nobody_knows_are_no_change(now: dict[str, str | None] | None) -> None:
    assert start_offsets(Earliest(), BOUNDS, READ, topic_ids=now) == READ.offsets


def test_an_id_that_the_progress_does_not_have_is_accepted() -> None:
    before = KafkaOffsets(READ.offsets)
    assert start_offsets(Earliest(), BOUNDS, before, topic_ids={"t": "one"}) == READ.offsets


def test_a_topic_that_came_later_is_read_from_its_beginning_whatever_the_start() -> None:
    bounds = {("t", 0): Bounds(0, 9), ("u", 0): Bounds(4, 9)}
    assert start_offsets(Latest(), bounds, KafkaOffsets({("t", 0): 3}), later=True) == {("t", 0): 3, ("u", 0): 4}


def test_given_offsets_no_longer_count_once_there_is_progress() -> None:
    progress = KafkaOffsets({place: bound.end for place, bound in BOUNDS.items()})
    assert start_offsets(AtOffsets({99: 0}), BOUNDS, progress)["t", 0] == 100
