"""The harness on real servers itself sees what it must: rows too few or too many, progress that goes back, wrong fates."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from tests.chaos.real_count import check, expected_accounts, expected_events, expected_letters
from tests.chaos.real_producers import Fates, Held, check_fates, poisons
from tests.chaos.real_project import ACCOUNTS, APPENDED, EVENTS, KEYED
from tests.chaos.real_proxy import Climate, StormyProxy, Trouble, Weather
from tests.chaos.real_watch import Watch

CALM = Climate(0.0, 0.0, 1e9, 1.0, 0.05)


def account(offset: int, name: str, number: int | None, record_id: str = "g-a-1") -> Held:
    value = None if number is None else json.dumps({"id": record_id, "n": number, "account": name}).encode()
    return Held(ACCOUNTS, 0, offset, json.dumps({"account": name}).encode(), value)


def test_what_is_expected_is_the_fold_of_the_records_and_each_bad_one_once_a_table() -> None:
    poison = Held(ACCOUNTS, 0, 3, b'{"account": "b"}', b"no json x-a-9")
    nothing = Held(EVENTS, 1, 0, b"", None)
    no_key = Held(ACCOUNTS, 0, 5, b"no json", None)
    records = [account(0, "a", 1), account(1, "b", 2), account(2, "a", 3), poison, account(4, "b", None), nothing, no_key]
    assert set(expected_accounts(records)) == {("a", "g-a-1", 3, 0, 2)}
    assert [row[2] for row in sorted(expected_events(records))] == [0, 1, 2]  # type: ignore[index, type-var]
    letters = expected_letters(records)
    assert sorted((row[0], row[3]) for row in letters) == [  # type: ignore[index]
        *((KEYED, offset) for offset in (3, 5)),
        *((APPENDED, offset) for offset in (0, 3, 4, 5)),
    ]
    assert set(letters.values()) == {1}


def test_rows_too_few_and_too_many_are_seen() -> None:
    wanted = expected_events([account(0, "a", 1), account(1, "a", 2)])
    check(APPENDED, wanted, wanted)
    with pytest.raises(AssertionError, match="1 are missing, 0 too many"):
        check(APPENDED, wanted - expected_events([account(1, "a", 2)]), wanted)
    with pytest.raises(AssertionError, match="0 are missing, 2 too many"):
        check(APPENDED, wanted + wanted, wanted)


def test_ids_that_were_lost_repeated_or_never_committed_are_seen() -> None:
    held = [account(0, "a", 1, "g-a-1"), account(1, "a", 1, "g-a-2")]
    check_fates(held, Fates(committed={"g-a-1"}, unknown={"g-a-2", "g-a-3"}))
    for fates in (Fates(committed={"g-a-1", "g-a-2", "g-a-3"}), Fates(committed={"g-a-1"}, aborted={"g-a-2"})):
        with pytest.raises(AssertionError):
            check_fates(held, fates)
    with pytest.raises(AssertionError, match="twice"):
        check_fates([*held, held[0]], Fates(committed={"g-a-1", "g-a-2"}))


def test_every_poison_carries_its_id() -> None:
    for value in poisons("x-t1-7"):
        held = Held(EVENTS, 0, 0, None, value)
        assert (held.record_id, held.is_poison) == ("x-t1-7", True)


def snapshot(sequence: int, offset: int, read: int) -> dict[str, object]:
    facts = {"lakeflow.progress.landing": json.dumps({"t": {"0": offset}, "#ids": {}}), "lakeflow.records-read": str(read)}
    return {"snapshot-id": sequence, "sequence-number": sequence, "summary": {"operation": "append", **facts}}


def test_progress_that_goes_back_and_records_that_do_not_add_up_are_seen() -> None:
    watch = Watch("http://127.0.0.1:1")
    seen = watch.seen[APPENDED]
    seen.take({"last-sequence-number": 2, "snapshots": [snapshot(1, 5, 5), snapshot(2, 9, 4)]})
    watch.check(9)
    with pytest.raises(AssertionError, match="read 9 records"):
        watch.check(8)
    seen.take({"last-sequence-number": 3, "snapshots": [snapshot(3, 7, 0)]})
    with pytest.raises(AssertionError, match="went back"):
        watch.check(9)


class TestTheProxy:
    """Each trouble does what it says to a server that counts."""

    @pytest.fixture
    def server(self) -> Iterator[tuple[str, list[bytes]]]:
        applied: list[bytes] = []

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                applied.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, format: str, *args: object) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", applied
        server.shutdown()
        server.server_close()

    @pytest.mark.parametrize(
        ("trouble", "status", "times"),
        [
            (None, 200, 1),
            (Trouble.REFUSED, 503, 0),
            (Trouble.BROKEN, 500, 0),
            (Trouble.CUT, None, 0),
            (Trouble.LOST, None, 1),
            (Trouble.UNKNOWN, 504, 1),
            (Trouble.TWICE, 200, 2),
            (Trouble.SILENT, None, 0),
            (Trouble.LATE, None, 1),
        ],
    )
    def test_a_request_is_applied_and_answered_as_its_trouble_says(
        self, server: tuple[str, list[bytes]], trouble: Trouble | None, status: int | None, times: int
    ) -> None:
        upstream, applied = server
        weather = Fixed(trouble)
        with StormyProxy(upstream, weather) as proxy:
            connection = http.client.HTTPConnection(urlsplit(proxy.uri).netloc, timeout=10)
            connection.request("PUT", "/x", iter([b"ab", b"cd"]), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
            try:
                answered: int | None = connection.getresponse().status
            except http.client.RemoteDisconnected:
                answered = None
            connection.close()
        assert (answered, applied) == (status, [b"abcd"] * times)


class Fixed(Weather):
    """One trouble for every request."""

    def __init__(self, trouble: Trouble | None) -> None:
        super().__init__(CALM, 1)
        self._trouble = trouble

    def befalls(self, method: str, path: str) -> Trouble | None:
        return self._trouble


def test_the_weather_is_the_seeds_and_calm_ends_it() -> None:
    climate = Climate(0.5, 0.5, 10.0, 5.0, 0.0)
    first, second = (Weather(climate, 3, clock=iter(range(1000)).__next__) for _ in range(2))
    befell = [first.befalls("PUT", "/x") for _ in range(200)]
    assert befell == [second.befalls("PUT", "/x") for _ in range(200)]
    assert first.outages > 3
    assert set(befell) == {None, *Trouble}
    first.calm()
    assert {first.befalls("PUT", "/x") for _ in range(50)} == {None}
