"""That the server of the tests is faithful: OpenAI's own client reads what it says, and makes of its errors what it makes of
the real ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.services.http import Reply, Server
from tests.services.openai import KEY, OpenAI, limited, message_of, response_of
from tests.services.openai import error as said

openai: Any = pytest.importorskip("openai")


@pytest.fixture
def service() -> OpenAI:
    return OpenAI()


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def test_a_completion_is_read(client: Any) -> None:
    answer = client.chat.completions.create(model="gpt-4.1-mini", messages=[{"role": "user", "content": "hello there"}])
    assert answer.choices[0].message.content == "HELLO THERE"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (7, 2, 9)


def test_an_answer_by_a_schema_is_parsed(client: Any) -> None:
    from pydantic import BaseModel

    class Late(BaseModel):
        label: str
        minutes: int

    answer = client.chat.completions.parse(
        model="gpt-4.1-mini", messages=[{"role": "user", "content": "x"}], response_format=Late
    )
    assert isinstance(answer.choices[0].message.parsed, Late)


def test_a_response_is_read(client: Any) -> None:
    answer = client.responses.create(model="gpt-4.1-mini", input="hello there", instructions="Be brief.", store=False)
    assert (answer.status, answer.output_text) == ("completed", "HELLO THERE")
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (7, 2, 9)


def test_a_response_by_a_schema_is_parsed(client: Any) -> None:
    from pydantic import BaseModel

    class Late(BaseModel):
        label: str
        minutes: int

    assert isinstance(client.responses.parse(model="gpt-4.1-mini", input="x", text_format=Late).output_parsed, Late)


def test_a_response_that_refuses_or_ends_too_early_is_read(client: Any, service: OpenAI) -> None:
    refused = response_of(
        {"model": "m"}, [message_of("refusal", "No.")], {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    )
    early = {**refused, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": []}
    service.scripted = [Reply(200, json.dumps(one).encode()) for one in (refused, early)]
    answer = client.responses.create(model="m", input="x")
    assert answer.output[1].content[0].refusal == "No."
    answer = client.responses.create(model="m", input="x")
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")


def test_what_a_response_cannot_be_asked_is_refused(client: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="Unknown parameter: 'seed'"):
        client.responses.create(model="gpt-4.1-mini", input="x", extra_body={"seed": 1})
    with pytest.raises(openai.BadRequestError, match="must contain the word 'json'"):
        client.responses.create(model="m", input="x", instructions="json", text={"format": {"type": "json_object"}})


def test_embeddings_are_read(client: Any) -> None:
    answer = client.embeddings.create(model="text-embedding-3-small", input=["a", "b"], dimensions=6, encoding_format="float")
    assert sorted(one.index for one in answer.data) == [0, 1]
    assert len(answer.data[0].embedding) == 6


def test_errors_are_of_the_kinds_that_the_client_knows(server: Server, client: Any, service: OpenAI) -> None:
    def ask(**other: object) -> None:
        given = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "x"}], **other}
        client.chat.completions.create(**given)

    service.scripted = [limited("3"), said(500, "down", "server_error"), None]
    with pytest.raises(openai.RateLimitError) as caught:
        ask()
    assert (caught.value.code, caught.value.response.headers["retry-after"]) == ("rate_limit_exceeded", "3")
    with pytest.raises(openai.InternalServerError):
        ask()
    ask()
    with pytest.raises(openai.NotFoundError):
        ask(model="gpt-none")
    with pytest.raises(openai.BadRequestError, match="Unrecognized request argument"):
        ask(extra_body={"foo": 1})
    with (
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="sk-wrong", max_retries=0) as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()
