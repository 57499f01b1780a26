"""What librdkafka says goes wrong with a sink, as errors of the tree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException

from lakeflow.errors import ConfigError, Fenced, LakeflowError, SourceUnavailable, Terminal
from lakeflow.topics.kafka_errors import DENIED, UNKNOWN, Asked, translated
from lakeflow.topics.kafka_settings import brokers, without_secrets

FENCING = {
    KafkaError._FENCED,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
}
LEFT = "nothing of this batch is seen by readers of committed records; the position is what it was"


@dataclass(frozen=True, slots=True)
class Trouble:
    """What was being done when an error came: `doing` with `topic` as the sink `name`, for so many `seconds` at the most."""

    topic: str
    name: str
    doing: str
    seconds: float
    settings: Mapping[str, str] = field(repr=False)

    def clean(self, said: str) -> str:
        """A text of librdkafka without secrets."""
        return without_secrets(said, self.settings)

    def is_refusal(self, error: KafkaError) -> bool:
        """Whether nothing will be taken from here on."""
        return error.code() in DENIED or error.fatal()


def error_of(error: KafkaError, trouble: Trouble) -> LakeflowError:
    """The error of the tree for `error`."""
    code, said, topic = error.code(), trouble.clean(error.str()), trouble.topic
    where = f"topic {topic!r}, {trouble.doing}"
    if code in FENCING:
        return Fenced(
            f"another process writes to topic {topic!r} as the sink {trouble.name} now; what this one had not committed is "
            f"given up ({said})",
            left_behind="each batch that was committed, once",
            next_step="let one process alone produce the table; projects on the same brokers need other names under [project]",
        )
    if code == KafkaError.MSG_SIZE_TOO_LARGE:
        return Terminal(
            f"topic {topic!r} takes no record as large as {trouble.doing}: {said}",
            left_behind=LEFT,
            next_step=f"raise max.message.bytes of topic {topic}, or send fewer columns ('sink.columns')",
        )
    if code in UNKNOWN:
        return ConfigError(
            f"topic {topic!r} is not there, and the brokers do not make it ({brokers(trouble.settings)})",
            next_step=f"create topic {topic}, or correct 'sink.topic'",
        )
    if code == KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
        return ConfigError(
            f"the brokers refuse the transactional id {trouble.name!r}, which {where} needs: {said}",
            next_step="have Write and Describe on it granted to the user of [kafka] (an ACL), then: lakeflow doctor",
        )
    if code == KafkaError.INVALID_TRANSACTION_TIMEOUT:
        return ConfigError(
            f"the brokers bound transactions to less (transaction.max.timeout.ms): {where}: {said}",
            next_step="say 'sink.properties.transaction.timeout.ms' = '60000' in the table's WITH, or less",
        )
    if code in (KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT, KafkaError._PURGE_QUEUE):
        return SourceUnavailable(
            f"the brokers at {brokers(trouble.settings)} did not answer within {trouble.seconds:g} s: {where}: {said}",
            left_behind="what was committed; whether the batch under way was is found out when the sink is opened next",
            next_step="lakeflow doctor",
        )
    asked = Asked(where, brokers(trouble.settings), trouble.seconds)
    found = translated(code, said, asked, passes=error.retriable())
    found.left_behind = found.left_behind or LEFT
    return found


def refused_settings(trouble: Trouble, error: KafkaException) -> ConfigError:
    """The error for settings with which librdkafka makes no client."""
    return ConfigError(
        f"[kafka], for writing to topic {trouble.topic!r}: {trouble.clean(error.args[0].str())}",
        next_step="correct it in lakeflow.toml, or 'sink.properties.*' of the table; the keys are librdkafka's "
        "(CONFIGURATION.md there)",
    )
