"""That the server of the tests is faithful: Google's own clients read what it says, get tokens of it, and make of its errors
what they make of the real ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.services.google import KEY, Google, generated, limited, retry_info
from tests.services.google import error as said
from tests.services.google_tokens import SCOPE, key_file
from tests.services.http import Reply, Server

genai: Any = pytest.importorskip("google.genai")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def service() -> Google:
    return Google()


@pytest.fixture
def server(service: Google) -> Iterator[Server]:
    with Server(service) as server:
        service.url = server.url
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    with genai.Client(api_key=KEY, http_options={"base_url": server.url}) as client:
        yield client


@pytest.fixture
def vertex(server: Server) -> Iterator[Any]:
    credentials: Any = pytest.importorskip("google.oauth2.service_account").Credentials
    account = credentials.from_service_account_info(key_file(server.url), scopes=[SCOPE])
    options = {"base_url": server.url, "api_version": "v1"}
    with genai.Client(
        vertexai=True, project="project-1", location="us-central1", credentials=account, http_options=options
    ) as client:
        yield client


def test_a_text_is_read_and_its_thoughts_are_apart(client: Any, service: Google) -> None:
    service.thinks = True
    answer = client.models.generate_content(model="gemini-2.5-flash", contents="hello there")
    assert answer.text == "HELLO THERE"
    assert answer.candidates[0].finish_reason == "STOP"
    usage = answer.usage_metadata
    assert (usage.prompt_token_count, usage.candidates_token_count, usage.thoughts_token_count) == (7, 2, 11)


def test_an_answer_by_a_schema_is_parsed(client: Any) -> None:
    from pydantic import BaseModel

    class Late(BaseModel):
        label: str | None
        minutes: int

    config = {"response_mime_type": "application/json", "response_schema": Late, "temperature": 0.5, "max_output_tokens": 9}
    answer = client.models.generate_content(model="gemini-2.5-flash", contents="x", config=config)
    assert isinstance(answer.parsed, Late)


def test_what_was_blocked_is_read(client: Any, service: Google) -> None:
    answer = client.models.generate_content(model="gemini-2.5-flash", contents="REFUSE ME")
    assert answer.prompt_feedback.block_reason == "PROHIBITED_CONTENT"
    service.scripted = [Reply(200, genai.types.GenerateContentResponse().model_dump_json().encode())]
    assert client.models.generate_content(model="gemini-2.5-flash", contents="x").text is None
    assert generated([], "SAFETY")["candidates"][0]["finishReason"] in set(genai.types.FinishReason)


def test_embeddings_are_read(client: Any) -> None:
    config = {"output_dimensionality": 6, "task_type": "RETRIEVAL_DOCUMENT"}
    answer = client.models.embed_content(model="gemini-embedding-001", contents=["a", "b"], config=config)
    assert [len(one.values) for one in answer.embeddings] == [6, 6]


def test_errors_are_of_the_kinds_that_the_client_knows(server: Server, client: Any, service: Google) -> None:
    from google.genai import errors

    def ask(**other: object) -> None:
        client.models.generate_content(**{"model": "gemini-2.5-flash", "contents": "x", **other})

    service.scripted = [limited(retry_info("3s")), said(503, "UNAVAILABLE", "overloaded"), None]
    with pytest.raises(errors.ClientError) as caught:
        ask()
    assert (caught.value.code, caught.value.status) == (429, "RESOURCE_EXHAUSTED")
    assert caught.value.details["error"]["details"][0]["retryDelay"] == "3s"
    with pytest.raises(errors.ServerError):
        ask()
    ask()
    with pytest.raises(errors.ClientError, match="404 NOT_FOUND"):
        ask(model="gemini-none")
    with pytest.raises(errors.ClientError, match="token count"):
        ask(contents="word " * 1_001)
    with (
        genai.Client(api_key="AIza-wrong", http_options={"base_url": server.url}) as stranger,
        pytest.raises(errors.ClientError, match="API key not valid"),
    ):
        stranger.models.generate_content(model="gemini-2.5-flash", contents="x")


def test_vertex_is_asked_with_the_token_of_a_service_account(server: Server, vertex: Any) -> None:
    assert vertex.models.generate_content(model="gemini-2.5-flash", contents="hello").text == "HELLO"
    assert [asked.path for asked in server.asked] == [
        "/token",
        "/v1/projects/project-1/locations/us-central1/publishers/google/models/gemini-2.5-flash:generateContent",
    ]


def test_vertex_embeds_by_predict_and_by_calls_of_its_own(server: Server, vertex: Any) -> None:
    config = {"output_dimensionality": 3, "auto_truncate": False}
    old = vertex.models.embed_content(model="text-embedding-005", contents=["a", "b"], config=config)
    one = vertex.models.embed_content(model="gemini-embedding-2", contents="a", config=config)
    both = [genai.types.Content(parts=[genai.types.Part(text=text)]) for text in "ab"]
    two = vertex.models.embed_content(model="gemini-embedding-2", contents=both, config=config)
    assert old.embeddings[0].values == one.embeddings[0].values == two.embeddings[0].values
    assert old.embeddings[0].statistics.token_count == 1
    calls = [asked.path.rpartition(":")[2] for asked in server.asked[1:]]
    assert calls == ["predict", "embedContent", "batchEmbedContents"]
