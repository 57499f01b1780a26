from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from lakeflow.errors import Fenced, StorageFull, Terminal
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Committer
from lakeflow.lake.write import DataWriter
from lakeflow.landing import dead_letters
from lakeflow.landing.dead_letters import DEAD_LETTERS, DeadLetter, DeadLetters, Taken
from lakeflow.progress import KafkaOffsets
from tests.lakes import query, stored_files

UUID = "5f0e"


def letters_of(lake: Lake, table: str = "bronze.t", uuid: str = UUID) -> DeadLetters:
    return DeadLetters(lake, Committer(lake), table, uuid)


def letter(offset: int, partition: int = 0) -> DeadLetter:
    return DeadLetter("flights", partition, offset, 1_357_000_000_000, b"k", b"{broken", "malformed", "no JSON")


def upto(*ends: int) -> KafkaOffsets:
    return KafkaOffsets({("flights", partition): end for partition, end in enumerate(ends)})


def held(lake: Lake) -> list[tuple[Any, ...]]:
    return query(lake.table(DEAD_LETTERS), 'SELECT "table", partition, "offset" FROM rows ORDER BY ALL')


def test_a_letter_keeps_the_record_and_why_it_gave_no_row(lake: Lake) -> None:
    known = replace(letter(3), timestamp_type=1, leader_epoch=4, headers=[("h", b"1"), ("h", None)])
    assert letters_of(lake).write([known], upto(5)) == 1
    [row] = lake.table(DEAD_LETTERS).scan().to_arrow().to_pylist()
    rejected_at = row.pop("rejected_at")
    assert rejected_at.tzinfo is not None
    assert row == {
        "table": "bronze.t",
        "topic": "flights",
        "partition": 0,
        "offset": 3,
        "timestamp": datetime.fromtimestamp(1_357_000_000, UTC),
        "key": b"k",
        "value": b"{broken",
        "kind": "malformed",
        "error": "no JSON",
        "timestamp_type": "CreateTime",
        "leader_epoch": 4,
        "headers": [{"key": "h", "value": b"1"}, {"key": "h", "value": None}],
        "model": None,
    }


def test_a_record_without_key_value_or_time_is_kept_too(lake: Lake) -> None:
    letters_of(lake).write([DeadLetter("flights", 0, 3, -1, None, None, "tombstone", "no value")], upto(5))
    [row] = lake.table(DEAD_LETTERS).scan().to_arrow().to_pylist()
    assert (row["timestamp"], row["key"], row["value"]) == (None, None, None)


def test_without_a_letter_there_is_no_table(lake: Lake) -> None:
    assert letters_of(lake).write([], upto(5)) == 0
    assert not lake.exists(DEAD_LETTERS)


def test_a_batch_that_is_read_again_adds_no_letter_twice(lake: Lake) -> None:
    letters_of(lake).write([letter(1), letter(3)], upto(5))
    again = letters_of(lake)
    assert again.write([letter(1), letter(3)], upto(5)) == 0
    assert again.write([letter(3), letter(7)], upto(9)) == 1
    assert held(lake) == [("bronze.t", 0, offset) for offset in (1, 3, 7)]


def test_the_partitions_are_told_apart(lake: Lake) -> None:
    letters_of(lake).write([letter(3, partition=0)], upto(5))
    assert letters_of(lake).write([letter(3, partition=0), letter(2, partition=1)], upto(5, 4)) == 1
    assert held(lake) == [("bronze.t", 0, 3), ("bronze.t", 1, 2)]


def test_a_batch_cut_elsewhere_the_second_time_adds_what_is_new(lake: Lake) -> None:
    letters_of(lake).write([letter(1), letter(3)], upto(4))
    again = letters_of(lake)
    assert again.write([letter(1)], upto(2)) == 0
    assert again.write([letter(3), letter(5)], upto(8)) == 1
    assert [offset for _, _, offset in held(lake)] == [1, 3, 5]


def test_two_tables_of_one_topic_have_letters_of_their_own(lake: Lake) -> None:
    letters_of(lake, "bronze.a").write([letter(3)], upto(5))
    assert letters_of(lake, "bronze.b").write([letter(3)], upto(5)) == 1


def test_a_table_made_anew_starts_anew(lake: Lake) -> None:
    letters_of(lake).write([letter(3)], upto(5))
    assert letters_of(lake, uuid="77aa").write([letter(3)], upto(5)) == 1


def test_what_is_rejected_only_the_second_time_is_not_lost(lake: Lake) -> None:
    letters_of(lake).write([letter(3)], upto(5))
    tightened = letters_of(lake)
    assert tightened.write([letter(1), letter(3), letter(4)], upto(5)) == 2
    assert tightened.write([letter(1), letter(3), letter(4)], upto(5)) == 0
    assert held(lake) == [("bronze.t", 0, offset) for offset in (1, 3, 4)]


def test_a_letter_of_another_table_or_topic_at_the_same_place_is_not_taken_for_ours(lake: Lake) -> None:
    letters_of(lake, "bronze.a").write([letter(3)], upto(5))
    letters_of(lake, "bronze.a").write([replace(letter(2), topic="other")], KafkaOffsets({("other", 0): 5}))
    letters_of(lake, "bronze.b").write([letter(2)], upto(5))
    assert letters_of(lake, "bronze.a").write([letter(2)], upto(5)) == 1
    assert letters_of(lake, "bronze.b").write([letter(3)], upto(5)) == 1


def test_a_letter_of_an_earlier_table_is_not_taken_for_ours(lake: Lake) -> None:
    letters_of(lake).write([letter(1)], upto(5))
    letters_of(lake, uuid="77aa").write([letter(3)], upto(5))
    assert letters_of(lake, uuid="77aa").write([letter(1), letter(3)], upto(5)) == 1
    assert held(lake) == [("bronze.t", 0, offset) for offset in (1, 1, 3)]


def test_of_two_landings_that_write_below_the_progress_the_second_is_fenced(lake: Lake) -> None:
    letters_of(lake).write([letter(3)], upto(5))
    first, second = letters_of(lake), letters_of(lake)
    first.write([letter(1)], upto(5))
    with pytest.raises(Fenced):
        second.write([letter(2)], upto(5))


@pytest.mark.parametrize("taken", [Taken(), Taken(upto(5), 7, 2), Taken(KafkaOffsets({("since", 0): 1}), 0, 3)])
def test_the_progress_is_read_as_it_was_written(taken: Taken) -> None:
    assert Taken.loads(taken.dumps()) == taken


def test_offsets_alone_are_read_as_progress() -> None:
    assert Taken.loads(upto(5).dumps()) == Taken(upto(5))
    with pytest.raises(Terminal, match="not readable"):
        Taken.loads("[1]")


def test_letters_that_cannot_be_written_leave_no_file(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    letters_of(lake).write([letter(1)], upto(2))
    before = stored_files(lake.table(DEAD_LETTERS))
    write = DataWriter.write

    def full(writer: DataWriter, rows: pa.Table) -> None:
        write(writer, rows)
        if writer.rows == 3:
            raise StorageFull("no room")

    monkeypatch.setattr(DataWriter, "write", full)
    monkeypatch.setattr(dead_letters, "CHUNK_LETTERS", 1)
    some = DeadLetters(lake, Committer(lake), "bronze.t", UUID, buffer_bytes=1)
    with pytest.raises(StorageFull):
        some.write([letter(3), letter(4), letter(5)], upto(6))
    assert stored_files(lake.table(DEAD_LETTERS)) == before


def test_of_two_landings_of_one_table_the_second_is_fenced(lake: Lake) -> None:
    first, second = letters_of(lake), letters_of(lake)
    first.write([letter(1)], upto(2))
    with pytest.raises(Fenced, match=r"landing\.bronze\.t"):
        second.write([letter(1)], upto(2))
    assert held(lake) == [("bronze.t", 0, 1)]
