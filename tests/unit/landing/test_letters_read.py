from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from lakeflow.errors import UnknownName, UsageError
from lakeflow.lake.catalog import Lake, Table
from lakeflow.lake.commit import Committer
from lakeflow.lake.read import Split, read
from lakeflow.landing import letters_read
from lakeflow.landing.dead_letters import DeadLetter, DeadLetters
from lakeflow.landing.letters_read import Wanted, letter_at, newest_letters, partition_of, place_of, place_text
from lakeflow.progress import KafkaOffsets
from tests.unit.landing.letters import BROKEN, LARGE, TABLE, TOPIC, Post, record


def kept(lake: Lake, table: str, *offsets: int, kind: str = "malformed") -> None:
    letters = [DeadLetter(TOPIC, 0, offset, 0, None, b"\xff", kind, "why") for offset in offsets]
    DeadLetters(lake, Committer(lake), table, "u").write(letters, KafkaOffsets({(TOPIC, 0): max(offsets) + 1}))


def listed(lake: Lake, wanted: Wanted = Wanted(), limit: int = 100) -> list[tuple[str, int]]:
    return [(row["table"], row["offset"]) for row in newest_letters(lake, Committer(lake), wanted, limit)]


def test_the_newest_letters_come_first(lake: Lake) -> None:
    assert listed(lake) == []
    kept(lake, "b.one", 1, 2)
    kept(lake, "b.two", 7)
    kept(lake, "b.one", 3)
    assert listed(lake) == [("b.one", 3), ("b.two", 7), ("b.one", 2), ("b.one", 1)]
    assert listed(lake, limit=2) == [("b.one", 3), ("b.two", 7)]


def test_no_more_files_are_read_than_are_needed(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    for offset in range(5):
        kept(lake, "b.one", offset)
    files: list[object] = []

    def counted(table: Table, splits: Sequence[Split], columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        files.extend(splits)
        return read(table, splits, columns)

    monkeypatch.setattr(letters_read, "read", counted)
    assert len(listed(lake, limit=2)) == 2
    assert len(files) == 2


def test_of_some_tables_of_a_kind_or_since_a_time(lake: Lake) -> None:
    kept(lake, "b.one", 1)
    kept(lake, "b.two", 2, kind="misfit")
    assert listed(lake, Wanted(("b.one", "b.other"))) == [("b.one", 1)]
    assert listed(lake, Wanted(kind="misfit")) == [("b.two", 2)]
    now = datetime.now(UTC)
    assert listed(lake, Wanted(since=now - timedelta(hours=1))) == [("b.two", 2), ("b.one", 1)]
    assert listed(lake, Wanted(since=now + timedelta(hours=1))) == []


def test_each_letter_has_its_state(lake: Lake) -> None:
    post = Post(lake)
    post.add(record(LARGE), BROKEN)
    post.land()
    lake.drop(TABLE)
    post.land()
    post.mend()
    post.replay()
    kept(lake, "b.nowhere", 1)
    rows = newest_letters(lake, Committer(lake), Wanted(), 10)
    assert [(row["table"], row["offset"], row["state"]) for row in rows] == [
        ("b.nowhere", 1, "earlier"),
        (TABLE, 1, "waiting"),
        (TABLE, 0, "replayed"),
        (TABLE, 1, "earlier"),
        (TABLE, 0, "earlier"),
    ]


def test_one_letter_is_shown_whole_and_the_newest_of_its_place(lake: Lake) -> None:
    post = Post(lake)
    post.add(BROKEN)
    post.land()
    lake.drop(TABLE)
    post.land()
    row = letter_at(lake, Committer(lake), TABLE, (TOPIC, 0, 0))
    assert (row["key"], row["value"], row["state"]) == (b"k", b"{broken", "waiting")
    assert {"rejected_at", "timestamp", "timestamp_type", "leader_epoch", "headers", "error"} <= set(row)


def test_a_letter_that_is_not_there_is_refused_with_those_that_are(lake: Lake) -> None:
    kept(lake, "b.one", 1, 2)
    with pytest.raises(UnknownName, match=r"orders:0:9.*valid: orders:0:1, orders:0:2"):
        letter_at(lake, Committer(lake), "b.one", (TOPIC, 0, 9))


def test_places_are_written_and_read() -> None:
    place = ("a.b-c_d", 3, 17)
    assert place_of(place_text(place)) == place
    assert partition_of("a.b:3") == ("a.b", 3)


@pytest.mark.parametrize("text", ["", "orders", "orders:0", ":0:1", "orders:0:x", "orders:0:1:2", "orders:-1:2", "orders:0:²"])
def test_what_names_no_place_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="TOPIC:PARTITION:OFFSET"):
        place_of(text)


@pytest.mark.parametrize("text", ["", "orders", ":0", "orders:x", "orders:0:1"])
def test_what_names_no_partition_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="TOPIC:PARTITION"):
        partition_of(text)
