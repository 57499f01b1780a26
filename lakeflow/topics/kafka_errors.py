"""What librdkafka says is wrong, as errors of the tree: what a retry mends, what a setting does, and what changed."""

from __future__ import annotations

from dataclasses import dataclass

from confluent_kafka import KafkaError

from lakeflow.errors import ConfigError, LakeflowError, SourceChanged, SourceUnavailable, Terminal

UNPROVEN = {KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED}
"""Refusals that a broker which ends in the middle of a handshake looks like too."""
FORBIDDEN = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}
DENIED = UNPROVEN | FORBIDDEN
LOST_PLACE = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION}
UNKNOWN = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNKNOWN_TOPIC_ID,
    KafkaError.INCONSISTENT_TOPIC_ID,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
}
MOVES = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.BROKER_NOT_AVAILABLE,
    KafkaError.REPLICA_NOT_AVAILABLE,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.NETWORK_EXCEPTION,
}
"""What a broker answers while a partition goes to another one. librdkafka does not call all of them retriable."""
AWAY = {
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._TIMED_OUT_QUEUE,
    KafkaError._RESOLVE,
    KafkaError._DESTROY_BROKER,
    KafkaError._NODE_UPDATE,
    KafkaError._UNKNOWN_BROKER,
    KafkaError._WAIT_CACHE,
    KafkaError._WAIT_COORD,
    *MOVES,
}
TOO_OLD = {KafkaError._UNSUPPORTED_FEATURE, KafkaError.UNSUPPORTED_VERSION, KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT}
FATAL_REASONS = (KafkaError.FENCED_INSTANCE_ID, *sorted(TOO_OLD), *sorted(FORBIDDEN))


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for when an error came: `what` it was, of which `brokers`, and the seconds they had to answer."""

    what: str
    brokers: str
    seconds: float


def translated(code: int, said: str, asked: Asked, *, passes: bool) -> LakeflowError:
    """The error of the tree for librdkafka's `code`; `said` is its text, without secrets.

    `passes` says that a retry may mend it, for codes that do not tell by themselves.
    """
    code = _meant(code, said)
    detail = f"{asked.what}: {said} ({asked.brokers})"
    if code in FORBIDDEN:
        return ConfigError(
            f"the brokers refuse {detail}",
            next_step="have the rights granted to the user of [kafka] (an ACL), then: lakeflow doctor",
        )
    if code in DENIED:
        return ConfigError(f"the brokers refuse {detail}", next_step=CREDENTIALS)
    if code == KafkaError.FENCED_INSTANCE_ID:
        return ConfigError(
            f"two processes have the same group.instance.id: {detail}",
            next_step="give each process its own under [kafka], for instance by ${HOSTNAME}, or none",
        )
    if code in TOO_OLD:
        return ConfigError(
            f"the brokers are too old, or have switched off what is needed for {detail}",
            next_step='use Kafka 2.1 or newer; group.protocol = "consumer" under [kafka] needs 4.0 or newer',
        )
    if code in UNKNOWN:
        return SourceChanged(f"no longer there: {detail}", next_step="lakeflow doctor")
    if passes or code in AWAY:
        return SourceUnavailable(
            f"the brokers at {asked.brokers} gave no answer within {asked.seconds:g} s for {asked.what}: {said}",
            next_step="see that they run and that bootstrap.servers under [kafka] names them, then: lakeflow doctor",
        )
    return Terminal(f"the brokers gave an error for {detail}", next_step="lakeflow doctor")


def _meant(code: int, said: str) -> int:
    """The code behind a fatal error, which a consumer is given as text only."""
    if code != KafkaError._FATAL:
        return code
    return next((reason for reason in FATAL_REASONS if KafkaError(reason).str() in said), code)


CREDENTIALS = "check the credentials in [kafka], then: lakeflow doctor"
