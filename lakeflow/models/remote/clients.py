"""Long-lived HTTP connections to one service, each with one request at a time.

A pool that looks through its connections, and the layers of a general client above it, cost more than half of a request. So
connections stand by themselves here, over httpcore: one that is idle takes the next request, and where none is a new one does.
Only where the environment names a proxy is a pool behind it asked.
"""

from __future__ import annotations

import ssl
import zlib
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.request import getproxies, proxy_bypass

if TYPE_CHECKING:
    import httpcore
    import httpx

IDLE_SECONDS = 30.0
MOST_ANSWER_BYTES = 64 << 20
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
GZIP = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer. Header names are in lower case; a body of more than MOST_ANSWER_BYTES is cut."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Clients:
    """Made on any thread, used and closed on the loop alone. Redirects are not followed: a key would follow them.

    `connections` is how many are kept while nothing is asked; whoever asks limits how many there are.
    """

    def __init__(self, headers: Mapping[str, str], connections: int) -> None:
        import httpx

        self._tls = httpx.create_ssl_context()
        self._connections = connections
        sent = {
            "user-agent": f"lakeflow/{version('lakeflow')}",
            "accept": "*/*",
            "accept-encoding": "gzip",
            "content-type": "application/json",
            **{name.lower(): value for name, value in headers.items()},
        }
        self._sent = {name.encode("ascii"): value.encode("ascii") for name, value in sent.items()}
        self._routes: dict[str, _Route] = {}

    async def post(self, url: str, body: bytes, headers: Mapping[str, str] = NO_HEADERS) -> Response:
        """Raises httpx.HTTPError; without a time limit of its own. `headers` are of this request alone."""
        import httpcore
        import httpx

        route = self._routes.get(url) or self._routed(url)
        own = {name.lower().encode("ascii"): value.encode("ascii") for name, value in headers.items()}
        length = str(len(body)).encode()
        sent = {b"host": route.host, **self._sent, b"content-length": length, **own}
        request = httpcore.Request("POST", route.url, headers=list(sent.items()), content=body)
        try:
            async with route.way.connection() as connection:
                answer = await connection.handle_async_request(request)
                try:
                    return await _read(answer)
                finally:
                    await answer.aclose()
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError, httpcore.UnsupportedProtocol) as error:
            raise httpx.TransportError(str(error) or type(error).__name__) from error

    def _routed(self, url: str) -> _Route:
        """The way to an address, which is mostly the same as before. Routes of one host share its connections."""
        import httpx

        parsed = httpx.URL(url)
        same = next((route for route in self._routes.values() if route.goes_to(parsed)), None)
        if len(self._routes) > 1000:  # addresses made for single requests
            self._routes.clear()
        self._routes[url] = _Route(parsed, same.way if same else self._way(parsed))
        return self._routes[url]

    def _way(self, url: httpx.URL) -> _Way:
        proxy = _proxy_of(url)
        return _Direct(url, self._tls, self._connections) if proxy is None else _Proxied(proxy, self._tls, self._connections)

    async def close(self) -> None:
        for way in {id(route.way): route.way for route in self._routes.values()}.values():
            await way.close()


class _Route:
    """An address, and the connections to its host."""

    def __init__(self, url: httpx.URL, way: _Way) -> None:
        import httpcore

        self.url = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        self.host = url.netloc
        self.way = way
        self._origin = _origin(url)

    def goes_to(self, url: httpx.URL) -> bool:
        return _origin(url) == self._origin


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


class _Direct:
    """Connections without anything in between, the one used last first: the others may end."""

    def __init__(self, url: httpx.URL, tls: ssl.SSLContext, kept: int) -> None:
        import httpcore

        from lakeflow.models.remote.streams import Backend

        port = url.port or (443 if url.scheme == "https" else 80)
        self._origin = httpcore.Origin(url.raw_scheme, url.raw_host, port)
        self._tls = tls
        self._backend = Backend()
        self._idle: deque[httpcore.AsyncHTTPConnection] = deque(maxlen=kept)
        self._closed = False

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[httpcore.AsyncConnectionInterface]:
        """One for a single request."""
        connection = await self._taken()
        try:
            yield connection
        finally:
            if connection.is_idle() and len(self._idle) < (self._idle.maxlen or 0) and not self._closed:
                self._idle.append(connection)
            else:
                await connection.aclose()

    async def _taken(self) -> httpcore.AsyncHTTPConnection:
        import httpcore

        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed() and not connection.has_expired():
                return connection
            await connection.aclose()
        return httpcore.AsyncHTTPConnection(
            self._origin, ssl_context=self._tls, keepalive_expiry=IDLE_SECONDS, network_backend=self._backend
        )

    async def close(self) -> None:
        """Connections that are in use are closed as they come back."""
        self._closed = True
        while self._idle:
            await self._idle.pop().aclose()


class _Proxied:
    """Connections through a proxy."""

    def __init__(self, proxy: str, tls: ssl.SSLContext, connections: int) -> None:
        import httpcore

        from lakeflow.models.remote.streams import Backend

        self._pool = httpcore.AsyncHTTPProxy(
            proxy,
            ssl_context=tls,
            max_connections=connections,
            keepalive_expiry=IDLE_SECONDS,
            network_backend=Backend(),
        )

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[httpcore.AsyncConnectionPool]:
        yield self._pool

    async def close(self) -> None:
        await self._pool.aclose()


_Way = _Direct | _Proxied


def _proxy_of(url: httpx.URL) -> str | None:
    """What HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY say, or the system. Raises httpx.UnsupportedProtocol."""
    import httpx

    if proxy_bypass(url.host):
        return None
    known = getproxies()
    proxy = known.get(url.scheme) or known.get("all")
    if proxy is not None and not proxy.startswith(("http://", "https://")):
        raise httpx.UnsupportedProtocol(f"the proxy for {url.host} in the environment is none of HTTP; valid: http://..")
    return proxy


async def _read(answer: httpcore.Response) -> Response:
    headers: dict[str, str] = {}
    for raw_name, raw_value in answer.headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    unpack = zlib.decompressobj(GZIP) if headers.get("content-encoding", "").lower() == "gzip" else None
    parts: list[bytes] = []
    size = 0
    async for part in answer.aiter_stream():
        parts.append(part if unpack is None else _unpacked(unpack, part, MOST_ANSWER_BYTES - size))
        size += len(parts[-1])
        if size >= MOST_ANSWER_BYTES:
            break
    return Response(answer.status, headers, b"".join(parts)[:MOST_ANSWER_BYTES])


def _unpacked(unpack: zlib._Decompress, part: bytes, most: int) -> bytes:
    import httpx

    try:
        return unpack.decompress(part, max(1, most))
    except zlib.error as error:
        raise httpx.DecodingError(f"an answer is no gzip: {error}") from error
