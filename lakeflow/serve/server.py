"""The HTTP server of `lakeflow serve`: who may ask, within which bounds, and a line a request in the log.

A connection has a thread of its own; no more than CONNECTIONS are open, and one whose request has not come within
`seconds` of [serve] is closed, however slowly its bytes drip.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import socket
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from lakeflow.config import ServeSettings
from lakeflow.errors import ConfigError, LakeflowError, Terminal, UsageError
from lakeflow.serve.answering import Answer, Answering, Refused, text_of
from lakeflow.start.listen import address

LOG = logging.getLogger("lakeflow.serve")
CONNECTIONS = 128
CHUNK = 64 << 10
DRAINED = 8 << 20
DRAIN_SECONDS = 0.5
OPEN = ("/healthz", "/readyz")
"""Paths that need no token: probes have none."""
INDEXES = "/v1/indexes"
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def place_of(listen: str, bounds: ServeSettings) -> tuple[str, int]:
    """Where to listen. Raises UsageError for what is no address, ConfigError for one beyond loopback without a token."""
    name = "listen of [serve]" if listen == bounds.listen else "--listen"
    host, port = address(listen, name, "a port, or host:port such as 127.0.0.1:8480")
    if bounds.token is None and not is_loopback(host):
        raise ConfigError(
            f"{host}:{port} can be reached from other machines, and [serve] names no token",
            next_step='set token = "{{ secret.NAME }}" under [serve], or listen at 127.0.0.1',
        )
    if bounds.token is not None and not bounds.token.strip():
        raise ConfigError("token of [serve] is empty", next_step="give its secret a value, or leave it out on loopback")
    return host, port


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches a host."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Server(ThreadingHTTPServer):
    """Answers at host:port while it is open. Raises UsageError where that cannot be listened at."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, answering: Answering, bounds: ServeSettings) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.answering, self.bounds = answering, bounds
        self.token = None if bounds.token is None else _digest(bounds.token)
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        self._arriving: dict[int, tuple[socket.socket, float]] = {}
        self._busy = 0
        self._lock = threading.Lock()
        try:
            super().__init__((host, port), Handler)
        except (OSError, OverflowError) as error:
            raise UsageError(f"nothing can listen at {host}:{port}: {error}", next_step="choose another --listen") from error
        self._thread = threading.Thread(target=self.serve_forever, args=(0.2,), name="lakeflow-serve", daemon=True)

    @property
    def place(self) -> str:
        """Where it answers, with the port that was given where 0 was asked for."""
        host, port = self.server_address[:2]
        return f"http://[{host!s}]:{port}" if ":" in str(host) else f"http://{host!s}:{port}"

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Takes no more requests, and waits for those under way, as long as a search may take."""
        self.answering.end()
        self.shutdown()
        self.server_close()
        end = time.monotonic() + self.bounds.seconds
        while self._busy and time.monotonic() < end:
            time.sleep(0.02)
        self._thread.join()

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for a connection, where there is room for one."""
        if not self._free.acquire(blocking=False):
            LOG.warning("a connection was turned away: %d are open", CONNECTIONS)
            self.shutdown_request(request)
            return
        with self._lock:
            self._arriving[request.fileno()] = request, time.monotonic() + self.bounds.seconds
            self._busy += 1
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The connection, in its thread."""
        number = request.fileno()
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._arriving.pop(number, None)
                self._busy -= 1
            self._free.release()

    def arrived(self, connection: socket.socket) -> None:
        """The whole of a request has come."""
        with self._lock:
            self._arriving.pop(connection.fileno(), None)

    def service_actions(self) -> None:
        """Close the connections whose requests take too long to come."""
        now = time.monotonic()
        with self._lock:
            late = [number for number, (_, end) in self._arriving.items() if end < now]
            slow = [self._arriving.pop(number)[0] for number in late]
            for connection in slow:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError as error:
                    LOG.debug("a slow connection was gone already: %s", error)
        if slow:
            LOG.warning("%d connections were closed: their requests took more than %g s", len(slow), self.bounds.seconds)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke; what answers meet is answered elsewhere."""
        LOG.debug("a connection broke", exc_info=True)


class Handler(BaseHTTPRequestHandler):
    """One request of one connection."""

    server: Server
    server_version, sys_version = "lakeflow", ""

    def setup(self) -> None:
        super().setup()
        self.unread = 0
        self.connection.settimeout(self.server.bounds.seconds)

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """The line of a request is written when it is answered."""

    def _answer(self) -> None:
        began = time.monotonic()
        name, answer = self._route()
        self.server.arrived(self.connection)
        try:
            self._send(answer)
            self._drain()
        except OSError as error:
            LOG.debug("the caller went away: %s", error)
        spent = 1000 * (time.monotonic() - began)
        method = self.command if self.command in ("GET", "HEAD", "POST") else "OTHER"
        LOG.info("%s %s %d %.0f ms%s", method, name, answer.status, spent, f", {answer.note}" if answer.note else "")

    def _route(self) -> tuple[str, Answer]:
        """The answer, and what the log calls the path: nothing that a caller wrote but names of indexes."""
        path = unquote(urlsplit(self.path).path)
        parts = path.split("/")
        names = self.server.answering.names
        shown = path if path in (*OPEN, INDEXES) else "?"
        if path.startswith(f"{INDEXES}/") and parts[3] in names:
            shown = path if len(parts) == 4 or parts[4:] == ["search"] else "?"
        try:
            return shown, self._found(path, parts)
        except Refused as error:
            return shown, refusal(error)
        except LakeflowError as error:
            return shown, self.server.answering.problem(error)
        except (TimeoutError, ConnectionError):
            return shown, refusal(Refused(HTTPStatus.REQUEST_TIMEOUT, "the request did not come in time"))
        except Exception as error:
            LOG.exception("a request ended in an unforeseen way")
            fault = Terminal(f"{type(error).__name__}; this is a fault of lakeflow: its log has more, please report it")
            return shown, self.server.answering.problem(fault)

    def _found(self, path: str, parts: list[str]) -> Answer:
        answering = self.server.answering
        if path not in OPEN:
            self._check_caller()
        match path, parts:
            case "/healthz", _:
                return self._read(answering.health())
            case "/readyz", _:
                return self._read(answering.readiness())
            case "/v1/indexes", _:
                return self._read(answering.indexes())
            case _, ["", "v1", "indexes", name]:
                self._allow("GET", "HEAD")
                return answering.index(name)
            case _, ["", "v1", "indexes", name, "search"]:
                self._allow("POST")
                return answering.search(name, self._body())
            case _:
                raise Refused(
                    HTTPStatus.NOT_FOUND, f"valid: {INDEXES}, {INDEXES}/NAME, {INDEXES}/NAME/search, {', '.join(OPEN)}"
                )

    def _read(self, answer: Answer) -> Answer:
        self._allow("GET", "HEAD")
        return answer

    def _allow(self, *methods: str) -> None:
        if self.command not in methods:
            allowed = ", ".join(methods)
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, f"valid here: {allowed}", Allow=allowed)

    def _check_caller(self) -> None:
        """Who has the token may ask; without one in [serve], who asks this machine by its own name."""
        if self.server.token is None:
            host = self.headers.get("Host", "")
            if host.rpartition(":")[0] not in LOOPBACK and host not in LOOPBACK:
                raise Refused(HTTPStatus.FORBIDDEN, f"without a token this machine alone is answered: {', '.join(LOOPBACK)}")
            return
        scheme, _, shown = self.headers.get("Authorization", "").partition(" ")
        is_known = hmac.compare_digest(_digest(shown.strip()), self.server.token)
        if scheme.lower() != "bearer" or not is_known:
            raise Refused(HTTPStatus.UNAUTHORIZED, "show the token: Authorization: Bearer ..", **{"WWW-Authenticate": "Bearer"})

    def _body(self) -> bytes:
        """The body, whole. Raises Refused, before it is read, for one that is too large, not measured or no JSON."""
        kind = self.headers.get_content_type()
        if kind != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "valid: Content-Type: application/json")
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or "Transfer-Encoding" in self.headers:
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "the request does not say how long its body is (Content-Length)")
        self.unread = DRAINED
        most = self.server.bounds.max_body_bytes
        if len(length) > 18 or int(length) > most:
            raise Refused(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is larger than {most:,} bytes (max_body_bytes of [serve])"
            )
        body = self.rfile.read(int(length))
        self.unread = 0
        if len(body) < int(length):
            raise Refused(HTTPStatus.BAD_REQUEST, "the body is shorter than Content-Length says")
        self.server.arrived(self.connection)
        return body

    def _drain(self) -> None:
        """Take in some of a body that was turned away: where any is left at the end, the caller may miss the answer."""
        self.connection.settimeout(DRAIN_SECONDS)
        while self.unread > 0 and (taken := self.rfile.read1(CHUNK)):
            self.unread -= len(taken)

    def _send(self, answer: Answer) -> None:
        body = text_of(answer)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def refusal(error: Refused) -> Answer:
    """A request that is turned away, as RFC 9457 has it."""
    document = {"type": "about:blank", "title": error.status.phrase, "status": int(error.status), "detail": error.reason}
    return Answer(document, error.status, "application/problem+json", error.status.phrase, error.headers)


def _digest(text: str) -> bytes:
    """Of one length, whatever was shown: comparing tells nothing of the token."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
