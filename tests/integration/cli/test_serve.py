"""`lakeflow serve`: what it answers, whom it answers, and what it bounds."""

from __future__ import annotations

import http.client
import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from lakeflow.cli.output import without_secrets
from lakeflow.config import ServeSettings
from lakeflow.errors import ConfigError, UsageError
from lakeflow.runner.indexing import update_index
from lakeflow.runner.project import Project
from lakeflow.runner.searching import Searcher
from lakeflow.serve.answering import Answering
from lakeflow.serve.server import Server, place_of
from tests.integration.cli.conftest import CONFIG, DOCS, JOBS, TABLES, Shop
from tests.integration.cli.landings import wait_for
from tests.lakes import append

SEARCH = "/v1/indexes/docs_index/search"
TOKEN = "open-sesame"
SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Site:
    """A server, and requests to it."""

    server: Server
    token: str | None = None

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, http.client.HTTPResponse]:
        """Status, JSON document and response; `body` is JSON, or bytes as they are."""
        host, port = self.server.server_address[:2]
        connection = http.client.HTTPConnection(str(host), int(port), timeout=SECONDS)
        given = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if sent is not None:
            given["Content-Type"] = "application/json"
        connection.request(method, path, sent, {**given, **headers})
        response = connection.getresponse()
        text = response.read()
        connection.close()
        return response.status, json.loads(text) if text else None, response

    def search(self, code: int = 200, **fields: Any) -> Any:
        status, document, response = self.ask("POST", SEARCH, fields)
        assert status == code, document
        kind = "application/json" if code == 200 else "application/problem+json"
        assert response.headers["Content-Type"] == kind
        assert code == 200 or document["status"] == code
        return document


@contextmanager
def served(project: Project, bounds: ServeSettings) -> Iterator[Site]:
    project.settings = replace(project.settings, serve=bounds)
    with project.models, Server("127.0.0.1", 0, Answering(project, without_secrets), bounds) as server:
        yield Site(server, bounds.token)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose index is up to date."""
    root = tmp_path_factory.mktemp("served")
    (root / "tables").mkdir()
    (root / "jobs").mkdir()
    (root / "lakeflow.toml").write_text(CONFIG, encoding="utf-8")
    (root / "tables" / "shop.sql").write_text(TABLES, encoding="utf-8")
    (root / "jobs" / "embed.py").write_text(JOBS["embed.py"], encoding="utf-8")
    project = Project.open(root, environ={})
    project.lake.ensure(project.declared_tables.tables["bronze.docs"])
    append(project.lake, DOCS, name="bronze.docs")
    with project.models:
        project.run("embed")
        update_index(project.declared_tables.indexes["docs_index"], project.index_room)
    return root


@pytest.fixture
def built(folder: Path, capsys: pytest.CaptureFixture[str]) -> Shop:
    return Shop(folder, capsys)


@pytest.fixture(scope="module")
def bounds(folder: Path) -> ServeSettings:
    return Project.open(folder, environ={}).settings.serve


@pytest.fixture(scope="module")
def site(folder: Path, bounds: ServeSettings) -> Iterator[Site]:
    with served(Project.open(folder, environ={}), bounds) as opened:
        yield opened


def test_a_search_by_text_gives_what_the_command_gives(site: Site, built: Shop) -> None:
    found = site.search(text="delay execution for some seconds", k=2, columns=["doc_id"])
    (query,) = found["queries"]
    assert (found["index"], found["mode"]) == ("docs_index", "vector")
    assert query["hits"][0]["row"]["doc_id"] == "sleep"
    by_command = built.json("search", "docs_index", "delay execution for some seconds", "--k", "2", "--columns", "doc_id")
    assert [(hit["score"], hit["distance"], hit["row"]["doc_id"]) for hit in query["hits"]] == [
        (pytest.approx(row["score"]), pytest.approx(row["distance"]), row["doc_id"]) for row in by_command
    ]


def test_vectors_conditions_and_several_queries(site: Site) -> None:
    near = [1.0] + [0.0] * 255
    found = site.search(vectors=[near, near], where="doc_id = 'sort' OR doc_id = 'strip'", exact=True, k=3)
    assert [sorted(hit["row"]["doc_id"] for hit in query["hits"]) for query in found["queries"]] == [["sort", "strip"]] * 2


@pytest.mark.parametrize(
    ("fields", "code", "told"),
    [
        ({"text": "x", "k": 0}, 400, "k is 0"),
        ({"text": "x", "k": 1_000_000}, 400, "max_k of [serve]"),
        ({"text": "x", "columns": ["tekst"]}, 400, "did you mean 'text'"),
        ({"text": "x", "where": "txt = 'a'"}, 400, "txt"),
        ({"text": "x", "where": "doc_id = 'a'; DROP TABLE docs"}, 400, ""),
        ({"text": "x", "where": "doc_id IN (SELECT doc_id FROM other)"}, 400, ""),
        ({"text": "x", "where": "1 = 1) OR (read_text('/etc/passwd') IS NOT NULL"}, 400, ""),
        ({"vector": [0.1, 0.2]}, 400, "have the shape [1, 2]; valid: [queries, 256]"),
        ({"text": "x", "mode": "fts"}, 400, "has no text columns"),
        ({"text": "x", "rerank": "nobody"}, 400, "names no 'text_columns'"),
        ({"text": "x", "version": 3}, 400, "unknown field of a search 'version'"),
    ],
)
def test_mistakes_are_told_as_problems(site: Site, fields: dict[str, Any], code: int, told: str) -> None:
    problem = site.search(code, **fields)
    assert told in problem["detail"]
    assert problem["type"].startswith("urn:lakeflow:error:")
    assert problem["title"]


def test_bodies_that_are_not_json_or_hold_what_json_has_not(site: Site) -> None:
    for body in (b"", b"nonsense", b'{"vector": [NaN]}', b'{"text": "a"'):
        status, problem, _ = site.ask("POST", SEARCH, body)
        assert (status, problem["type"]) == (400, "urn:lakeflow:error:UsageError")


def test_indexes_are_listed_and_shown(site: Site) -> None:
    status, listed, _ = site.ask("GET", "/v1/indexes")
    assert (status, [one["name"] for one in listed["indexes"]]) == (200, ["docs_index"])
    status, shown, _ = site.ask("GET", "/v1/indexes/docs_index")
    assert (status, shown["rows"], shown["width"], shown["state"], shown["metric"]) == (200, 3, 256, "up to date", "cosine")
    status, problem, _ = site.ask("GET", "/v1/indexes/docs_indx")
    assert (status, "did you mean 'docs_index'" in problem["detail"]) == (404, True)


def test_health_and_readiness(site: Site) -> None:
    assert site.ask("GET", "/healthz")[:2] == (200, {"status": "ok"})
    assert site.ask("GET", "/readyz")[:2] == (200, {"status": "ready", "reasons": []})
    assert site.ask("HEAD", "/healthz")[:2] == (200, None)


def test_an_index_that_was_never_built_is_not_ready(shop: Shop) -> None:
    shop.docs()
    with served(shop.project, shop.project.settings.serve) as site:
        assert site.ask("GET", "/readyz")[:2] == (
            503,
            {"status": "not ready", "reasons": ["index docs_index was never built"]},
        )
        assert "unknown index" in site.search(404, text="x")["detail"]


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("DELETE", "/v1/indexes/docs_index", 405),
        ("POST", "/v1/indexes", 405),
        ("PUT", SEARCH, 405),
        ("GET", SEARCH, 405),
        ("GET", "/", 404),
        ("GET", "/v1/indexes/docs_index/../../etc", 404),
        ("OPTIONS", SEARCH, 405),
    ],
)
def test_nothing_else_is_there(site: Site, method: str, path: str, code: int) -> None:
    status, problem, response = site.ask(method, path)
    assert (status, problem["status"]) == (code, code)
    assert code != 405 or response.headers["Allow"]


class TestCallers:
    def test_the_token_and_nothing_else_opens(self, built: Shop, bounds: ServeSettings) -> None:
        with served(built.project, replace(bounds, token=TOKEN)) as site:
            assert len(site.search(text="sort")["queries"]) == 1
            for shown in ("Bearer wrong", f"Bearer {TOKEN}x", "Bearer", "", f"Basic {TOKEN}", "Bearer \xff"):
                status, problem, response = site.ask("POST", SEARCH, {"text": "sort"}, Authorization=shown)
                assert (status, response.headers["WWW-Authenticate"]) == (401, "Bearer")
                assert TOKEN not in json.dumps(problem)
            assert site.ask("GET", "/healthz", Authorization="Bearer wrong")[0] == 200
            assert site.ask("GET", "/v1/indexes", Authorization="Bearer wrong")[0] == 401

    def test_without_a_token_other_names_of_this_machine_are_not_answered(self, site: Site) -> None:
        assert site.ask("GET", "/v1/indexes", Host="evil.example:8480")[0] == 403
        assert site.ask("GET", "/v1/indexes", Host="localhost:8480")[0] == 200

    def test_without_a_token_it_listens_on_loopback_alone(self, bounds: ServeSettings) -> None:
        assert place_of("[::1]:1", bounds) == ("::1", 1)
        assert place_of("8480", bounds) == ("127.0.0.1", 8480)
        for listen in ("0.0.0.0:8480", "10.0.0.1:8480", "[::]:8480", "example.org:80"):
            with pytest.raises(ConfigError, match="can be reached from other machines"):
                place_of(listen, bounds)
        assert place_of("0.0.0.0:8480", replace(bounds, token=TOKEN)) == ("0.0.0.0", 8480)
        with pytest.raises(ConfigError, match=r"token of \[serve\] is empty"):
            place_of("8480", replace(bounds, token=" "))
        valid = "valid: a port, or host:port such as 127.0.0.1:8480$"
        with pytest.raises(UsageError, match=f"--listen is 'off'; {valid}"):
            place_of("off", bounds)
        with pytest.raises(UsageError, match=rf"listen of \[serve\] is 'off'; {valid}"):
            place_of("off", replace(bounds, listen="off"))

    def test_a_page_of_a_browser_cannot_ask_without_asking_first(self, site: Site) -> None:
        assert site.ask("POST", SEARCH, b'{"text": "a"}', **{"Content-Type": "text/plain"})[0] == 415


BODY = b"Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n{"


def is_closed(connection: socket.socket) -> bool:
    """Send a byte more, and look whether the other side has ended the connection, with or without an answer."""
    try:
        connection.sendall(b" ")
        connection.recv(10_000)
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


class TestBounds:
    def test_a_huge_body_is_turned_away_unread(self, built: Shop, bounds: ServeSettings) -> None:
        with served(built.project, replace(bounds, max_body_bytes=1024)) as site:
            status, problem, _ = site.ask("POST", SEARCH, b" " * 200_000)
            assert (status, "max_body_bytes" in problem["detail"]) == (413, True)
            assert site.ask("POST", SEARCH, b"", **{"Content-Length": "9" * 30})[0] == 413
            assert site.ask("POST", SEARCH, b"", **{"Content-Length": "-1"})[0] == 411
            assert site.ask("POST", SEARCH, b"{}", **{"Transfer-Encoding": "chunked"})[0] == 411

    @pytest.mark.parametrize(
        "begun", [b"GET /", b"GET / HTTP/1.0\r\nHost: ", f"POST {SEARCH} HTTP/1.0\r\nHost: localhost\r\n".encode() + BODY]
    )
    def test_a_request_that_drips_is_closed(self, built: Shop, bounds: ServeSettings, begun: bytes) -> None:
        with served(built.project, replace(bounds, seconds=0.4)) as site:
            host, port = site.server.server_address[:2]
            with socket.create_connection((str(host), int(port)), timeout=SECONDS) as slow:
                slow.sendall(begun)
                slow.settimeout(0.1)  # a byte each time it is over, sooner than a socket's own patience ends
                end = time.monotonic() + SECONDS
                while not is_closed(slow):
                    assert time.monotonic() < end, "it drips for ever"
            assert site.ask("GET", "/healthz")[0] == 200

    def test_more_searches_at_once_than_allowed_are_turned_away(
        self, built: Shop, bounds: ServeSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begun, go_on = threading.Semaphore(0), threading.Event()
        search = Searcher.search

        def held_up(self: Searcher, *given: Any) -> Any:
            begun.release()
            assert go_on.wait(SECONDS)
            return search(self, *given)

        monkeypatch.setattr(Searcher, "search", held_up)
        with served(built.project, replace(bounds, max_requests=2)) as site, ThreadPoolExecutor(2) as callers:
            try:
                first = [callers.submit(site.search, text="sort") for _ in range(2)]
                assert begun.acquire(timeout=SECONDS)
                assert begun.acquire(timeout=SECONDS)
                status, problem, response = site.ask("POST", SEARCH, {"text": "sort"})
                assert (status, response.headers["Retry-After"]) == (503, "1")
                assert "max_requests of [serve]" in problem["detail"]
            finally:
                go_on.set()
            assert [len(one.result()["queries"]) for one in first] == [1, 1]
            assert len(site.search(text="sort")["queries"]) == 1

    def test_a_search_that_takes_too_long_is_given_up(
        self, built: Shop, bounds: ServeSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        go_on = threading.Event()

        def slow(self: Searcher, *given: Any) -> Any:
            assert go_on.wait(SECONDS)
            raise UsageError("nobody waits for this")

        monkeypatch.setattr(Searcher, "search", slow)
        with served(built.project, replace(bounds, seconds=0.2, max_requests=1)) as site:
            status, problem, _ = site.ask("POST", SEARCH, {"text": "sort"})
            assert (status, "seconds of [serve]" in problem["detail"]) == (504, True)
            assert site.ask("POST", SEARCH, {"text": "sort"})[0] == 503, "it counts until it has ended"
            go_on.set()

    def test_a_fault_is_told_without_what_it_was(
        self, built: Shop, bounds: ServeSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def faulty(self: Searcher, *given: Any) -> Any:
            raise RuntimeError("inner matters")

        monkeypatch.setattr(Searcher, "search", faulty)
        with served(built.project, bounds) as site:
            problem = site.search(500, text="sort")
            assert "inner matters" not in json.dumps(problem)


def test_the_log_has_a_line_a_request_and_not_what_was_asked(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lakeflow.serve")
    site.search(text="a secret wish", where="doc_id = 'hidden'")
    site.ask("GET", "/nothing%0Aforged%20line")

    def lines() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.name == "lakeflow.serve"]

    wait_for(lambda: len(lines()) == 2)
    first, second = lines()
    assert first.startswith(f"POST {SEARCH} 200 ")
    assert first.endswith("1 queries, 0 hits")
    assert second.startswith("GET ? 404 ")
    assert "wish" not in caplog.text
    assert "hidden" not in caplog.text


def test_the_command_answers_until_a_signal_comes(built: Shop) -> None:
    told = threading.Event()

    def stop() -> None:
        assert told.wait(SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    begin = Server.__enter__

    def entered(server: Server) -> Server:
        begun = begin(server)
        assert Site(server).ask("GET", "/readyz")[0] == 200
        told.set()
        return begun

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Server, "__enter__", entered)
        ran = built("serve", "--listen", "127.0.0.1:0", "--output", "json")
    thread.join()
    assert ran.code == 143
    assert ran.json["address"].startswith("http://127.0.0.1:")
    assert "without a token of [serve] this machine alone is answered" in ran.err


def test_beyond_loopback_the_command_asks_for_a_token(built: Shop) -> None:
    ran = built("serve", "--listen", "0.0.0.0:0")
    assert ran.code == 2
    assert 'set token = "{{ secret.NAME }}" under [serve]' in ran.err
