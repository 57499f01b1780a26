"""Connections as servers of all kinds leave them: kept, closed, cut, encrypted, packed, behind a proxy."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lakeflow.models.remote import clients
from lakeflow.models.remote.clients import NO_HEADERS, Clients, Response

OK = b"HTTP/1.1 200 OK\r\nX-One: 1\r\nX-ONE: 2\r\ncontent-length: 2\r\n\r\nhi"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Raw:
    """Says `replies` in turn, the last one ever after; a connection ends behind one in `last_ones`, or that promises more."""

    def __init__(self, *replies: bytes, last_ones: Callable[[int], bool] = lambda number: False) -> None:
        self._replies = replies
        self._last_ones = last_ones
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.port = 0

    @asynccontextmanager
    async def serving(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield f"{'https' if tls else 'http'}://127.0.0.1:{self.port}/v1/x?y=z"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                self.bodies.append(await reader.readexactly(length))
                self.heads.append(head)
                number = len(self.heads) - 1
                writer.write(self._replies[min(number, len(self._replies) - 1)])
                await writer.drain()
                if self._last_ones(number):
                    break
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


Posting = Callable[..., Awaitable[Response]]


def run(work: Callable[[Posting], Awaitable[None]], headers: Mapping[str, str] = NO_HEADERS, connections: int = 4) -> None:
    async def all_of_it() -> None:
        opened = Clients(headers, connections)
        try:
            await work(opened.post)
        finally:
            await opened.close()

    asyncio.run(asyncio.wait_for(all_of_it(), 20))


def test_a_connection_serves_one_request_after_the_other_with_the_headers_of_each() -> None:
    server = Raw(OK)

    async def work(post: Posting) -> None:
        async with server.serving() as url:
            first = await post(url, b'{"a": 1}')
            await post(url, b"{}", {"X-Signature": "7", "Authorization": "other"})
            assert (first.status, first.body, first.headers["x-one"]) == (200, b"hi", "1, 2")

    run(work, {"Authorization": "Bearer k"})
    assert server.connections == 1
    lines = [head.decode().lower().split("\r\n") for head in server.heads]
    assert lines[0][0] == "post /v1/x?y=z http/1.1"
    assert f"host: 127.0.0.1:{server.port}" in lines[0]
    assert {"authorization: bearer k", "content-type: application/json", "content-length: 8"} <= set(lines[0])
    assert {"authorization: other", "x-signature: 7"} <= set(lines[1])
    assert sum(line.startswith("authorization") for line in lines[1]) == 1
    assert server.bodies == [b'{"a": 1}', b"{}"]


def test_requests_at_once_have_connections_of_their_own_and_the_surplus_is_closed() -> None:
    server = Raw(OK)

    async def work(post: Posting) -> None:
        async with server.serving() as url:
            await asyncio.gather(*(post(url, b"{}") for _ in range(8)))
            assert server.connections == 8
            await asyncio.gather(*(post(url, b"{}") for _ in range(4)))
            assert server.connections == 8, "four were kept"

    run(work)


def test_one_that_the_server_closed_meanwhile_is_not_asked() -> None:
    server = Raw(OK, last_ones=lambda number: True)

    async def work(post: Posting) -> None:
        async with server.serving() as url:
            for _ in range(3):
                assert (await post(url, b"{}")).body == b"hi"
                await asyncio.sleep(0.05)

    run(work)
    assert server.connections == 3


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nhalf",
        b"what is this",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nzzzz",
    ],
)
def test_what_is_no_answer_is_an_error_of_httpx_and_the_next_request_goes_on(reply: bytes) -> None:
    server = Raw(reply, OK, last_ones=lambda number: number == 0)

    async def work(post: Posting) -> None:
        async with server.serving() as url:
            with pytest.raises(httpx.HTTPError):
                await post(url, b"{}")
            assert (await post(url, b"{}")).body == b"hi"

    run(work)


def test_nobody_there_is_an_error_of_httpx() -> None:
    async def work(post: Posting) -> None:
        with pytest.raises(httpx.HTTPError, match="Connect call failed"):
            await post("http://127.0.0.1:9/x", b"{}")
        with pytest.raises(httpx.HTTPError, match="label empty or too long"):
            await post(f"http://{'a' * 64}.example/x", b"{}")

    run(work)


def test_one_that_is_given_up_is_not_used_again() -> None:
    server = Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", OK)

    async def work(post: Posting) -> None:
        async with server.serving() as url:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await post(url, b"{}")
            assert (await post(url, b"{}")).body == b"hi"

    run(work)
    assert server.connections == 2


def test_one_that_comes_back_once_all_is_closed_is_closed_too() -> None:
    async def work() -> None:
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            asked.set()
            await go_on.wait()
            writer.write(OK)
            await writer.drain()
            ended.set_result(await reader.read())
            writer.close()

        ended = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = Clients({}, 4)
        async with server:
            port = server.sockets[0].getsockname()[1]
            request = asyncio.create_task(client.post(f"http://127.0.0.1:{port}/", b""))
            await asked.wait()
            await client.close()
            go_on.set()
            assert (await request).body == b"hi"
            async with asyncio.timeout(5.0):
                assert await ended == b"", "the server sees the end of the connection"

    asyncio.run(work())


@pytest.mark.parametrize("pieces", [1, 1000])
def test_long_questions_and_answers_come_whole_chunked_and_packed_too(pieces: int) -> None:
    said = b"0123456789" * 100_000
    packed = gzip.compress(said)
    size = -(-len(packed) // pieces)
    chunks = [packed[start : start + size] for start in range(0, len(packed), size)]
    framed = b"".join(f"{len(one):x}\r\n".encode() + one + b"\r\n" for one in chunks)
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n"
    server = Raw(head + framed + b"0\r\n\r\n")

    async def work(post: Posting) -> None:
        async with server.serving() as url:
            assert (await post(url, said)).body == said

    run(work)
    assert server.bodies == [said]


def test_an_answer_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "MOST_ANSWER_BYTES", 1000)
    packed = gzip.compress(b"0" * 10_000_000)
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {len(packed)}\r\n\r\n".encode()
    endless = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n" + b"0" * 1500

    async def work(post: Posting) -> None:
        for reply in (head + packed, endless):
            async with Raw(reply).serving() as url:
                assert (await post(url, b"{}")).body == b"0" * 1000

    run(work)


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's context, and the file of the certificate that it shows."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a service")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    shown, secret = folder / "shown.pem", folder / "secret.pem"
    shown.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown, secret)
    return context, shown


def test_a_certificate_that_is_known_is_taken_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, shown = certificate(tmp_path)
    server = Raw(OK)
    question = b"0" * 300_000

    async def known(post: Posting) -> None:
        async with server.serving(context) as url:
            assert (await post(url, question)).body == b"hi"
            assert (await post(url, b"{}")).body == b"hi"

    async def unknown(post: Posting) -> None:
        async with server.serving(context) as url:
            with pytest.raises(httpx.HTTPError, match="certificate verify failed"):
                await post(url, b"{}")

    run(unknown)
    monkeypatch.setenv("SSL_CERT_FILE", str(shown))
    run(known)
    assert server.bodies == [question, b"{}"]


def test_a_proxy_that_the_environment_names_is_asked_and_hosts_that_it_excepts_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, server = Raw(OK), Raw(OK)

    async def work(post: Posting) -> None:
        async with proxy.serving(), server.serving() as url:
            monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
            assert (await post("http://service.example/v1", b"{}")).body == b"hi"
            monkeypatch.setenv("no_proxy", "127.0.0.1")
            assert (await post(url, b"{}")).body == b"hi"
            monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:1")
            with pytest.raises(httpx.HTTPError, match="none of HTTP"):
                await post("http://another.example/v1", b"{}")

    run(work)
    assert proxy.heads[0].startswith(b"POST http://service.example/v1 HTTP/1.1")
    assert len(server.heads) == 1
