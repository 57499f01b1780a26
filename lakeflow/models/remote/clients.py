"""Long-lived HTTP connections to one service.

The pool of httpx looks through all of its connections for each request, which costs their square; so there are many
small pools, and a request goes to the one with the least to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

CONNECTIONS_A_POOL = 4
IDLE_SECONDS = 30.0
MOST_ANSWER_BYTES = 64 << 20
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer. Header names are in lower case; a body of more than MOST_ANSWER_BYTES is cut."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Clients:
    """Made on any thread, used and closed on the loop alone. Redirects are not followed: a key would follow them."""

    def __init__(self, headers: Mapping[str, str], connections: int) -> None:
        import httpx

        context = httpx.create_ssl_context()
        limits = httpx.Limits(max_connections=CONNECTIONS_A_POOL, keepalive_expiry=IDLE_SECONDS)
        sent = {"user-agent": f"lakeflow/{version('lakeflow')}", "content-type": "application/json", **headers}
        self._pools = [
            httpx.AsyncClient(headers=sent, verify=context, limits=limits, timeout=None)
            for _ in range(-(-connections // CONNECTIONS_A_POOL))
        ]
        self._busy = [0] * len(self._pools)
        self._address = ("", httpx.URL(""))

    async def post(self, url: str, body: bytes, headers: Mapping[str, str] = NO_HEADERS) -> Response:
        """Raises httpx.HTTPError; without a time limit of its own. `headers` are of this request alone."""
        place = self._busy.index(min(self._busy))
        self._busy[place] += 1
        try:
            pool = self._pools[place]
            answer = await pool.send(pool.build_request("POST", self._parsed(url), content=body, headers=headers), stream=True)
            try:
                return Response(answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, await _body(answer))
            finally:
                await answer.aclose()
        finally:
            self._busy[place] -= 1

    def _parsed(self, url: str) -> httpx.URL:
        """The address, which is mostly the same as before, and costs a tenth of a request to parse."""
        import httpx

        if self._address[0] != url:
            self._address = (url, httpx.URL(url))
        return self._address[1]

    async def close(self) -> None:
        for pool in self._pools:
            await pool.aclose()


async def _body(answer: httpx.Response) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in answer.aiter_bytes():
        parts.append(part)
        size += len(part)
        if size > MOST_ANSWER_BYTES:
            break
    return b"".join(parts)[:MOST_ANSWER_BYTES]
