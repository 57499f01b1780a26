"""What every Source does: the real one on the embedded broker and on a real one, the fake, and either polled ahead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import pytest

from lakeflow.errors import SourceChanged, UnknownName
from lakeflow.progress import KafkaOffsets
from lakeflow.testing.source import ListSource, Row
from lakeflow.topics.embedded import EmbeddedBroker
from lakeflow.topics.kafka import KafkaSource
from lakeflow.topics.names import NamedTopics, TopicPattern, Topics
from lakeflow.topics.prefetch import OwnSource, Prefetching
from lakeflow.topics.source import Bounds, GroupSource, Headers, IdentifiedSource, Records, Source, TopicPartition, size_of
from tests.rig.kafka import Kafka

PARTITIONS = 2
TIMEOUT = 10.0
POLL_BYTES = 500_000
HEADERS: dict[int, Headers] = {1: [("origin", b"JFK"), ("origin", b"EWR"), ("none", None)]}
"""What the record at an offset carries, for a source that is asked for headers."""

Content = Mapping[TopicPartition, Sequence[Row]]


class Make(Protocol):
    """Opens a source of `topic` on `content`, whose rows are written first, the ones at the offsets of HEADERS with those.

    `extras` asks for headers and leader epochs.
    """

    def __call__(self, topic: str | Topics, content: Content, extras: bool = False) -> Source: ...


numbers = iter(range(1000))


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(partitions=PARTITIONS) as opened:
        yield opened


@pytest.fixture(params=["kafka", "real kafka", "lists", "kafka ahead", "lists ahead"])
def make(request: pytest.FixtureRequest, broker: EmbeddedBroker) -> Iterator[Make]:
    opened: list[Source] = []
    is_ahead = request.param.endswith("ahead")

    def keep(source: OwnSource) -> Source:
        opened.append(Prefetching(source) if is_ahead else source)
        return opened[-1]

    def open_kafka(bootstrap: str, topic: str | Topics, extras: bool) -> Source:
        settings = {"bootstrap.servers": bootstrap}
        return keep(
            KafkaSource(
                settings,
                meant(topic),
                "land.test",
                headers=extras,
                leader_epochs=extras,
                request_timeout=TIMEOUT,
                poll_bytes=POLL_BYTES,
            )
        )

    def on_kafka(topic: str | Topics, content: Content, extras: bool = False) -> Source:
        for name, partition in content:
            broker.create(name)
            written = enumerate(content[name, partition])
            broker.produce(name, [(*row[:2], partition, row[2], HEADERS.get(offset)) for offset, row in written])
        return open_kafka(broker.bootstrap, topic, extras)

    def on_real_kafka(topic: str | Topics, content: Content, extras: bool = False) -> Source:
        cluster: Kafka = request.getfixturevalue("real_kafka")
        for name in {name for name, _ in content}:
            cluster.create(name, PARTITIONS)
        for (name, partition), written in content.items():
            cluster.produce(name, [(key, value, partition, stamp) for key, value, stamp in written], HEADERS)
        return open_kafka(cluster.bootstrap, topic, extras)

    def on_lists(topic: str | Topics, content: Content, extras: bool = False) -> Source:
        headers = {(*place, offset): HEADERS[offset] for place in content for offset in HEADERS}
        epochs = dict.fromkeys(content, 0)
        return keep(
            ListSource(
                content,
                topics=meant(topic),
                poll_bytes=POLL_BYTES,
                headers=headers if extras else None,
                leader_epochs=epochs if extras else None,
            )
        )

    yield {"kafka": on_kafka, "real kafka": on_real_kafka, "lists": on_lists}[request.param.removesuffix(" ahead")]
    for source in opened:
        source.close()


@pytest.fixture
def topic() -> str:
    return f"topic{next(numbers)}"


def meant(topic: str | Topics) -> Topics:
    return NamedTopics((topic,)) if isinstance(topic, str) else topic


def rows(count: int, label: str = "v") -> list[Row]:
    return [(b"key%d" % number, f"{label}{number}".encode(), 1_357_000_000_000 + number) for number in range(count)]


def read(source: Source, count: int, limit: int = 100) -> list[Records]:
    """Polls until `count` records came, and one more time to see that nothing follows."""
    polled: list[Records] = []
    while sum(map(len, polled)) < count:
        polled.append(source.poll(limit, TIMEOUT))
        assert len(polled[-1]) or polled[-1].ends, "no record came in time"
    return polled


def places(polled: list[Records]) -> list[tuple[str, int, int, bytes | None]]:
    return [
        place
        for records in polled
        for place in zip(records.topics, records.partitions, records.offsets, records.values, strict=True)
    ]


def test_bounds_cover_every_partition(make: Make, topic: str) -> None:
    source = make(topic, {(topic, 0): rows(7), (topic, 1): []})
    assert dict(source.bounds()) == {(topic, 0): Bounds(0, 7), (topic, 1): Bounds(0, 0)}


def test_every_record_once_in_the_order_of_its_partition(make: Make, topic: str) -> None:
    content = {(topic, 0): rows(250, "a"), (topic, 1): rows(30, "b")}
    source = make(topic, content)
    source.assign({(topic, 0): 0, (topic, 1): 0})

    polled = read(source, 280, limit=60)

    assert all(len(records) <= 60 for records in polled)
    for partition in (0, 1):
        seen = [(offset, value) for _, number, offset, value in places(polled) if number == partition]
        assert seen == [(offset, row[1]) for offset, row in enumerate(content[topic, partition])]


def test_columns_hold_what_was_written(make: Make, topic: str) -> None:
    written: list[Row] = [(b"k", b"v", 1_357_000_000_000), (None, b"w", 1_357_000_000_001), (b"gone", None, 1_357_000_000_002)]
    source = make(topic, {(topic, 0): written, (topic, 1): []})
    source.assign({(topic, 0): 0})

    (records,) = (records for records in read(source, 3) if len(records))

    assert records.keys == [b"k", None, b"gone"]
    assert records.values == [b"v", b"w", None]
    assert records.timestamps == [1_357_000_000_000, 1_357_000_000_001, 1_357_000_000_002]
    assert records.timestamp_types == [1, 1, 1]
    assert records.headers is None
    assert records.leader_epochs is None


def test_headers_and_leader_epochs_come_where_they_are_asked_for(make: Make, topic: str) -> None:
    source = make(topic, {(topic, 0): rows(3), (topic, 1): []}, extras=True)
    source.assign({(topic, 0): 0})

    polled = read(source, 3, limit=2)

    assert [headers for records in polled for headers in records.headers or ()] == [None, HEADERS[1], None]
    epochs = [epoch for records in polled for epoch in records.leader_epochs or ()]
    assert len(epochs) == 3
    assert len(set(epochs)) == 1
    assert epochs[0] is not None


def test_starts_where_it_is_told_and_reads_nothing_else(make: Make, topic: str) -> None:
    source = make(topic, {(topic, 0): rows(10), (topic, 1): rows(10)})
    source.assign({(topic, 1): 8})
    assert [place[:3] for place in places(read(source, 2))] == [(topic, 1, 8), (topic, 1, 9)]


def test_assigning_again_replaces_what_was_assigned(make: Make, topic: str) -> None:
    source = make(topic, {(topic, 0): rows(4), (topic, 1): rows(4)})
    source.assign({(topic, 0): 0})
    read(source, 4)
    source.assign({(topic, 0): 3, (topic, 1): 3})
    assert sorted(place[:3] for place in places(read(source, 2))) == [(topic, 0, 3), (topic, 1, 3)]


def test_tells_the_end_of_a_partition_once(make: Make, topic: str) -> None:
    source = make(topic, {(topic, 0): rows(5), (topic, 1): []})
    source.assign({(topic, 0): 2, (topic, 1): 0})
    ends: dict[TopicPartition, int] = {}
    while len(ends) < 2:
        ends.update(source.poll(100, TIMEOUT).ends)
    assert ends == {(topic, 0): 5, (topic, 1): 0}
    nothing = source.poll(100, 0.05)
    assert len(nothing) == 0
    assert not nothing.ends


def test_nothing_assigned_gives_nothing(make: Make, topic: str) -> None:
    source = make(topic, {(topic, 0): rows(5), (topic, 1): []})
    source.assign({})
    assert len(source.poll(10, 0.05)) == 0


def test_an_offset_past_the_end_never_moves_silently(make: Make, topic: str) -> None:
    source = make(topic, {(topic, 0): rows(5), (topic, 1): []})
    source.assign({(topic, 0): 99})
    with pytest.raises(SourceChanged, match=rf"{topic}' partition 0 has no offset 99"):
        source.poll(10, TIMEOUT)


def test_a_missing_topic_names_the_near_one(make: Make, topic: str) -> None:
    source = make(f"{topic}x", {(topic, 0): rows(1), (topic, 1): []})
    with pytest.raises(UnknownName, match=rf"unknown topic '{topic}x'; did you mean '{topic}'\?"):
        source.bounds()


def test_a_large_record_comes_whole(make: Make, topic: str) -> None:
    large = bytes(range(256)) * 3800  # 972,800 bytes; a producer's default limit is 1,000,000
    source = make(topic, {(topic, 0): [(b"k", large, 1)], (topic, 1): []})
    source.assign({(topic, 0): 0})
    assert places(read(source, 1)) == [(topic, 0, 0, large)]


def test_a_poll_gives_the_bytes_it_may_and_one_record_more(make: Make, topic: str) -> None:
    content = {(topic, 0): [(b"k", bytes(99_999), 1)] * 20, (topic, 1): [(b"k", bytes(99_999), 1)] * 20}
    source = make(topic, content)
    source.assign({(topic, 0): 0, (topic, 1): 0})

    polled = read(source, 40, limit=1000)

    assert sum(map(len, polled)) == 40
    assert max(map(size_of, polled)) < POLL_BYTES + 200_000


def test_several_topics_are_read_as_one(make: Make, topic: str) -> None:
    one, other = f"{topic}-one", f"{topic}-other"
    content = {(name, part): rows(20, f"{name}/{part}/") for name in (one, other) for part in (0, 1)}
    source = make(NamedTopics((one, other)), content)
    bounds = source.bounds()
    assert dict(bounds) == dict.fromkeys(content, Bounds(0, 20))
    source.assign(dict.fromkeys(content, 0))
    assert sorted(places(read(source, 80))) == sorted(
        (*place, offset, row[1]) for place, written in content.items() for offset, row in enumerate(written)
    )


def test_one_of_several_topics_that_is_missing_is_named(make: Make, topic: str) -> None:
    source = make(NamedTopics((topic, f"{topic}-no")), {(topic, 0): rows(1), (topic, 1): []})
    with pytest.raises(UnknownName, match=rf"unknown topic '{topic}-no'"):
        source.bounds()


def test_a_pattern_reads_the_topics_of_the_whole_name(make: Make, topic: str) -> None:
    content = {(f"{topic}{name}", part): rows(3) for name in ("-a", "-b", "-b-not", "") for part in (0, 1)}
    source = make(TopicPattern(f"{topic}-."), content)
    assert {name for name, _ in source.bounds()} == {f"{topic}-a", f"{topic}-b"}


def test_a_pattern_of_no_topic_is_refused(make: Make, topic: str) -> None:
    source = make(TopicPattern(f"{topic}-no.*"), {(topic, 0): rows(1), (topic, 1): []})
    with pytest.raises(UnknownName, match=rf"topic of pattern '{topic}-no"):
        source.bounds()


def test_ids_are_asked_of_every_topic(make: Make, topic: str) -> None:
    source = make(topic, {(topic, 0): rows(1), (topic, 1): []})
    assert isinstance(source, KafkaSource | ListSource | Prefetching)
    identified: IdentifiedSource = source
    assert set(identified.topic_ids()) == {topic}


def test_acknowledging_and_closing_twice_do_no_harm(make: Make, topic: str) -> None:
    source = make(topic, {(topic, 0): rows(5), (topic, 1): []})
    assert isinstance(source, KafkaSource | ListSource | Prefetching)
    group: GroupSource = source
    group.acknowledge(KafkaOffsets({(topic, 0): 5}))
    group.acknowledge(KafkaOffsets())
    source.close()
    source.close()
