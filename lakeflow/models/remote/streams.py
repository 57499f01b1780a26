"""Network streams for httpcore on asyncio alone: what a request costs is mostly what lies between it and the socket."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any

import httpcore

READ_BYTES = 256 << 10
"""What a stream reads ahead."""
WAITING_BYTES = 64 << 10
"""What is written goes out with the next read, as one packet where it is small; more than this at once."""
EYEBALLS_SECONDS = 0.25
"""Before the next address of a host is tried as well. Source: RFC 8305, section 8."""


class Stream(httpcore.AsyncNetworkStream):
    """One connection. Time limits are the caller's, around all of a request. Raises httpcore.ReadError, WriteError."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        await self._flush()
        try:
            return await self._reader.read(max_bytes)
        except OSError as error:
            raise httpcore.ReadError(_said(error)) from error

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._waiting.append(buffer)
        self._waiting_bytes += len(buffer)
        if self._waiting_bytes > WAITING_BYTES:
            await self._flush()

    async def aclose(self) -> None:
        self._writer.close()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        await self._flush()
        try:
            await self._writer.start_tls(ssl_context, server_hostname=server_hostname)
        except OSError as error:
            self._writer.close()
            raise httpcore.ConnectError(_said(error)) from error
        return self

    def get_extra_info(self, info: str) -> Any:
        """`is_readable` is asked of a connection that nothing is expected from: something there means that it ended."""
        if info == "is_readable":
            return self._reader.at_eof() or self._writer.is_closing()
        return self._writer.get_extra_info(info)

    async def _flush(self) -> None:
        if not self._waiting:
            return
        together = b"".join(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        try:
            self._writer.write(together)
            await self._writer.drain()
        except OSError as error:
            raise httpcore.WriteError(_said(error)) from error


class Backend(httpcore.AsyncNetworkBackend):
    """Opens connections. Raises httpcore.ConnectError."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            return Stream(*await asyncio.open_connection(host, port, limit=READ_BYTES, happy_eyeballs_delay=EYEBALLS_SECONDS))
        except (OSError, UnicodeError) as error:  # a name that the DNS cannot have is no OSError
            raise httpcore.ConnectError(_said(error)) from error

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
