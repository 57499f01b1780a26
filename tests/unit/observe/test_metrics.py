"""What a landing does is served as metrics."""

from __future__ import annotations

import socket
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lakeflow.errors import UsageError
from lakeflow.landing.counts import Counts, Landed
from lakeflow.observe.metrics import LandingMetrics, address
from lakeflow.progress import KafkaOffsets


def scraped(metrics: LandingMetrics) -> dict[tuple[str, ...], float]:
    """Each value by its name, then its table, then its outcome."""
    text = urlopen(f"http://127.0.0.1:{metrics.port}/metrics", timeout=10).read().decode()
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {(s.name, *(s.labels[name] for name in ("table", "outcome") if name in s.labels)): s.value for s in samples}


def landed(*counts: int) -> Landed:
    return Landed("b.t", Counts(*counts), (), KafkaOffsets(), KafkaOffsets())


def test_commits_add_up_over_landings_that_are_opened_anew() -> None:
    with LandingMetrics("127.0.0.1", 0, clock=lambda: 1234.5) as metrics:
        metrics.opened("b.t")
        assert scraped(metrics)["lakeflow_landing_running", "b.t"] == 1
        assert scraped(metrics)["lakeflow_landing_records_total", "b.t", "written"] == 0
        metrics.committed(landed(10, 7, 1, 1, 1))
        metrics.committed(landed(15, 12, 1, 1, 1))
        metrics.opened("b.t")
        metrics.committed(landed(3, 2, 1))
        metrics.waits("b.t", 42)
        seen = scraped(metrics)
        assert seen["lakeflow_landing_records_total", "b.t", "written"] == 14
        assert seen["lakeflow_landing_records_total", "b.t", "dead_lettered"] == 2
        assert seen["lakeflow_landing_records_total", "b.t", "skipped"] == 1
        assert seen["lakeflow_landing_records_total", "b.t", "filtered"] == 1
        assert seen["lakeflow_landing_commits_total", "b.t"] == 3
        assert seen["lakeflow_landing_last_commit_timestamp_seconds", "b.t"] == 1234.5
        assert seen["lakeflow_landing_lag_records", "b.t"] == 42


@pytest.mark.parametrize("suspended", [True, False])
def test_the_end_of_a_landing_is_seen(suspended: bool) -> None:
    with LandingMetrics("127.0.0.1", 0) as metrics:
        metrics.opened("b.t")
        metrics.ended("b.t", suspended=suspended)
        seen = scraped(metrics)
        assert (seen["lakeflow_landing_running", "b.t"], seen["lakeflow_landing_suspended", "b.t"]) == (0, suspended)


def test_an_address_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"metrics cannot be served at 127.0.0.1:{port}"):
            LandingMetrics("127.0.0.1", port)


@pytest.mark.parametrize(
    ("text", "place"), [("9464", ("127.0.0.1", 9464)), ("0.0.0.0:1", ("0.0.0.0", 1)), ("[::1]:80", ("::1", 80))]
)
def test_an_address_is_a_port_or_a_host_and_a_port(text: str, place: tuple[str, int]) -> None:
    assert address(text) == place


@pytest.mark.parametrize("text", ["", "here", "host:", "host:http", "1:70000"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="valid: a port, or host:port"):
        address(text)
