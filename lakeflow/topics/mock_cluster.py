"""librdkafka's mock cluster, by its C functions (rdkafka_mock.h) in the library that confluent_kafka brings along.

A producer's setting `test.mock.num.brokers` opens one too, but only with 4 partitions a topic and no way to stop it.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from pathlib import Path

import confluent_kafka

from lakeflow.errors import Terminal

PRODUCER_TYPE = 0
REASON_SIZE = 512


class MockCluster:
    """A cluster of `brokers` on local ports, until `close`. Topics made by `create` have `partitions`.

    Raises Terminal where librdkafka's library is not found or opens no cluster.
    """

    def __init__(self, brokers: int, partitions: int) -> None:
        self._partitions = partitions
        self._brokers = brokers
        self._library = _library()
        reason = ctypes.create_string_buffer(REASON_SIZE)
        settings = self._library.rd_kafka_conf_new()
        self._library.rd_kafka_conf_set(settings, b"log_level", b"0", reason, REASON_SIZE)
        self._client = self._library.rd_kafka_new(PRODUCER_TYPE, settings, reason, REASON_SIZE)
        if not self._client:
            raise Terminal(f"the embedded broker did not start: {reason.value.decode(errors='replace')}")
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._client, brokers)
        if not self._cluster:
            raise Terminal(f"the embedded broker did not start with {brokers} brokers")
        self.bootstrap: str = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def create(self, topic: str) -> None:
        """Makes a topic that is not there."""
        code = self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), self._partitions, self._brokers)
        if code:
            raise Terminal(f"the embedded broker did not make topic {topic!r}: error {code}")

    def set_down(self, down: bool) -> None:
        """Takes all brokers away, or brings them back, with what they hold."""
        change = self._library.rd_kafka_mock_broker_set_down if down else self._library.rd_kafka_mock_broker_set_up
        for broker in range(1, self._brokers + 1):
            change(self._cluster, broker)

    def leave_out(self, request: int) -> None:
        """Makes the brokers know nothing of a request (its number in Kafka's protocol), as older ones do."""
        self._library.rd_kafka_mock_set_apiversion(self._cluster, request, -1, -1)

    def close(self) -> None:
        """Ends the cluster; its records are gone."""
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(_library_path())
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, arguments in (
        ("rd_kafka_conf_new", pointer, []),
        ("rd_kafka_conf_set", number, [pointer, text, text, text, ctypes.c_size_t]),
        ("rd_kafka_new", pointer, [number, pointer, text, ctypes.c_size_t]),
        ("rd_kafka_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_new", pointer, [pointer, number]),
        ("rd_kafka_mock_cluster_destroy", None, [pointer]),
        ("rd_kafka_mock_cluster_bootstraps", text, [pointer]),
        ("rd_kafka_mock_set_apiversion", number, [pointer, ctypes.c_int16, ctypes.c_int16, ctypes.c_int16]),
        ("rd_kafka_mock_topic_create", number, [pointer, text, number, number]),
        ("rd_kafka_mock_broker_set_down", number, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_broker_set_up", number, [pointer, ctypes.c_int32]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _library_path() -> str:
    package = Path(confluent_kafka.__file__).parent
    for folder in (package.parent / "confluent_kafka.libs", package / ".dylibs", package):
        for path in sorted(folder.glob("*rdkafka*")):
            if path.suffix != ".py" and path.is_file():
                return str(path)
    found = ctypes.util.find_library("rdkafka")
    if found is None:
        raise Terminal(
            f"librdkafka's library is not beside {package}", next_step="pip install --force-reinstall confluent-kafka"
        )
    return found
