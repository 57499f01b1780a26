"""Dead letters that go to a topic: what they look like there, and that nothing lands before they are there."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from lakeflow.errors import DeclarationError, SourceUnavailable
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Committer
from lakeflow.landing.counts import Counts, Landed
from lakeflow.landing.dead_letters import DEAD_LETTERS, DeadLetter
from lakeflow.landing.letter_topic import TopicLetters, open_letter_topic, outgoing
from lakeflow.landing.open import open_decoder
from lakeflow.landing.reading import OwnReading
from lakeflow.landing.writer import Landing
from lakeflow.testing.source import Crash, ListSource
from lakeflow.topics.sink import Outgoing
from lakeflow.topics.source import Earliest
from tests.crashes import Crashes, Plan, Where
from tests.unit.landing.letters import BROKEN, SIZES, TABLE, TOPIC, Post, record

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
DLQ = {"dead_letter.topic": "orders-dlq"}


def test_a_letter_is_its_record_with_the_error_in_headers_behind_its_own() -> None:
    headers: list[tuple[str, bytes | None]] = [("trace", b"7"), ("empty", None), ("lakeflow.table", b"theirs")]
    letter = DeadLetter("orders", 3, 17, 1500, b"k", b"\xff", "malformed", "no JSON: é", headers=headers)
    assert outgoing(letter, "bronze.t", AT) == Outgoing(
        key=b"k",
        value=b"\xff",
        headers=[
            *headers,
            ("__connect.errors.topic", b"orders"),
            ("__connect.errors.partition", b"3"),
            ("__connect.errors.offset", b"17"),
            ("__connect.errors.connector.name", b"lakeflow"),
            ("__connect.errors.exception.class.name", b"malformed"),
            ("__connect.errors.exception.message", "no JSON: é".encode()),
            ("lakeflow.table", b"bronze.t"),
            ("lakeflow.rejected-at", b"2026-01-31T12:00:00+00:00"),
        ],
        timestamp=1500,
        origin="topic 'orders' partition 3 offset 17",
    )


@pytest.mark.parametrize(
    "options", [{"dead_letter.topic": TOPIC}, {"topic": "", "topic-pattern": "orders.*", "dead_letter.topic": "orders-dlq"}]
)
def test_a_landing_that_would_read_its_own_letters_is_refused(lake: Lake, options: dict[str, str]) -> None:
    spec = Post(lake, options=options).spec
    with pytest.raises(DeclarationError, match="its own dead letters for ever"):
        open_letter_topic(spec, {"bootstrap.servers": "127.0.0.1:1"}, request_timeout=0.1)


class Topic:
    """A topic in memory. With `away` it takes one record of what is written, and no more."""

    def __init__(self) -> None:
        self.records: list[Outgoing] = []
        self.away = False

    def write(self, records: Sequence[Outgoing]) -> None:
        self.records += records[:1] if self.away else records
        if self.away:
            raise SourceUnavailable("the brokers are away")


def land(post: Post, topic: Topic) -> Landed:
    spec = post.spec
    reading = OwnReading(spec.topics, ListSource(post.partitions, headers={}), Earliest())
    letters = TopicLetters(topic, TABLE)
    landing = Landing(spec, reading, open_decoder(spec, None), post.lake, Committer(post.lake), letters=letters, sizes=SIZES)
    return landing.run()


@pytest.fixture
def post(lake: Lake) -> Post:
    post = Post(lake, options=DLQ)
    post.add(record(1), BROKEN, record(2), BROKEN)
    return post


def test_letters_go_to_the_topic_in_place_of_the_table(post: Post) -> None:
    topic = Topic()
    assert land(post, topic).counts == Counts(4, 2, 2)
    assert [sent.origin[-1] for sent in topic.records] == ["1", "3"]
    assert not post.lake.exists(DEAD_LETTERS)


def test_where_a_letter_is_not_taken_nothing_lands(post: Post) -> None:
    topic = Topic()
    topic.away = True
    with pytest.raises(SourceUnavailable):
        land(post, topic)
    assert post.rows() == []
    topic.away = False
    assert land(post, topic).counts == Counts(4, 2, 2)
    assert [sent.origin[-1] for sent in topic.records] == ["1", "1", "3"], "at least once"


def test_a_landing_that_dies_before_its_rows_writes_its_letters_again(post: Post) -> None:
    topic = Topic()
    with Crashes().survived(Plan(Where.BEFORE_COMMIT, 1), post.lake), pytest.raises(Crash):
        land(post, topic)
    assert len(topic.records) == 2
    land(post, topic)
    assert [sent.origin[-1] for sent in topic.records] == ["1", "3", "1", "3"]
    assert [number for *_, number in post.rows()] == [1, 2]
