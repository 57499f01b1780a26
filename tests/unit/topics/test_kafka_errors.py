"""Which error of the tree each thing is that librdkafka says."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError

from lakeflow.errors import ConfigError, LakeflowError, SourceChanged, SourceUnavailable, Terminal
from lakeflow.topics.kafka_errors import Asked, translated

ASKED = Asked("reading topic 'flights' partition 0", "broker:9092", 10.0)


@pytest.mark.parametrize(
    ("code", "kind", "message", "next_step"),
    [
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, ConfigError, "the brokers refuse reading topic 'flights' partition 0", "ACL"),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, ConfigError, "the brokers refuse", "ACL"),
        (KafkaError._AUTHENTICATION, ConfigError, "the brokers refuse", "check the credentials"),
        (KafkaError._SSL, ConfigError, "the brokers refuse", "check the credentials"),
        (KafkaError._UNSUPPORTED_FEATURE, ConfigError, "the brokers are too old", "Kafka 2.1 or newer"),
        (KafkaError.UNSUPPORTED_VERSION, ConfigError, "the brokers are too old", "4.0 or newer"),
        (KafkaError.FENCED_INSTANCE_ID, ConfigError, "two processes have the same group.instance.id", "each process its own"),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, SourceChanged, "no longer there: reading topic 'flights'", "lakeflow doctor"),
        (KafkaError.UNKNOWN_TOPIC_ID, SourceChanged, "no longer there", "lakeflow doctor"),
        (KafkaError._TRANSPORT, SourceUnavailable, "broker:9092 gave no answer within 10 s for reading", "lakeflow doctor"),
        (KafkaError._TIMED_OUT_QUEUE, SourceUnavailable, "gave no answer", "lakeflow doctor"),
        (KafkaError._DESTROY_BROKER, SourceUnavailable, "gave no answer", "lakeflow doctor"),
        (KafkaError.NOT_LEADER_FOR_PARTITION, SourceUnavailable, "gave no answer", "lakeflow doctor"),
        (KafkaError.LEADER_NOT_AVAILABLE, SourceUnavailable, "gave no answer", "lakeflow doctor"),
        (KafkaError._BAD_MSG, Terminal, "the brokers gave an error for reading topic 'flights'", "lakeflow doctor"),
    ],
)
def test_codes_are_errors_that_say_what_to_do(code: int, kind: type[LakeflowError], message: str, next_step: str) -> None:
    error = translated(code, "Broker: said", ASKED, passes=False)
    assert type(error) is kind
    assert message in error.message
    assert "Broker: said" in error.message
    assert next_step in (error.next_step or "")


def test_what_passes_is_tried_again_and_what_is_refused_is_not() -> None:
    assert isinstance(translated(KafkaError._BAD_MSG, "s", ASKED, passes=True), SourceUnavailable)
    assert isinstance(translated(KafkaError._AUTHENTICATION, "s", ASKED, passes=True), ConfigError)


def test_the_reason_of_a_fatal_error_is_read_from_its_text() -> None:
    said = f"Fatal error: {KafkaError(KafkaError.FENCED_INSTANCE_ID).str()}: more"
    assert "the same group.instance.id" in translated(KafkaError._FATAL, said, ASKED, passes=False).message
    assert type(translated(KafkaError._FATAL, "Fatal error: of its own kind", ASKED, passes=False)) is Terminal
