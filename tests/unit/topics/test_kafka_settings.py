"""The user's [kafka] settings, what lakeflow owns of them, and what is never shown."""

from __future__ import annotations

import pytest

from lakeflow.errors import ConfigError
from lakeflow.topics.kafka_settings import STRATEGY, asking_settings, consumer_settings, is_cooperative, without_secrets

SERVERS = {"bootstrap.servers": "localhost:9092"}


def test_settings_are_handed_through_with_what_lakeflow_owns() -> None:
    found = consumer_settings({**SERVERS, "client.id": "me", "fetch.queue.backoff.ms": "7"}, "land.t")
    assert found["client.id"] == "me"
    assert found["fetch.queue.backoff.ms"] == "7"
    assert found["group.id"] == "land.t"
    assert found["isolation.level"] == "read_committed"
    assert found["auto.offset.reset"] == "error"
    assert found["enable.auto.commit"] == "false"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("enable.auto.commit", "true"),
        ("enable.auto.offset.store", "true"),
        ("auto.offset.reset", "earliest"),
        ("enable.partition.eof", "false"),
        ("group.id", "mine"),
    ],
)
def test_what_lakeflow_owns_cannot_be_set_otherwise(key: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        consumer_settings({**SERVERS, key: value}, "land.t")
    assert f"[kafka] {key} is {value!r}" in caught.value.message
    assert caught.value.next_step == f"remove {key} from [kafka] in lakeflow.toml"


def test_what_lakeflow_owns_may_be_said_again() -> None:
    assert consumer_settings({**SERVERS, "enable.auto.commit": "False"}, "g")["enable.auto.commit"] == "false"


def test_a_broker_address_is_needed() -> None:
    with pytest.raises(ConfigError, match=r"bootstrap\.servers is missing"):
        consumer_settings({}, "g")


@pytest.mark.parametrize("key", ["sasl.password", "ssl.key.password", "ssl.key.pem", "sasl.oauthbearer.client.secret"])
def test_secrets_are_blotted_out(key: str) -> None:
    assert without_secrets("wrong: hush-hush, they say", {key: "hush-hush", "client.id": "they"}) == "wrong: ***, they say"


def test_a_shared_source_moves_only_what_must_and_has_time_for_a_commit() -> None:
    found = consumer_settings(SERVERS, "g", shared=True)
    assert found[STRATEGY] == "cooperative-sticky"
    assert int(found["max.poll.interval.ms"]) > 300_000
    assert is_cooperative(found)
    assert STRATEGY not in consumer_settings(SERVERS, "g")


def test_how_a_group_assigns_may_be_chosen() -> None:
    eager = consumer_settings({**SERVERS, STRATEGY: "range", "max.poll.interval.ms": "60000"}, "g", shared=True)
    assert (eager[STRATEGY], eager["max.poll.interval.ms"]) == ("range", "60000")
    assert not is_cooperative(eager)
    by_brokers = consumer_settings({**SERVERS, "group.protocol": "CONSUMER"}, "g", shared=True)
    assert STRATEGY not in by_brokers
    assert is_cooperative(by_brokers)


def test_a_client_that_only_asks_gets_what_connects_it() -> None:
    connecting = {
        **SERVERS,
        "sasl.username": "me",
        "ssl.ca.location": "ca.pem",
        "security.protocol": "sasl_ssl",
        "debug": "all",
    }
    reading = {
        "session.timeout.ms": "6000",
        "group.instance.id": "a",
        "isolation.level": "read_committed",
        "fetch.min.bytes": "1",
    }
    assert asking_settings({**connecting, **reading}) == connecting


@pytest.mark.parametrize(("session", "beat"), [("3000", "1000"), ("45000", "3000")])
def test_a_short_session_beats_in_time(session: str, beat: str) -> None:
    found = consumer_settings({**SERVERS, "session.timeout.ms": session}, "g", shared=True)
    assert found["heartbeat.interval.ms"] == beat


def test_the_users_own_beat_stays() -> None:
    found = consumer_settings({**SERVERS, "session.timeout.ms": "3000", "heartbeat.interval.ms": "7"}, "g", shared=True)
    assert found["heartbeat.interval.ms"] == "7"
