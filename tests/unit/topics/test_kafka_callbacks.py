"""What is asked of the brokers while librdkafka waits for its callback to return."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
from lakeflow.topics.embedded import EmbeddedBroker
from lakeflow.topics.kafka_shared import SharedKafkaSource

class Asking:
    gains = 0

    def gained(self, places):
        self.gains += 1
        source.topic_ids()
        return {place: bounds.begin for place, bounds in source.bounds().items()}

    def revoked(self, places): ...
    def lost(self, places): ...

with EmbeddedBroker(2) as broker:
    broker.produce("t", [(None, b"v")] * 10)
    # Each line of debug is a callback too.
    with SharedKafkaSource({"bootstrap.servers": broker.bootstrap, "debug": "cgrp,topic"}, ["t"], "g") as source:
        asking = Asking()
        source.join(asking)
        came = 0
        while came < 10:
            came += len(source.poll(100, 0.5))
print(asking.gains, came)
"""


def test_the_brokers_may_be_asked_for_the_topics_while_partitions_are_handed_over() -> None:
    """In a process of its own: where the binding loses the state of the outer call, it aborts at the next callback."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "1 10"), done.stderr[-2000:]
