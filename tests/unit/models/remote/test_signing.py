"""Requests that prove anew each time who asks, and that go to an address of their own."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from lakeflow.errors import ModelError
from lakeflow.models.providers.openai_chat import OpenAIChat
from lakeflow.models.providers.openai_settings import ChatSettings, read_openai
from lakeflow.models.remote.asking import Asker
from lakeflow.models.remote.clients import Clients
from lakeflow.models.remote.dialect import Blame, ErrorKind, Request, Row
from lakeflow.models.remote.gate import Gate
from lakeflow.models.remote.limits import Breaker, Concurrency
from lakeflow.models.remote.operation import Service
from lakeflow.models.remote.settings import read_remote
from lakeflow.models.usage import Usage
from tests.services.carried import questions, text_spec
from tests.services.http import Server
from tests.services.openai import KEY, OpenAI, limited

TOKEN = "token-9d1f"


class Signed(OpenAIChat):
    """Signs each attempt with a number, and asks at an address of the request's own. `refused` is said in place of a sign."""

    def __init__(self, settings: ChatSettings, refused: Blame | None = None) -> None:
        super().__init__(settings)
        self.url, self._own = "http://127.0.0.1:9/nowhere", self.url
        self.secrets = (*self.secrets, TOKEN)
        self._refused = refused
        self._numbers = itertools.count()

    def request(self, rows: Sequence[Row]) -> Request:
        return replace(super().request(rows), url=self._own)

    async def sign(self, url: str, body: bytes) -> Mapping[str, str] | Blame:
        assert url == self._own
        assert b"row 0" in body
        return self._refused or {"x-signature": f"{next(self._numbers)}"}


def ask(url: str, refused: Blame | None = None) -> None:
    spec = text_spec(url, retry_num="3")
    chat = read_openai(spec, list(spec.output))
    assert isinstance(chat, ChatSettings)

    async def asked() -> None:
        clients = Clients({"authorization": f"Bearer {KEY}"}, 1)
        gate = Gate(Concurrency(1), Breaker(50, 1.0))
        service = Service("m", Signed(chat, refused), read_remote(spec), clients, gate, Usage(), None)
        try:
            await Asker(spec.label, service, None).ask(questions(1))
        finally:
            await clients.close()

    asyncio.run(asked())


def test_each_attempt_is_signed_anew_and_goes_where_the_request_says() -> None:
    with Server(OpenAI(scripted=[limited(retry_after="0.01")])) as server:
        ask(server.url)
        assert [one.headers["x-signature"] for one in server.asked] == ["0", "1"]
        assert {one.path for one in server.asked} == {"/v1/chat/completions"}


def test_what_cannot_be_signed_is_not_sent_and_says_no_secret() -> None:
    refused = Blame(ErrorKind.UNAUTHORIZED, f"the token {TOKEN} has run out")
    with Server(OpenAI()) as server:
        with pytest.raises(ModelError, match=r"unauthorized: the token \*\*\* has run out"):
            ask(server.url, refused)
        assert not server.asked
