"""That the server of the tests is faithful: AWS's own client, boto3, signs for it, reads what it says, and makes of its
errors what it makes of the real ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.services.aws import ACCESS_KEY, REGION, SECRET_KEY, SESSION_TOKEN
from tests.services.bedrock import COHERE, PROFILE, TEXT_MODEL, TITAN, Bedrock, throttled
from tests.services.http import Server

boto3: Any = pytest.importorskip("boto3")


@pytest.fixture
def service() -> Bedrock:
    return Bedrock()


def client_of(server: Server, secret_key: str = SECRET_KEY) -> Any:
    from botocore.config import Config

    session = boto3.Session(ACCESS_KEY, secret_key, SESSION_TOKEN, REGION)
    config = Config(retries={"total_max_attempts": 1})
    return session.client("bedrock-runtime", endpoint_url=server.url, config=config)


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    client = client_of(server)
    yield client
    client.close()


def message(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"text": text}]}]


@pytest.mark.parametrize("model", [TEXT_MODEL, PROFILE])
def test_a_message_is_read(client: Any, model: str) -> None:
    answer = client.converse(modelId=model, messages=message("hello there"), inferenceConfig={"maxTokens": 9})
    assert answer["output"]["message"] == {"role": "assistant", "content": [{"text": "HELLO THERE"}]}
    assert answer["stopReason"] == "end_turn"
    assert answer["usage"] == {"inputTokens": 7, "outputTokens": 7, "totalTokens": 14}


def test_the_call_of_a_tool_is_read(client: Any) -> None:
    schema = {"type": "object", "properties": {"minutes": {"type": "integer"}}, "required": ["minutes"]}
    tools = {"tools": [{"toolSpec": {"name": "answer", "inputSchema": {"json": schema}}}], "toolChoice": {"any": {}}}
    answer = client.converse(modelId=TEXT_MODEL, messages=message("x"), toolConfig=tools)
    [called] = [block["toolUse"] for block in answer["output"]["message"]["content"] if "toolUse" in block]
    assert set(called["input"]) == {"minutes"}


def test_embeddings_are_read(client: Any) -> None:
    titan = client.invoke_model(modelId=TITAN, body=json.dumps({"inputText": "a b", "dimensions": 256}))
    read = json.load(titan["body"])
    assert (len(read["embedding"]), read["inputTextTokenCount"]) == (256, 2)
    cohere = client.invoke_model(modelId=COHERE, body=json.dumps({"texts": ["a", "b"], "input_type": "clustering"}))
    assert len(json.load(cohere["body"])["embeddings"]["float"]) == 2


def test_errors_are_of_the_kinds_that_the_client_knows(server: Server, client: Any, service: Bedrock) -> None:
    service.scripted = [throttled()]
    with pytest.raises(client.exceptions.ThrottlingException):
        client.converse(modelId=TEXT_MODEL, messages=message("x"))
    with pytest.raises(client.exceptions.ValidationException, match="model identifier is invalid"):
        client.converse(modelId="acme.none-v1:0", messages=message("x"))
    with pytest.raises(client.exceptions.ValidationException, match="extraneous key"):
        client.invoke_model(modelId=TITAN, body=json.dumps({"inputText": "a", "foo": 1}))
    stranger = client_of(server, "another secret")
    with pytest.raises(stranger.exceptions.ClientError, match="InvalidSignatureException"):
        stranger.converse(modelId=TEXT_MODEL, messages=message("x"))
    stranger.close()
