"""`lakeflow land --follow` keeps its tables well beside the landing."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

from lakeflow.topics.embedded import EmbeddedBroker
from tests.integration.cli.conftest import Shop
from tests.lakes import live_paths, query

ORDERS = "bronze.orders"


def record(name: str) -> tuple[bytes, bytes]:
    return name.encode(), json.dumps({"order_id": name, "customer": "ann", "amount": 150.0}).encode()


def test_files_become_few_while_records_land(shop: Shop) -> None:
    with EmbeddedBroker(partitions=1) as broker:
        broker.produce("orders", [record("first")])
        shop.configure(
            f'\n[kafka]\n"bootstrap.servers" = "{broker.bootstrap}"\n'
            "[run]\ncommit_seconds = 0.1\npoll_seconds = 0.05\n[maintain]\ninterval_seconds = 0.2\n"
        )
        for number in range(6):
            shop.orders((f"o{number}", "ann", 1.0))
        assert shop("run", "large").code == 0

        def watch() -> None:
            lake = shop.project.lake
            while len(live_paths(lake.table(ORDERS))) > 2:
                time.sleep(0.05)
            broker.produce("orders", [record("second")])
            while not query(lake.table(ORDERS), "SELECT 1 FROM rows WHERE order_id = 'second'"):
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGTERM)

        watcher = threading.Thread(target=watch)
        watcher.start()
        ran = shop("land", ORDERS, "--follow", "--output", "json")
        watcher.join()
    assert ran.code == 143
    assert [landed["read"] for landed in ran.json] == [2]
    rows = query(shop.project.lake.table(ORDERS), "SELECT order_id FROM rows ORDER BY order_id")
    assert [row[0] for row in rows] == ["first", *(f"o{number}" for number in range(6)), "second"]
    assert not [thread for thread in threading.enumerate() if thread.name == "lakeflow-maintain"]
