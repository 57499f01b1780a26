"""A REST catalog that accepts and then says nothing."""

from __future__ import annotations

import socket
import threading

import pytest

from lakeflow.errors import CatalogUnavailable
from lakeflow.lake import iceberg
from lakeflow.lake.catalog import Lake

CONFIG = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 30\r\n\r\n{"defaults":{},"overrides":{}}'


@pytest.mark.timeout(30)
@pytest.mark.parametrize("answered", [0, 1], ids=["when it is opened", "later"])
def test_its_silence_is_an_error_and_no_wait_for_ever(monkeypatch: pytest.MonkeyPatch, answered: int) -> None:
    monkeypatch.setattr(iceberg, "ANSWER_SECONDS", 0.2)
    held: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            try:
                while True:
                    held.append(server.accept()[0])
                    if len(held) <= answered:
                        held[-1].recv(1 << 16)
                        held[-1].sendall(CONFIG)
            except OSError:
                return  # the test is over

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(CatalogUnavailable, match="the catalog did not answer"):
            Lake.open({"type": "rest", "uri": f"http://127.0.0.1:{server.getsockname()[1]}"}).table("bronze.t")
        server.shutdown(socket.SHUT_RDWR)
    for one in held:
        one.close()
