"""Health, readiness and metrics of `lakeflow start` over HTTP. There is no password: it listens on loopback by default."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, AF_INET6
from types import TracebackType
from typing import TYPE_CHECKING, Any

from lakeflow.errors import UsageError
from lakeflow.start.events import Report

if TYPE_CHECKING:
    from lakeflow.start.meters import Meters

STANDSTILL = 30.0
"""Seconds without a decision, after which the process no longer counts as alive."""
PATHS = ("/healthz", "/readyz", "/metrics")

Answer = tuple[HTTPStatus, str, bytes]


class Board:
    """What is shown: the newest report, which the deciding thread puts up, read by the server's threads."""

    def __init__(
        self, redact: Callable[[str], str], meters: Meters | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._redact = redact
        self._meters = meters
        self._clock = clock
        self._report = Report((), ("the project is being loaded",), clock())

    def put_up(self, report: Report) -> None:
        """Show this from now on."""
        self._report = report

    def answer(self, path: str) -> Answer:
        """What is said at a path."""
        report = self._report
        match path.partition("?")[0]:
            case "/healthz":
                still = self._clock() - report.moved
                alive = still < STANDSTILL
                said = "ok" if alive else f"nothing was decided for {still:.0f} s"
                return self._json(alive, {"status": said, "parts": report.rows})
            case "/readyz":
                ready = not report.unready
                return self._json(ready, {"status": "ready" if ready else "not ready", "reasons": list(report.unready)})
            case "/metrics" if self._meters is not None:
                return HTTPStatus.OK, "text/plain; version=0.0.4; charset=utf-8", self._meters.text(report)
            case "/metrics":
                return HTTPStatus.NOT_FOUND, "text/plain", b'metrics need an extra: pip install "lakeflow[metrics]"\n'
            case _:
                return HTTPStatus.NOT_FOUND, "text/plain", f"valid: {', '.join(PATHS)}\n".encode()

    def _json(self, good: bool, document: dict[str, Any]) -> Answer:
        text = self._redact(json.dumps(document)) + "\n"
        return HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE, "application/json", text.encode()


def address(
    text: str, name: str = "--listen", valid: str = "a port, host:port such as 127.0.0.1:8470, or off"
) -> tuple[str, int]:
    """Host and port of `host:port`, or of a port alone on loopback. Raises UsageError, in which `name` says who gave it."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise UsageError(f"{name} is {text!r}; valid: {valid}")
    return host.strip("[]") or "127.0.0.1", int(port)


class Listener:
    """Serves a board at host:port while it is open. Raises UsageError where that cannot be listened at."""

    def __init__(self, host: str, port: int, board: Board) -> None:
        class Handler(BaseHTTPRequestHandler):
            server_version, sys_version = "lakeflow", ""
            timeout = 10

            def do_GET(self) -> None:
                status, kind, body = board.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                """Probes come every few seconds; they are not worth a line."""

        family = AF_INET6 if ":" in host else AF_INET
        server = type("Server", (ThreadingHTTPServer,), {"address_family": family})
        try:
            self._server: ThreadingHTTPServer = server((host, port), Handler)
        except (OSError, OverflowError) as error:
            raise UsageError(
                f"health cannot be served at {host}:{port}: {error}", next_step="choose another --listen, or --listen off"
            ) from error
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="lakeflow-listen", daemon=True)

    @property
    def address(self) -> str:
        """Where it is served, with the port that was given where 0 was asked for."""
        host, port = self._server.server_address[:2]
        shown = f"[{host!s}]" if ":" in str(host) else str(host)
        return f"http://{shown}:{port}"

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
