"""Coming in over TLS as a user, being refused, and what is said of it: never a credential."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from confluent_kafka.admin import AclOperation, ResourceType  # type: ignore[attr-defined]

from lakeflow.errors import ConfigError, UnknownName
from lakeflow.progress import KafkaOffsets
from lakeflow.topics.kafka import KafkaSource
from lakeflow.topics.kafka_shared import SharedKafkaSource
from lakeflow.topics.names import TopicPattern
from lakeflow.topics.source import Offsets
from tests.integration.commands import Commands, project
from tests.rig.secured import OAUTH, PASSWORD, PLAIN, SCRAM, TLS, SecuredKafka

SECONDS = 20.0
WRONG = "not-alices-password"
OPEN, SEEN, CLOSED = "open-events", "seen-events", "closed-events"
ROWS = [(b"k", b'{"id": %d}' % number, 0, 1000) for number in range(5)]


@pytest.fixture(scope="module")
def cluster(secured_kafka: SecuredKafka) -> SecuredKafka:
    """The user may read OPEN, and see SEEN; of CLOSED it knows nothing."""
    for topic in (OPEN, SEEN, CLOSED):
        secured_kafka.create(topic)
        secured_kafka.produce(topic, ROWS)
    secured_kafka.grant(ResourceType.TOPIC, "open", AclOperation.READ)
    secured_kafka.grant(ResourceType.TOPIC, "seen", AclOperation.DESCRIBE)
    secured_kafka.grant(ResourceType.GROUP, "open", AclOperation.READ)
    return secured_kafka


@pytest.fixture(autouse=True)
def said(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Whatever a test does, no line of any log, of standard output or standard error holds a password.

    The loggers have levels of their own once a command has run in this process.
    """
    with ExitStack() as held:
        for name in ("", "lakeflow", "lakeflow.topics.librdkafka"):
            held.enter_context(caplog.at_level(logging.DEBUG, logger=name))
        yield
    output = capfd.readouterr()
    for text in (caplog.text, output.out, output.err):
        assert PASSWORD not in text
        assert WRONG not in text


def values(source: KafkaSource) -> list[bytes | None]:
    found: list[bytes | None] = []
    deadline = time.monotonic() + SECONDS
    while len(found) < len(ROWS):
        assert time.monotonic() < deadline, "no record came in time"
        found += source.poll(10, 1.0).values
    return found


@pytest.mark.parametrize("listener", [SCRAM, PLAIN, OAUTH, TLS])
def test_records_come_by_every_way_in(cluster: SecuredKafka, listener: str, caplog: pytest.LogCaptureFixture) -> None:
    options = {**cluster.options(listener), "debug": "all"}
    with KafkaSource(options, [OPEN], "open.land", request_timeout=SECONDS) as source:
        bounds = source.bounds()
        ids = source.topic_ids()
        source.assign({(OPEN, 0): 0})
        assert values(source) == [row[1] for row in ROWS]
        source.acknowledge(KafkaOffsets({(OPEN, 0): 5}))
        source.poll(1, 0.5)
    assert bounds[OPEN, 0].end == len(ROWS)
    assert ids[OPEN] is not None
    assert not [line for line in caplog.messages if "could not be shown" in line]
    assert any("[thrd:" in line for line in caplog.messages), "librdkafka's own lines were not heard"


@pytest.mark.parametrize("listener", [SCRAM, PLAIN])
def test_a_wrong_password_is_a_setting_to_correct_and_told_early(cluster: SecuredKafka, listener: str) -> None:
    options = {**cluster.options(listener), "sasl.password": WRONG, "debug": "all"}
    begun = time.monotonic()
    with (
        KafkaSource(options, [OPEN], "open.land", request_timeout=SECONDS) as source,
        pytest.raises(ConfigError, match=r"the brokers refuse the list of topics: .*[Aa]uthentication") as caught,
    ):
        source.bounds()
    assert time.monotonic() - begun < SECONDS / 2
    assert "credentials in [kafka]" in (caught.value.next_step or "")
    assert WRONG not in str(caught.value)


def test_an_authority_that_did_not_sign_the_broker_is_a_setting_to_correct(cluster: SecuredKafka) -> None:
    options = {**cluster.options(SCRAM), "ssl.ca.location": str(cluster.wrong_authority), "debug": "all"}
    with (
        KafkaSource(options, [OPEN], "open.land", request_timeout=SECONDS) as source,
        pytest.raises(ConfigError, match=r"certificate verify failed"),
    ):
        source.bounds()


def test_a_topic_that_may_not_be_seen_is_refused_by_name(cluster: SecuredKafka) -> None:
    with (
        KafkaSource(cluster.options(SCRAM), [CLOSED], "open.land", request_timeout=SECONDS) as source,
        pytest.raises(ConfigError, match=rf"refuse topic '{CLOSED}': .*[Aa]uthorization failed") as caught,
    ):
        source.bounds()
    assert "ACL" in (caught.value.next_step or "")


def test_a_topic_that_may_be_seen_and_not_read_is_refused_before_and_while_reading(cluster: SecuredKafka) -> None:
    with KafkaSource(cluster.options(SCRAM), [SEEN], "open.land", request_timeout=SECONDS) as source:
        assert len(source.bounds()) == 1
        with pytest.raises(ConfigError, match=rf"refuse reading topic '{SEEN}'"):
            source.topic_ids()
        source.assign({(SEEN, 0): 0})
        with pytest.raises(ConfigError, match=rf"refuse reading topic '{SEEN}' partition 0: .*[Aa]uthorization failed"):
            source.poll(10, SECONDS)


def test_a_pattern_finds_what_may_be_seen(cluster: SecuredKafka) -> None:
    with KafkaSource(cluster.options(SCRAM), TopicPattern("(open|closed)-events"), "g", request_timeout=SECONDS) as source:
        assert {topic for topic, _ in source.bounds()} == {OPEN}
    with (
        KafkaSource(cluster.options(SCRAM), TopicPattern("closed-.*"), "g", request_timeout=SECONDS) as source,
        pytest.raises(UnknownName, match=r"topic of pattern 'closed-\.\*'"),
    ):
        source.bounds()


class Nothing:
    def gained(self, places: object) -> Offsets:
        raise AssertionError("no partition may be given")

    def revoked(self, places: object) -> None: ...
    def lost(self, places: object) -> None: ...


def test_a_group_that_may_not_be_joined_is_refused_by_name(cluster: SecuredKafka) -> None:
    with SharedKafkaSource(cluster.options(SCRAM), [OPEN], "closed.land", request_timeout=SECONDS) as source:
        source.join(Nothing())
        with pytest.raises(ConfigError, match=r"refuse reading as group 'closed\.land': .*[Aa]uthorization failed"):
            source.poll(10, SECONDS)


def commands(cluster: SecuredKafka, folder: Path, topic: str, password: str) -> Commands:
    options = {**cluster.options(SCRAM), "sasl.password": "{{ secret.KAFKA_PASSWORD }}", "debug": "security"}
    settings = '[project]\nname = "open"\n[kafka]\n' + "".join(f'"{key}" = "{value}"\n' for key, value in options.items())
    table = f"CREATE TABLE bronze.events (id BIGINT) WITH ('connector' = 'kafka', 'topic' = '{topic}');"
    return project(folder / "project", settings, table, LAKEFLOW_SECRET_KAFKA_PASSWORD=password)


def test_a_group_that_is_refused_hides_the_lag_and_nothing_else(
    cluster: SecuredKafka, caplog: pytest.LogCaptureFixture
) -> None:
    with KafkaSource(cluster.options(SCRAM), [OPEN], "closed.land", request_timeout=SECONDS) as source:
        source.assign({(OPEN, 0): 0})
        assert values(source) == [row[1] for row in ROWS]
        for _ in range(3):
            source.acknowledge(KafkaOffsets({(OPEN, 0): 5}))
            source.poll(1, 0.5)
    warnings = [line for line in caplog.messages if "could not be shown" in line]
    assert len(warnings) == 1
    assert "the lag of group 'closed.land' could not be shown" in warnings[0]


def test_the_command_lands_as_a_user_of_a_secured_cluster_who_may_not_show_the_lag(
    cluster: SecuredKafka, tmp_path: Path
) -> None:
    given = commands(cluster, tmp_path, OPEN, PASSWORD)
    ended = given.run("-vv", "land", "--output", "json")
    assert ended.code == 0, ended.err
    assert ended.rows()[0]["written"] == len(ROWS)
    assert PASSWORD not in ended.out + ended.err
    assert "the lag of group 'lakeflow.open.bronze.events' could not be shown" in ended.err
    assert "[thrd:" in ended.err, "librdkafka's own lines were not shown"


@pytest.mark.parametrize(
    ("topic", "password", "message"),
    [(OPEN, WRONG, "the brokers refuse"), (CLOSED, PASSWORD, f"refuse topic '{CLOSED}'")],
    ids=["wrong password", "no rights"],
)
@pytest.mark.parametrize("verb", ["doctor", "plan", "land"])
def test_every_command_says_what_is_refused_and_no_credential(
    cluster: SecuredKafka, tmp_path: Path, verb: str, topic: str, password: str, message: str
) -> None:
    ended = commands(cluster, tmp_path, topic, password).run("-vv", verb)
    assert ended.code != 0
    assert message in " ".join((ended.out + ended.err).split())
    assert password not in ended.out + ended.err
