from __future__ import annotations

import pytest

from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Committer
from lakeflow.lake.read import snapshot_at, splits_at
from lakeflow.landing.dead_letters import DEAD_LETTERS, DeadLetter, DeadLetters, Place
from lakeflow.landing.letters_ordered import OrderedLetters
from lakeflow.landing.letters_read import Wanted
from lakeflow.progress import KafkaOffsets
from lakeflow.topics.source import Records, TopicPartition

PLACES: list[Place] = [("b", 1, 5), ("a", 10, 1), ("a", 2, 9), ("b", 0, 7), ("a", 2, 10), ("a", 2, 2)]


def letter(place: Place, size: int = 1, kind: str = "misfit") -> DeadLetter:
    return DeadLetter(*place, 1500, b"k", b"v" * size, kind, "why", 2, 4, [("h", None)])


def kept(lake: Lake, table: str, *letters: DeadLetter, uuid: str = "u") -> None:
    upto = KafkaOffsets({("a", 0): 1})
    DeadLetters(lake, Committer(lake), table, uuid).write(letters, upto)


def ordered(lake: Lake, most_letters: int = 100, most_bytes: int = 1 << 20) -> OrderedLetters:
    letters = lake.table(DEAD_LETTERS)
    splits = splits_at(letters, snapshot_at(letters))
    return OrderedLetters(letters, splits, Wanted(("b.t",)), most_letters=most_letters, most_bytes=most_bytes)


def windows(letters: OrderedLetters) -> list[list[Place]]:
    return [places(records) for records in letters.windows(lambda some: some)]


def places(records: Records) -> list[Place]:
    return list(zip(records.topics, records.partitions, records.offsets, strict=True))


@pytest.fixture
def filled(lake: Lake) -> Lake:
    for place in PLACES:
        kept(lake, "b.t", letter(place))
        kept(lake, "b.other", letter(("a", 2, 3)))
    return lake


@pytest.mark.parametrize("most", [1, 2, 3, 100])
def test_windows_are_in_the_order_of_places(filled: Lake, most: int) -> None:
    found = windows(ordered(filled, most_letters=most))
    assert [place for window in found for place in window] == sorted(PLACES)
    assert [len(window) for window in found] == [min(most, 6 - start) for start in range(0, 6, most)]


def test_a_window_holds_bytes_or_a_single_letter(lake: Lake) -> None:
    sizes = [10, 9000, 10, 20, 3000, 10]
    kept(lake, "b.t", *(letter(("a", 0, offset), size) for offset, size in reversed(list(enumerate(sizes)))))
    found = windows(ordered(lake, most_bytes=4000))
    assert [[offset for _, _, offset in window] for window in found] == [[0], [1], [2, 3], [4], [5]]


def test_only_what_is_chosen_is_read(filled: Lake) -> None:
    letters = ordered(filled, most_letters=2)
    asked: list[set[Place]] = []

    def chosen(some: object) -> set[Place]:
        asked.append(set(some))  # type: ignore[call-overload]
        return {place for place in asked[-1] if place[2] > 8}

    found = [places(records) for records in letters.windows(chosen)]
    assert [sorted(some) for some in asked] == [sorted(PLACES)[start : start + 2] for start in range(0, 6, 2)]
    assert found == [[("a", 2, 9)], [("a", 2, 10)]]


def test_one_partition_alone(filled: Lake) -> None:
    letters = filled.table(DEAD_LETTERS)
    splits = splits_at(letters, snapshot_at(letters))
    partition: TopicPartition = ("a", 2)
    found = windows(OrderedLetters(letters, splits, Wanted(("b.t",)), partition))
    assert found == [[("a", 2, 2), ("a", 2, 9), ("a", 2, 10)]]


def test_of_a_place_with_two_letters_one_is_given(lake: Lake) -> None:
    kept(lake, "b.t", letter(("a", 0, 1)))
    kept(lake, "b.t", letter(("a", 0, 1)), letter(("a", 0, 2)), uuid="another")
    assert [place for window in windows(ordered(lake)) for place in window] == [("a", 0, 1), ("a", 0, 2)]
    assert [place for window in windows(ordered(lake, most_letters=1)) for place in window] == [("a", 0, 1), ("a", 0, 2)]


def test_letters_are_the_records_that_they_were(lake: Lake) -> None:
    kept(lake, "b.t", letter(("a", 0, 1)), DeadLetter("a", 0, 2, -1, None, None, "tombstone", "why"))
    (records,) = ordered(lake).windows(lambda some: some)
    assert records == Records(
        topics=["a", "a"],
        partitions=[0, 0],
        offsets=[1, 2],
        timestamps=[1500, -1],
        timestamp_types=[2, 0],
        keys=[b"k", None],
        values=[b"v", None],
        headers=[[("h", None)], None],
        leader_epochs=[4, None],
    )
