"""The registry over HTTP: what is kept, what is tried again, what each kind of trouble becomes, and that secrets stay."""

from __future__ import annotations

import base64
import json
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lakeflow.errors import ConfigError, SchemaMismatch, SourceUnavailable, UnknownName
from lakeflow.retry import Backoff
from lakeflow.topics.registered import Reference, RegisteredSchema, SchemaKind
from lakeflow.topics.registry_client import ABSENT_SECONDS, MOST_BYTES, HttpRegistry, access
from tests.rig.process import HOST, free_ports
from tests.rig.registry import SchemaRegistry

SECRET = "s3cret-Pa55"
SCHEMA_BODY = json.dumps({"schema": '"long"'}).encode()
NOT_FOUND = json.dumps({"error_code": 40403, "message": "Schema not found"}).encode()


@dataclass
class Clock:
    """A clock that stands until it is told to go, or slept on."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


Answer = Callable[[BaseHTTPRequestHandler], None]


def status(code: int, body: bytes = b"{}", **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


class Scripted:
    """Gives `answers` in turn, the last one for ever. `asked` are the requests' paths, `sent` their Authorization."""

    def __init__(self, *answers: Answer) -> None:
        self.asked: list[str] = []
        self.sent: list[str | None] = []
        left = list(answers)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                outer.sent.append(self.headers.get("Authorization"))
                answer = left.pop(0) if len(left) > 1 else left[0]
                try:
                    answer(self)
                except (BrokenPipeError, ConnectionResetError):
                    """The client has left, as the test has it."""

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer((HOST, 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://{HOST}:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def serve() -> Iterator[Callable[..., Scripted]]:
    servers: list[Scripted] = []

    def start(*answers: Answer) -> Scripted:
        servers.append(Scripted(*answers))
        return servers[-1]

    yield start
    for one in servers:
        one.server.shutdown()
        one.server.server_close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(clock: Clock) -> Iterator[Callable[..., HttpRegistry]]:
    registries: list[HttpRegistry] = []

    def open_(url: str, **settings: str) -> HttpRegistry:
        dotted = {name.replace("__", "."): value for name, value in settings.items()}
        registries.append(HttpRegistry({"url": url, **dotted}, backoff=Backoff(3), clock=clock, sleep=clock.sleep))
        return registries[-1]

    yield open_
    for registry in registries:
        registry.close()


Serve = Callable[..., Scripted]
Opened = Callable[..., HttpRegistry]
LONG = RegisteredSchema(7, SchemaKind.AVRO, '"long"')


def test_a_schema_is_asked_for_once(serve: Serve, opened: Opened) -> None:
    server = serve(status(200, SCHEMA_BODY))
    registry = opened(server.url + "/")
    assert registry.by_id(7) == LONG == registry.by_id(7)
    assert server.asked == ["/schemas/ids/7"]


def test_that_one_is_not_there_is_believed_for_a_while(serve: Serve, opened: Opened, clock: Clock) -> None:
    server = serve(status(404, NOT_FOUND), status(200, SCHEMA_BODY))
    registry = opened(server.url)
    assert registry.by_id(7) is None
    clock.now += ABSENT_SECONDS - 1
    assert registry.by_id(7) is None
    assert len(server.asked) == 1
    clock.now += 2
    assert registry.by_id(7) == LONG


def test_the_latest_is_asked_for_each_time() -> None:
    with SchemaRegistry() as server:
        registry = HttpRegistry({"url": server.url})
        server.store.register("a b/c-value", SchemaKind.AVRO, '"int"')
        first = registry.latest("a b/c-value")
        server.store.register("a b/c-value", SchemaKind.AVRO, '"long"')
        assert registry.latest("a b/c-value").id == first.id + 1
        with pytest.raises(
            UnknownName, match=r"unknown subject of the schema registry 'a b/c-valeu'; did you mean 'a b/c-value'"
        ):
            registry.latest("a b/c-valeu")
        registry.close()


LEAF, MIDDLE, TOP = '{"type":"integer"}', '{"$ref":"leaf"}', '{"$ref":"middle"}'


def test_references_of_references_come_first() -> None:
    with SchemaRegistry() as server:
        leaf, middle = Reference("leaf", "leaves", 1), Reference("middle", "middles", 1)
        server.store.register("leaves", SchemaKind.JSON, LEAF)
        server.store.register("middles", SchemaKind.JSON, MIDDLE, [leaf])
        server.store.register("tops", SchemaKind.JSON, TOP, [middle, leaf])
        registry = HttpRegistry({"url": server.url})
        top = registry.latest("tops")
        assert top.references == (middle, leaf)
        assert top.kind is SchemaKind.JSON
        assert [(name, one.text) for name, one in registry.referenced(top).items()] == [
            ("leaf", LEAF),
            ("middle", MIDDLE),
        ]
        asked = len(server.asked)
        registry.referenced(top)
        assert len(server.asked) == asked
        lost = RegisteredSchema(9, SchemaKind.AVRO, "", (Reference("x", "leaves", 5),))
        with pytest.raises(SchemaMismatch, match="schema 9 refers to 'x', version 5 of subject 'leaves', which is not in"):
            registry.referenced(lost)
        registry.close()


def test_the_serialized_form(serve: Serve, opened: Opened) -> None:
    server = serve(status(200, json.dumps({"schema": base64.b64encode(b"\x0a\x01x").decode()}).encode()))
    registry = opened(server.url)
    assert registry.serialized(3) == b"\x0a\x01x" == registry.serialized(3)
    assert server.asked == ["/schemas/ids/3?format=serialized"]
    text = serve(status(200, json.dumps({"schema": 'syntax = "proto3";'}).encode()))
    assert opened(text.url).serialized(3) is None


def test_what_passes_is_tried_again(serve: Serve, opened: Opened, clock: Clock) -> None:
    server = serve(status(500), status(429), status(200, SCHEMA_BODY))
    assert opened(server.url).by_id(7) == LONG
    assert len(clock.slept) == 2


def test_what_does_not_pass_is_given_up(serve: Serve, opened: Opened) -> None:
    server = serve(status(503))
    with pytest.raises(SourceUnavailable, match=r"answers with status 503"):
        opened(server.url).by_id(7)
    assert len(server.asked) == 3


def test_several_are_asked_in_their_order(serve: Serve, opened: Opened) -> None:
    broken, fine = serve(status(500)), serve(status(200, SCHEMA_BODY))
    assert opened(f"{broken.url}, {fine.url}").by_id(7) == LONG
    assert (len(broken.asked), len(fine.asked)) == (1, 1)
    (port,) = free_ports(1)
    with pytest.raises(SourceUnavailable, match=rf"http://{HOST}:{port} is not reachable: ConnectError.*; .* status 500"):
        opened(f"http://{HOST}:{port},{broken.url}").by_id(7)


@pytest.mark.parametrize("code", [401, 403])
def test_refused_credentials_are_the_configurations_fault(serve: Serve, opened: Opened, code: int) -> None:
    server = serve(status(code, json.dumps({"error_code": code, "message": SECRET}).encode()))
    with pytest.raises(ConfigError, match=f"refuses the credentials .status {code}.") as caught:
        opened(server.url, basic__auth__user__info=f"me:{SECRET}").by_id(7)
    assert SECRET not in str(caught.value)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        ({"basic__auth__user__info": f"me:{SECRET}:x"}, "Basic " + base64.b64encode(f"me:{SECRET}:x".encode()).decode()),
        ({"bearer__auth__token": SECRET}, f"Bearer {SECRET}"),
        ({}, None),
    ],
)
def test_what_is_sent_and_never_shown(
    serve: Serve, opened: Opened, caplog: pytest.LogCaptureFixture, settings: dict[str, str], sent: str | None
) -> None:
    server = serve(status(200, SCHEMA_BODY))
    with caplog.at_level(logging.DEBUG):
        opened(server.url, **settings).by_id(7)
    assert server.sent == [sent]
    dotted = {name.replace("__", "."): value for name, value in settings.items()}
    assert SECRET not in caplog.text + repr(access({"url": server.url, **dotted}))


def test_another_server_that_is_redirected_to_gets_no_credentials(serve: Serve, opened: Opened) -> None:
    other = serve(status(200, SCHEMA_BODY))
    location = other.url.replace(HOST, "localhost") + "/elsewhere"
    server = serve(status(307, Location=location))
    assert opened(server.url, bearer__auth__token=SECRET).by_id(7) == LONG
    assert (other.asked, other.sent) == (["/elsewhere"], [None])


def test_redirects_end(serve: Serve, opened: Opened) -> None:
    server = serve(status(302, Location="/again"))
    with pytest.raises(ConfigError, match="redirects more than 3 times"):
        opened(server.url).by_id(7)
    assert len(server.asked) == 1 + 3


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>", "answers with what is no JSON"),
        (b"", "answers with what is no JSON"),
        (b"[]", "answer is no schema"),
        (b'{"schema": 5}', "answer is no schema"),
        (b'{"schema": "x", "references": [{}]}', "answer is no schema"),
        (b"\x00" * (MOST_BYTES + 1), f"answers with more than {MOST_BYTES} bytes"),
    ],
    ids=["html", "empty", "list", "number", "references", "huge"],
)
def test_an_answer_that_is_none(serve: Serve, opened: Opened, body: bytes, message: str) -> None:
    with pytest.raises(SourceUnavailable, match=message):
        opened(serve(status(200, body)).url).by_id(7)


def test_an_answer_that_is_cut(serve: Serve, opened: Opened) -> None:
    server = serve(status(200, SCHEMA_BODY, **{"Content-Length": "1000"}), status(200, SCHEMA_BODY))
    assert opened(server.url).by_id(7) == LONG


def test_an_address_of_something_else(serve: Serve, opened: Opened) -> None:
    with pytest.raises(ConfigError, match="answers with status 404, as no schema registry does"):
        opened(serve(status(404, b"not here")).url).by_id(7)


def test_a_kind_of_schema_that_is_unknown(serve: Serve, opened: Opened) -> None:
    body = json.dumps({"schema": "x", "schemaType": "THRIFT"}).encode()
    with pytest.raises(SchemaMismatch, match="schema 7 is of 'THRIFT'; valid: AVRO, PROTOBUF, JSON"):
        opened(serve(status(200, body)).url).by_id(7)


def test_a_registry_that_is_slow(serve: Serve, opened: Opened) -> None:
    release = threading.Event()

    def hang(handler: BaseHTTPRequestHandler) -> None:
        release.wait(20)

    server = serve(hang)
    with pytest.raises(SourceUnavailable, match=r"did not answer in 0\.05 s"):
        opened(server.url, timeout="0.05").by_id(7)
    release.set()


def test_a_registry_that_drips(serve: Serve, opened: Opened, clock: Clock) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        clock.now += 11
        handler.wfile.write(SCHEMA_BODY)

    with pytest.raises(SourceUnavailable, match="did not end its answer in 10 s"):
        opened(serve(drip).url).by_id(7)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "url is missing"),
        ({"url": " , "}, "url is missing"),
        ({"url": "localhost:8081"}, "url is 'localhost:8081'; valid: http://host:port"),
        ({"url": "http://h:99999"}, "url is no URL"),
        ({"url": f"http://me:{SECRET}@h"}, "url holds a user or a password"),
        ({"url": "http://h", "basic.auth.user.info": SECRET}, "has no colon"),
        ({"url": "http://h", "basic.auth.user.info": "a:b", "bearer.auth.token": SECRET}, "one can be sent, remove the other"),
        ({"url": "http://h", "ssl.key.location": "k"}, "has ssl.key.location, and no ssl.certificate.location"),
        ({"url": "http://h", "timeout": "0"}, "timeout is '0'; valid: seconds, above 0 and up to 600"),
        ({"url": "http://h", "timeout": "soon"}, "timeout is 'soon'"),
    ],
)
def test_settings_that_cannot_be_meant(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        access(settings)
    assert SECRET not in str(caught.value)


def test_an_unknown_setting_names_the_valid_ones() -> None:
    with pytest.raises(
        UnknownName, match=r"unknown key of \[registry\] 'basic\.auth'; .*valid: basic\.auth\.user\.info, bearer"
    ):
        access({"url": "http://h", "basic.auth": "x"})


def test_certificates_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ssl\.ca\.location is '.*missing', which cannot be read"):
        HttpRegistry({"url": "https://h", "ssl.ca.location": str(tmp_path / "missing")})
    (tmp_path / "bad.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match=r"ssl\.certificate\.location is '.*bad\.pem'"):
        HttpRegistry({"url": "https://h", "ssl.certificate.location": str(tmp_path / "bad.pem")})
