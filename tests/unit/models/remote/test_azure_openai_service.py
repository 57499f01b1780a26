"""That the server of the tests is faithful: OpenAI's own client for Azure reads what it says, at both kinds of addresses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.services.azure_openai import AZURE_KEY, AZURE_TOKEN, AzureOpenAI, azure_limited
from tests.services.http import Server

openai: Any = pytest.importorskip("openai")

QUESTION = [{"role": "user", "content": "hello there"}]


@pytest.fixture
def service() -> AzureOpenAI:
    return AzureOpenAI()


@pytest.fixture(params=["dated", "token", "v1"])
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Any]:
    dated = {"azure_endpoint": server.url, "api_version": "2025-04-01-preview", "max_retries": 0}
    match request.param:
        case "dated":
            client = openai.AzureOpenAI(api_key=AZURE_KEY, **dated)
        case "token":
            client = openai.AzureOpenAI(azure_ad_token=AZURE_TOKEN, **dated)
        case _:
            client = openai.OpenAI(
                base_url=f"{server.url}/openai/v1/", api_key="none", default_headers={"api-key": AZURE_KEY}, max_retries=0
            )
    with client:
        yield client


def test_answers_of_each_api_are_read(client: Any) -> None:
    answer = client.chat.completions.create(model="my-gpt", messages=QUESTION)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("HELLO THERE", "stop")
    assert answer.choices[0].content_filter_results["hate"]["severity"] == "safe"
    answer = client.responses.create(model="my-gpt", input="hello there")
    assert (answer.output_text, answer.usage.input_tokens) == ("HELLO THERE", 7)
    answer = client.embeddings.create(model="my-embeddings", input=["a", "b"], dimensions=6, encoding_format="float")
    assert [len(one.embedding) for one in answer.data] == [6, 6]


def test_what_the_filter_finds_is_read(client: Any, service: AzureOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="my-gpt", messages=[{"role": "user", "content": service.filtered_prompt}])
    assert (caught.value.code, caught.value.param) == ("content_filter", "prompt")
    assert caught.value.body["innererror"]["content_filter_result"]["violence"]["filtered"] is True
    answer = client.chat.completions.create(model="my-gpt", messages=[{"role": "user", "content": service.filtered_answer}])
    assert answer.choices[0].finish_reason == "content_filter"
    answer = client.responses.create(model="my-gpt", input=service.filtered_answer)
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "content_filter")


def test_errors_are_of_the_kinds_that_the_client_knows(server: Server, client: Any, service: AzureOpenAI) -> None:
    service.scripted = [azure_limited(37, retry_after_ms="250")]
    with pytest.raises(openai.RateLimitError) as limited:
        client.chat.completions.create(model="my-gpt", messages=QUESTION)
    assert limited.value.response.headers["retry-after-ms"] == "250"
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-none", messages=QUESTION)
    assert unknown.value.code == "DeploymentNotFound"
    with pytest.raises(openai.BadRequestError, match="Unrecognized request argument"):
        client.chat.completions.create(model="my-gpt", messages=QUESTION, extra_body={"foo": 1})
    for given in ({"api_key": "wrong", "api_version": "2024-10-21"}, {"api_key": AZURE_KEY, "api_version": "2019-01-01"}):
        kind = openai.AuthenticationError if given["api_key"] == "wrong" else openai.NotFoundError
        with openai.AzureOpenAI(azure_endpoint=server.url, max_retries=0, **given) as stranger, pytest.raises(kind):
            stranger.chat.completions.create(model="my-gpt", messages=QUESTION)
