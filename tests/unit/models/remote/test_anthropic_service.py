"""That the server of the tests is faithful: Anthropic's own client reads what it says, and makes of its errors what it makes
of the real ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.services.anthropic import KEY, Anthropic, limited
from tests.services.anthropic import error as said
from tests.services.http import Server

anthropic: Any = pytest.importorskip("anthropic")

TOOL = {
    "name": "answer",
    "description": "Gives the answer.",
    "strict": True,
    "input_schema": {
        "type": "object",
        "properties": {"label": {"type": "string"}},
        "required": ["label"],
        "additionalProperties": False,
    },
}


@pytest.fixture
def service() -> Anthropic:
    return Anthropic()


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    with anthropic.Anthropic(base_url=server.url, api_key=KEY, max_retries=0) as client:
        yield client


def ask(client: Any, **other: object) -> Any:
    given = {"model": "claude-haiku-4-5", "max_tokens": 64, "messages": [{"role": "user", "content": "hello there"}], **other}
    return client.messages.create(**given)


def test_a_message_is_read(client: Any, service: Anthropic) -> None:
    service.cached = 3
    answer = ask(client, system="Be brief.")
    assert answer.content[0].text == "HELLO THERE"
    assert answer.stop_reason == "end_turn"
    assert (answer.usage.input_tokens, answer.usage.cache_read_input_tokens) == (4, 3)


def test_the_call_of_a_forced_tool_is_read(client: Any) -> None:
    answer = ask(client, tools=[TOOL], tool_choice={"type": "tool", "name": "answer"})
    assert answer.stop_reason == "tool_use"
    assert answer.content[0].name == "answer"
    assert set(answer.content[0].input) == {"label"}


def test_an_answer_by_a_schema_is_parsed(client: Any, service: Anthropic) -> None:
    from pydantic import BaseModel

    class Late(BaseModel):
        label: str
        minutes: int

    service.thinks = True
    answer = client.messages.parse(
        model="claude-fable-5", max_tokens=64, messages=[{"role": "user", "content": "x"}], output_format=Late
    )
    assert isinstance(answer.parsed_output, Late)


def test_errors_are_of_the_kinds_that_the_client_knows(server: Server, client: Any, service: Anthropic) -> None:
    service.scripted = [limited(retry_after="3"), said(529, "overloaded_error", "Overloaded"), None]
    with pytest.raises(anthropic.RateLimitError) as caught:
        ask(client)
    assert caught.value.response.headers["retry-after"] == "3"
    assert caught.value.body["error"]["type"] == "rate_limit_error"
    with pytest.raises(anthropic.APIStatusError) as caught:
        ask(client)
    assert caught.value.status_code == 529
    ask(client)
    with pytest.raises(anthropic.NotFoundError):
        ask(client, model="claude-none")
    with pytest.raises(anthropic.BadRequestError, match="Extra inputs are not permitted"):
        ask(client, extra_body={"foo": 1})
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        ask(client, messages=[{"role": "user", "content": "word " * 1_001}])
    with (
        anthropic.Anthropic(base_url=server.url, api_key="sk-ant-wrong", max_retries=0) as stranger,
        pytest.raises(anthropic.AuthenticationError),
    ):
        ask(stranger)
