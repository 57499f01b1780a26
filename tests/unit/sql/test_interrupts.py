"""A query that runs is stopped from another thread."""

from __future__ import annotations

import threading

import pytest

from lakeflow.errors import Terminal
from lakeflow.sql.execute import interrupt_queries, run_query

ENDLESS = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(1000000) b"


def test_what_runs_is_stopped_and_what_comes_after_runs() -> None:
    ended = threading.Event()

    def stop() -> None:
        while not ended.wait(0.01):
            interrupt_queries()

    stopping = threading.Thread(target=stop)
    stopping.start()
    try:
        with pytest.raises(Terminal, match="the query was interrupted"):
            run_query(ENDLESS, {}).read_all()
    finally:
        ended.set()
        stopping.join()
    interrupt_queries()
    assert run_query("SELECT 1 AS one", {}).read_all().to_pylist() == [{"one": 1}]
