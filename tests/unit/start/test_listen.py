"""What is served at /healthz, /readyz and /metrics, and to whom."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from http import HTTPStatus

import pytest

from lakeflow.errors import UsageError
from lakeflow.landing.counts import Counts, Landed
from lakeflow.observe.runs import Run, Status
from lakeflow.progress import KafkaOffsets
from lakeflow.start.events import Report
from lakeflow.start.listen import STANDSTILL, Board, Listener, address
from lakeflow.start.meters import Meters
from lakeflow.start.parts import Kind, Part, Standing, State
from lakeflow.start.work import Committed, Ended, Lag, Opened

LANDING = Part(Kind.LANDING, "raw.a", (), "raw.a")
JOB = Part(Kind.JOB, "large", ("raw.a",), "gold.large")


def report(*unready: str, moved: float = 0.0) -> Report:
    return Report((Standing(LANDING, State.RUNNING), Standing(JOB, State.GIVEN_UP, "hunter2 is wrong")), unready, moved)


def board(now: float = 0.0, meters: Meters | None = None) -> Board:
    return Board(lambda text: text.replace("hunter2", "***"), meters, lambda: now)


def test_before_the_first_report_it_lives_and_is_not_ready() -> None:
    assert board().answer("/healthz")[0] is HTTPStatus.OK
    assert board().answer("/readyz")[0] is HTTPStatus.SERVICE_UNAVAILABLE


def test_health_shows_the_parts_without_secrets() -> None:
    one = board()
    one.put_up(report())
    status, kind, body = one.answer("/healthz?verbose")
    assert (status, kind) == (HTTPStatus.OK, "application/json")
    assert json.loads(body)["parts"][1] == {"kind": "job", "name": "large", "state": "given up", "error": "*** is wrong"}


def test_what_no_longer_moves_is_not_alive() -> None:
    one = board(now=STANDSTILL)
    one.put_up(report(moved=0.1))
    assert one.answer("/healthz")[0] is HTTPStatus.OK
    one.put_up(report(moved=0.0))
    assert one.answer("/healthz")[0] is HTTPStatus.SERVICE_UNAVAILABLE


def test_readiness_says_why_not() -> None:
    one = board()
    one.put_up(report("job large is given up"))
    status, _, body = one.answer("/readyz")
    assert (status, json.loads(body)["reasons"]) == (HTTPStatus.SERVICE_UNAVAILABLE, ["job large is given up"])
    one.put_up(report())
    assert one.answer("/readyz")[0] is HTTPStatus.OK


def test_metrics_are_those_of_landings_runs_and_parts() -> None:
    meters = Meters()
    run = Run("job", "large", "gold.large", "incremental", status=Status.DONE, read=3, written=2, filtered=1)
    landed = Landed("raw.a", Counts(read=5, written=5), (1,), KafkaOffsets(), KafkaOffsets())
    for message in (Opened(LANDING), Lag(LANDING, 7), Committed(LANDING, Counts(read=5, written=5), landed), Ended(JOB, run)):
        meters.take(message)
    one = board(meters=meters)
    one.put_up(report())
    text = one.answer("/metrics")[2].decode()
    for line in (
        'lakeflow_landing_records_total{outcome="written",table="raw.a"} 5.0',
        'lakeflow_landing_lag_records{table="raw.a"} 7.0',
        'lakeflow_runs_total{kind="job",name="large",status="done"} 1.0',
        'lakeflow_run_rows_total{kind="job",name="large",outcome="filtered"} 1.0',
        'lakeflow_part_state{kind="job",name="large",state="given up"} 1.0',
        'lakeflow_part_state{kind="landing",name="raw.a",state="running"} 1.0',
    ):
        assert line in text


def test_without_the_package_metrics_say_what_to_install() -> None:
    status, _, body = board().answer("/metrics")
    assert (status, b"lakeflow[metrics]" in body) == (HTTPStatus.NOT_FOUND, True)


def test_it_is_served_over_http_to_get_alone() -> None:
    one = board()
    one.put_up(report("not yet"))
    with Listener("127.0.0.1", 0, one) as listener:
        with urllib.request.urlopen(f"{listener.address}/healthz") as answer:
            assert json.load(answer)["status"] == "ok"
            assert answer.headers["Server"].strip() == "lakeflow"
        for path, code in (("/readyz", 503), ("/", 404)):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"{listener.address}{path}")
            assert refused.value.code == code
            refused.value.close()
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{listener.address}/healthz", data=b"x")
        assert refused.value.code == 501
        refused.value.close()


def test_an_address_that_is_taken_is_a_mistake_of_the_user() -> None:
    with Listener("127.0.0.1", 0, board()) as listener:
        port = int(listener.address.rpartition(":")[2])
        with pytest.raises(UsageError, match=f"health cannot be served at 127.0.0.1:{port}"):
            Listener("127.0.0.1", port, board())


@pytest.mark.parametrize(
    ("text", "expected"),
    [("8470", ("127.0.0.1", 8470)), ("0.0.0.0:1", ("0.0.0.0", 1)), ("[::1]:8470", ("::1", 8470)), (":9", ("127.0.0.1", 9))],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert address(text) == expected


@pytest.mark.parametrize("text", ["", "here", "host:", "127.0.0.1:99999", "host:-1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--listen is"):
        address(text)
