"""A proxy of our own before a catalog or an object store that gives it bad weather: errors, silence, lost answers."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import urlsplit

from tests.rig.process import HOST

UPSTREAM_SECONDS = 30
HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding", "expect", "content-length", "date", "server")


class Trouble(StrEnum):
    """What becomes of a request."""

    REFUSED = "refused: 503, not applied"
    BROKEN = "broken: 500, not applied"
    CUT = "cut off, not applied"
    LOST = "applied, its answer cut off"
    UNKNOWN = "applied, 504 answered"
    TWICE = "applied twice, the second answer given"
    SILENT = "silence, not applied"
    LATE = "applied, then silence"


HARMLESS_READS = (Trouble.REFUSED, Trouble.BROKEN, Trouble.CUT, Trouble.SILENT)
ALL = tuple(Trouble)


@dataclass(frozen=True, slots=True)
class Climate:
    """How bad it is: the shares of requests, and of commits, that meet trouble; seconds between outages and of one, about;
    seconds of a silence.
    """

    share: float
    commit_share: float
    between: float
    outage: float
    silence: float


class Weather:
    """Chooses what befalls each request. `calm()` ends all of it."""

    def __init__(self, climate: Climate, seed: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.met: Counter[Trouble] = Counter()
        self.outages = 0
        self.requests = 0
        self.climate = climate
        self._roll = random.Random(seed)
        self._clock = clock
        self._lock = threading.Lock()
        self._calm = False
        self._begins = clock() + climate.between * self._roll.uniform(0.3, 1.0)
        self._ends = 0.0

    def calm(self) -> None:
        self._calm = True

    def befalls(self, method: str, path: str) -> Trouble | None:
        with self._lock:
            self.requests += 1
            if self._calm:
                return None
            is_commit = method == "POST" and "/tables/" in path
            share = 0.7 if self._is_out() else self.climate.commit_share if is_commit else self.climate.share
            if self._roll.random() >= share:
                return None
            trouble = self._roll.choice(HARMLESS_READS if method in ("GET", "HEAD") else ALL)
            self.met[trouble] += 1
            return trouble

    def _is_out(self) -> bool:
        """Whether an outage is on. The next one follows after a pause."""
        now = self._clock()
        if now >= self._begins:
            self.outages += 1
            self._ends = now + self.climate.outage * self._roll.uniform(0.3, 1.7)
            self._begins = self._ends + self.climate.between * self._roll.uniform(0.5, 1.5)
        return now < self._ends


class StormyProxy:
    """Use in a `with`. `uri` stands for `upstream`; what befalls its requests is the weather's."""

    def __init__(self, upstream: str, weather: Weather) -> None:
        self._server = _Server((HOST, 0), _handler(upstream, weather))
        self.uri = f"http://{HOST}:{self._server.server_address[1]}"

    def __enter__(self) -> StormyProxy:
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(UPSTREAM_SECONDS)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: processes that are killed cut their connections."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: list[tuple[str, str]]
    content: bytes


def _handler(upstream: str, weather: Weather) -> type[BaseHTTPRequestHandler]:
    address = urlsplit(upstream).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self._body()
            trouble = weather.befalls(self.command, self.path)
            if trouble in (Trouble.LOST, Trouble.UNKNOWN, Trouble.TWICE, Trouble.LATE):
                self._send(body)
            match trouble:
                case None | Trouble.TWICE:
                    self._answer(self._send(body))
                case Trouble.REFUSED:
                    self._answer(_Answer(503, [], b""))
                case Trouble.BROKEN:
                    self._answer(_Answer(500, [], b""))
                case Trouble.UNKNOWN:
                    self._answer(_Answer(504, [], b""))
                case Trouble.SILENT | Trouble.LATE:
                    time.sleep(weather.climate.silence)
                    self.close_connection = True
                case Trouble.CUT | Trouble.LOST:
                    self.close_connection = True

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _any

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                """Trailers of the transfer, of which there are none."""
            return b"".join(parts)

        def _send(self, body: bytes) -> _Answer:
            """The request with its own Host, which a store's signatures cover."""
            connection = http.client.HTTPConnection(address, timeout=UPSTREAM_SECONDS)
            try:
                kept = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP[:4]}
                connection.request(self.command, self.path, body, kept)
                answer = connection.getresponse()
                return _Answer(answer.status, answer.getheaders(), answer.read())
            finally:
                connection.close()

        def _answer(self, answer: _Answer) -> None:
            self.send_response(answer.status)
            length = str(len(answer.content))
            for name, value in answer.headers:
                if self.command == "HEAD" and name.lower() == "content-length":
                    length = value
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            if answer.status != 204:
                self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.content)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the weather counts."""

    return Handler
