"""A service reached without a network, on a loop whose clock jumps: what is asked of a gate in minutes, in no time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import httpx
import pyarrow as pa

from lakeflow.models.providers.openai_chat import OpenAIChat
from lakeflow.models.providers.openai_settings import ChatSettings, read_openai
from lakeflow.models.remote.asking import Asker
from lakeflow.models.remote.clients import NO_HEADERS, Response
from lakeflow.models.remote.gate import Gate
from lakeflow.models.remote.limits import Breaker, Concurrency
from lakeflow.models.remote.operation import Service
from lakeflow.models.remote.settings import read_remote
from lakeflow.models.spec import ModelSpec, Task
from lakeflow.models.usage import Budget, Usage
from tests.services.http import Asked
from tests.services.openai import KEY, OpenAI


class Carried:
    """See `Http`: hands requests to the service itself."""

    def __init__(self, service: OpenAI) -> None:
        self._service = service
        self.refused_at: list[float] = []
        self.answered_at: list[float] = []

    async def post(self, url: str, body: bytes, headers: Mapping[str, str] = NO_HEADERS) -> Response:
        path = "/" + url.split("/", 3)[3]
        reply = await self._service(Asked(path, {"authorization": f"Bearer {KEY}", **headers}, body))
        await asyncio.sleep(reply.seconds)
        if reply.status is None:
            raise httpx.RemoteProtocolError("Server disconnected without sending a response.")
        (self.answered_at if reply.status == 200 else self.refused_at).append(asyncio.get_running_loop().time())
        return Response(reply.status, dict(reply.headers), reply.body)

    async def close(self) -> None:
        """Nothing is open."""


def text_spec(url: str = "http://service", **options: str) -> ModelSpec:
    """A model that answers a text with a text."""
    given = {"endpoint": f"{url}/v1", "api_key": KEY, "model": "gpt-4.1-mini", **options}
    columns = pa.schema([("t", pa.string())])
    return ModelSpec("m", "openai", Task.TEXT_GENERATION, columns, pa.schema([("a", pa.string())]), given)


def asker(carried: Carried, budget: Budget | None = None, **options: str) -> Asker:
    """What asks the service for `text_spec`, through a gate of its own."""
    spec = text_spec(**options)
    settings = read_remote(spec)
    chat = read_openai(spec, list(spec.output))
    assert isinstance(chat, ChatSettings)
    gate = Gate(Concurrency(settings.concurrency), Breaker(settings.breaker_failures, settings.breaker_pause))
    gate.meet(settings)
    usage = Usage(budget or Budget())
    return Asker(spec.label, Service("m", OpenAIChat(chat), settings, carried, gate, usage, settings.price), None)


def questions(count: int) -> Mapping[bytes, Mapping[str, object]]:
    return {str(number).encode(): {"t": f"row {number}"} for number in range(count)}
