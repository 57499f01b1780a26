"""A client of a Kafka cluster: what it knows of topics, and what it says is wrong. It reads no records.

`check.crcs` is left as librdkafka has it (off): TCP and the brokers check already, and it costs a pass over all bytes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NoReturn, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AclOperation, AdminClient  # type: ignore[attr-defined]

from lakeflow.errors import ConfigError, LakeflowError, SourceChanged, SourceUnavailable, UnknownName
from lakeflow.topics.kafka_errors import AWAY, DENIED, TOO_OLD, UNKNOWN, UNPROVEN, Asked, translated
from lakeflow.topics.kafka_settings import asking_settings, brokers, without_secrets
from lakeflow.topics.names import NamedTopics, Topics, resolved
from lakeflow.topics.source import Bounds, Offsets, TopicPartition

LOG = logging.getLogger("lakeflow.topics")
CLIENT_LOG = logging.getLogger("lakeflow.topics.librdkafka")
"""librdkafka's own lines: one for each attempt to connect. What matters of them comes as an error or a warning."""

FIRST_WAIT = 1.0
"""Seconds that the first request may take before it is looked whether the brokers refuse us."""
CONTROLLER_WAIT = 3.0
"""Seconds for an answer that only the controller gives; a client goes on asking for one that is gone."""
AGAIN = 0.1
"""Seconds before a request that failed at once is sent again."""
BEGINNING, END = -2, -1
"""What a broker is asked for in place of a time, in Kafka's protocol (ListOffsets)."""
NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"
"""Kafka's id of nothing: 16 zeros in base64."""

Answer = TypeVar("Answer")


class KafkaClient:
    """A `consumer` made of `conf`, with its errors. `settings` are [kafka], which messages keep the secrets of.

    `needs_group` says that the group deals partitions out; else it only shows the lag, and may be refused.
    `request_timeout` bounds in seconds what waits for an answer, `patience` how long brokers may be away, or look as if
    they refused us after they had not. Raises ConfigError for settings that librdkafka refuses.
    """

    def __init__(
        self,
        conf: Mapping[str, str],
        settings: Mapping[str, str],
        request_timeout: float,
        patience: float,
        *,
        needs_group: bool,
    ) -> None:
        self._conf = dict(conf)
        self._settings = dict(settings)
        self.who = f"group {conf['group.id']!r}"
        self._timeout = request_timeout
        self._patience = patience
        self._away_since: float | None = None
        self._failure: KafkaError | None = None
        self._failed_since = 0.0
        self._proven = False
        self._needs_group = needs_group
        self._is_lag_hidden = False
        self._admin: AdminClient | None = None
        self._other: Consumer | None = None
        self._closed = False
        self.is_reading = False
        """Set once partitions are assigned: from then on only `consume` may serve librdkafka's queue, which holds records."""
        try:
            self.consumer = Consumer({**conf, "error_cb": self._noted, "on_commit": self._committed}, logger=CLIENT_LOG)
        except KafkaException as error:
            raise self._refused(error) from None
        self._serve()  # makes the first token, where tokens are made in this process

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._admin = None
            if self._other is not None:
                self._other.close()
            self.consumer.close()

    def bounds(self, topics: Topics) -> dict[TopicPartition, Bounds]:
        """As `Source.bounds`: three requests to each broker, however many partitions there are."""
        deadline = time.monotonic() + self._timeout
        places = self._places(topics, deadline)
        begins = self._offsets(places, BEGINNING, deadline)
        ends = self._offsets(places, END, deadline)
        return {place: Bounds(begins[place], max(begins[place], ends[place])) for place in places}

    def offsets_at(self, topics: Topics, timestamp: int) -> dict[TopicPartition, int]:
        """As `GroupSource.offsets_at`. (librdkafka's embedded broker keeps no times: it does not give useful answers.)"""
        deadline = time.monotonic() + self._timeout
        places = self._places(topics, deadline)
        found = self._offsets(places, timestamp, deadline)
        later = [place for place in places if found[place] < 0]  # none of that time or later
        return found | (self._offsets(later, END, deadline) if later else {})

    def topic_ids(self, topics: Topics) -> dict[str, str | None]:
        """As `IdentifiedSource.topic_ids`. Raises ConfigError where the brokers say that a topic may not be read."""
        deadline = time.monotonic() + self._timeout
        metadata = self._ask("the list of topics", deadline, lambda wait: self._asker.list_topics(timeout=wait))
        names = list(self._names(topics, metadata.topics))
        if not names or metadata.controller_id not in metadata.brokers:  # the embedded broker has none, and would not answer
            return dict.fromkeys(names)
        ids: dict[str, str | None] = {}
        for name, answer in self._described(names, deadline).items():
            try:
                described = answer.result()
            except KafkaException as error:
                if error.args[0].code() not in TOO_OLD:
                    self.fail(error.args[0], f"the id of topic {name!r}")
                ids[name] = None
                continue
            may = described.authorized_operations
            if may and AclOperation.READ not in may and AclOperation.ALL not in may:
                raise self._error(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), f"reading topic {name!r}")
            number = str(described.topic_id)
            ids[name] = None if number == NO_ID else number
        return ids

    def _described(self, names: Sequence[str], deadline: float) -> Mapping[str, Future[Any]]:
        """What is told of the topics; by a new client where the one at hand asked a broker that went away."""
        while True:
            self._admin = self._admin or AdminClient({**asking_settings(self._settings)}, logger=CLIENT_LOG)
            wait = min(CONTROLLER_WAIT, _left(deadline))
            asked: Mapping[str, Future[Any]] = self._admin.describe_topics(
                TopicCollection(list(names)), request_timeout=wait, include_authorized_operations=True
            )
            failures = [answer.exception() for answer in asked.values()]
            away = any(isinstance(error, KafkaException) and error.args[0].code() in AWAY for error in failures)
            if not away or time.monotonic() + AGAIN >= deadline:
                return asked
            self._admin = None
            time.sleep(AGAIN)

    def acknowledge(self, offsets: Offsets) -> None:
        places = [Place(topic, partition, offset) for (topic, partition), offset in offsets.items()]
        try:
            if places:
                self.consumer.commit(offsets=places, asynchronous=True)
        except KafkaException as error:
            self._committed(error.args[0], places)

    def heard(self) -> None:
        """Something came of the brokers: they are there, and let us in."""
        self._away_since, self._failure, self._proven = None, None, True

    def check(self) -> None:
        """Raises what librdkafka said in between, once it is sure: a refusal, or no broker for longer than `patience`."""
        now = time.monotonic()
        failure = self._failure
        if failure is not None:
            may_pass = self._proven and failure.code() in UNPROVEN and not failure.fatal()
            if not may_pass or (now - self._failed_since >= self._patience and not self._answers()):
                self.fail(failure, "reading records")
        away = self._away_since
        if away is not None and now - away >= self._patience and not self._answers():
            raise SourceUnavailable(
                f"all brokers ({self._brokers}) have been away for {now - away:.0f} s", next_step="lakeflow doctor"
            )

    def fail(self, error: KafkaError, what: str) -> NoReturn:
        """Raises the error of the tree for `error`, or for the refusal behind it."""
        raise self._error(self._failure or error, what) from None

    def hides_lag(self, error: KafkaError) -> bool:
        """Whether the error is only that the group is refused which shows the lag. Says so, once."""
        if self._needs_group or error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED:
            return False
        if not self._is_lag_hidden:
            self._is_lag_hidden = True
            self._committed(error, [])
        return True

    @property
    def _asker(self) -> Consumer:
        """What answers questions: while it reads another client, since within a callback of the consumer the binding loses the
        state of the call around it by a `list_topics`, and ends the process at the next callback.
        """
        if not self.is_reading:
            return self.consumer
        if self._other is None:
            self._other = Consumer(self._conf, logger=CLIENT_LOG)
            self._other.poll(0)  # makes the first token, as above
        return self._other

    def _answers(self) -> bool:
        try:
            self._asker.list_topics(timeout=min(1.0, self._timeout))
        except KafkaException:
            return False
        self._away_since, self._failure = None, None
        return True

    def _places(self, topics: Topics, deadline: float) -> list[TopicPartition]:
        metadata = self._ask("the list of topics", deadline, lambda wait: self._asker.list_topics(timeout=wait))
        known = {name: topic for name, topic in metadata.topics.items() if not _is_missing(topic.error)}
        if isinstance(topics, NamedTopics):
            for name in set(topics.names) - set(known):
                self._check_allowed(name, deadline)
        names = self._names(topics, known)
        for name in names:
            if known[name].error:
                self.fail(known[name].error, f"topic {name!r}")
        return [(name, partition) for name in names for partition in sorted(known[name].partitions)]

    def _names(self, topics: Topics, known: Iterable[str]) -> tuple[str, ...]:
        try:
            return resolved(topics, known)
        except UnknownName as error:
            if self.is_reading:
                raise SourceChanged(
                    f"{error.kind} {error.name!r} is no longer there: it was deleted while it was read ({self._brokers})",
                    next_step="lakeflow doctor",
                ) from None
            raise UnknownName(error.kind, error.name, error.known, next_step=f"{error.next_step} ({self._brokers})") from None

    def _check_allowed(self, name: str, deadline: float) -> None:
        """The list of all topics leaves out those that we may not see; asked for by name they are refused."""
        asked = self._ask(f"topic {name!r}", deadline, lambda wait: self._asker.list_topics(name, timeout=wait))
        error = asked.topics[name].error
        if error and not _is_missing(error):
            self.fail(error, f"topic {name!r}")

    def _offsets(self, places: Sequence[TopicPartition], at: int, deadline: float) -> dict[TopicPartition, int]:
        """For each place the offset at a time in ms, at BEGINNING or at END (the last stable one, where only it is read)."""
        if not places:
            return {}
        asked = [Place(topic, partition, at) for topic, partition in places]

        def request(wait: float) -> dict[TopicPartition, int]:
            answers = self._asker.offsets_for_times(asked, timeout=wait)
            for answer in answers:
                if answer.error:
                    raise KafkaException(answer.error, f" of topic {answer.topic!r} partition {answer.partition}")
            return {(answer.topic, answer.partition): answer.offset for answer in answers}

        return self._ask("the bounds" if at < 0 else f"the offset at {at} ms", deadline, request)

    def _ask(self, what: str, deadline: float, request: Callable[[float], Answer]) -> Answer:
        """The answer to a request, which is sent again as long as it may come.

        While nothing is read yet, a refusal is seen early: librdkafka tells it beside the answer, which never comes.
        """
        wait = FIRST_WAIT
        while True:
            try:
                answer = request(_left(deadline) if self.is_reading else min(wait, _left(deadline)))
            except KafkaException as error:
                self._serve()
                code, *place = error.args
                passes = code.code() in AWAY or code.retriable()
                if self._failure is not None or not passes or time.monotonic() >= deadline:
                    self.fail(code, what + "".join(place))
                time.sleep(min(AGAIN, _left(deadline)))
                wait *= 2
            else:
                self._proven = True
                return answer

    def _serve(self) -> None:
        if not self.is_reading:
            self.consumer.poll(0)

    def _noted(self, error: KafkaError) -> None:
        """Called by librdkafka within consume and the like: what it says is acted on once the call is back."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            if self._away_since is None:
                self._away_since = time.monotonic()
                LOG.info("all brokers (%s) are away; waiting for them up to %g s", self._brokers, self._patience)
        elif self.hides_lag(error):
            return
        elif error.code() in DENIED or error.fatal():
            if self._failure is None:
                self._failed_since = time.monotonic()
            self._failure = error
            LOG.info("%s", self._clean(error.str()))
        else:
            LOG.debug("%s", self._clean(error.str()))

    def _committed(self, error: KafkaError | None, places: list[Place]) -> None:
        if error is not None and (not places or not self._is_lag_hidden):
            LOG.warning("the lag of %s could not be shown: %s", self.who, self._clean(error.str()))

    def _error(self, error: KafkaError, what: str) -> LakeflowError:
        passes = error.retriable() or self._away_since is not None
        asked = Asked(what, self._brokers, self._timeout)
        return translated(error.code(), self._clean(error.str()), asked, passes=passes)

    def _refused(self, error: KafkaException) -> ConfigError:
        return ConfigError(
            f"[kafka]: {self._clean(error.args[0].str())}",
            next_step="correct it in lakeflow.toml; the keys are librdkafka's (CONFIGURATION.md there)",
        )

    def _clean(self, message: str) -> str:
        return without_secrets(message, self._settings)

    @property
    def _brokers(self) -> str:
        return brokers(self._settings)


def _is_missing(error: Any) -> bool:
    return error is not None and error.code() in UNKNOWN


def _timed_out(error: BaseException | None) -> bool:
    return isinstance(error, KafkaException) and error.args[0].code() == KafkaError._TIMED_OUT


def _left(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())
