"""A proxy of our own before a catalog, that loses what it is told to lose of the commits that pass."""

from __future__ import annotations

import http.client
import threading
from collections import deque
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import urlsplit

from tests.rig.process import HOST

SECONDS = 30


class Fault(Enum):
    """What becomes of a commit: LOST: applied, and the connection is cut. UNKNOWN: applied, and 504 is answered.
    REFUSED: not applied, 503. CUT: not applied, and the connection is cut. TWICE: sent twice, the second answer given.
    """

    LOST = "lost"
    UNKNOWN = "unknown"
    REFUSED = "refused"
    CUT = "cut"
    TWICE = "twice"


class Proxy:
    """Use in a `with`. `uri` stands for `upstream`; each of `faults` meets one commit (a POST to a table), in turn."""

    def __init__(self, upstream: str) -> None:
        self.faults: deque[Fault] = deque()
        self._server = ThreadingHTTPServer((HOST, 0), _handler(upstream, self.faults))
        self._server.daemon_threads = True
        self.uri = f"http://{HOST}:{self._server.server_address[1]}"

    def __enter__(self) -> Proxy:
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(SECONDS)


def _handler(upstream: str, faults: deque[Fault]) -> type[BaseHTTPRequestHandler]:
    address = urlsplit(upstream).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            is_commit = self.command == "POST" and "/tables/" in self.path
            match faults.popleft() if is_commit and faults else None:
                case None:
                    self._answer(*self._send(body))
                case Fault.LOST:
                    self._send(body)
                    self.close_connection = True
                case Fault.CUT:
                    self.close_connection = True
                case Fault.UNKNOWN:
                    self._send(body)
                    self._answer(504, b"")
                case Fault.REFUSED:
                    self._answer(503, b"")
                case Fault.TWICE:
                    self._send(body)
                    self._answer(*self._send(body))

        do_GET = do_HEAD = do_POST = do_DELETE = _any

        def _send(self, body: bytes) -> tuple[int, bytes]:
            connection = http.client.HTTPConnection(address, timeout=SECONDS)
            kept = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
            connection.request(self.command, self.path, body, kept | {"Accept-Encoding": "identity"})
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            return answer.status, content

        def _answer(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: a test says what it saw."""

    return Handler
