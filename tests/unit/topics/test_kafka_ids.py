"""The ids of topics are asked for again where the broker that was asked goes away meanwhile."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from lakeflow.errors import SourceUnavailable
from lakeflow.topics import kafka_client
from lakeflow.topics.kafka import KafkaSource
from tests.unit.topics.test_kafka_rebalance import Script


class Admin:
    """Each client answers once: with an error, or with the topic's id."""

    answers: list[int | str]
    made = 0

    def __init__(self, conf: dict[str, Any], logger: object) -> None:
        type(self).made += 1

    def describe_topics(self, topics: object, **asked: object) -> dict[str, Future[Any]]:
        answer: Future[Any] = Future()
        said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(said, int):
            answer.set_exception(KafkaException(KafkaError(said)))
        else:
            answer.set_result(SimpleNamespace(topic_id=said, authorized_operations=None))
        return {"t": answer}


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> KafkaSource:
    metadata = SimpleNamespace(topics={"t": SimpleNamespace(error=None, partitions=[0])}, controller_id=1, brokers={1: "one"})
    monkeypatch.setattr(Script, "list_topics", lambda self, timeout: metadata)
    monkeypatch.setattr(kafka_client, "Consumer", Script)
    monkeypatch.setattr(kafka_client, "AdminClient", Admin)
    monkeypatch.setattr(Admin, "made", 0)
    return KafkaSource({"bootstrap.servers": "nobody:1"}, ["t"], "g", request_timeout=1.0)


@pytest.mark.parametrize("code", [KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError.BROKER_NOT_AVAILABLE])
def test_by_a_new_client(source: KafkaSource, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(Admin, "answers", [code, code, "id-1"], raising=False)
    assert source.topic_ids() == {"t": "id-1"}
    assert Admin.made == 3


def test_until_the_time_is_up(source: KafkaSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Admin, "answers", [KafkaError._TRANSPORT], raising=False)
    with pytest.raises(SourceUnavailable, match="gave no answer within 1 s for the id of topic 't'"):
        source.topic_ids()
    assert Admin.made > 2
