"""librdkafka's embedded broker in a process of its own, filled with readings, so that no figure holds its work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection

from benchmarks import readings
from lakeflow.topics.embedded import EmbeddedBroker


@contextmanager
def filled_broker(topics: Mapping[str, float], count: int, partitions: int) -> Iterator[str]:
    """The address of a broker whose `topics` each hold `count` readings, the share given of them broken."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, dict(topics), count, partitions), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours.recv()
    finally:
        ours.close()
        process.join()


def _serve(connection: Connection, topics: dict[str, float], count: int, partitions: int) -> None:
    with EmbeddedBroker(partitions=partitions) as broker:
        for topic, poison in topics.items():
            broker.produce(topic, readings.rows(count, partitions, poison))
        connection.send(broker.bootstrap)
        try:
            connection.recv()
        except EOFError:
            return
