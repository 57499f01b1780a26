"""A server that answers as Amazon Bedrock Runtime does: Converse, InvokeModel for embeddings, its errors, its signatures.

A request of Converse is held against the service's description that botocore ships; bodies of embeddings follow the pages
of their makers in Bedrock's guide. tests/unit/models/remote/test_bedrock_service.py has boto3 read the answers.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from tests.services.answers import value_of, vector_of
from tests.services.aws import error, fault, refusal
from tests.services.http import Asked, Reply

API_KEY = "bedrock-api-key-7d1f2c9b"
TEXT_MODEL = "anthropic.claude-3-5-sonnet-20240620-v1:0"
TITAN = "amazon.titan-embed-text-v2:0"
COHERE = "cohere.embed-multilingual-v3"
COHERE_4 = "eu.cohere.embed-v4:0"
PROFILE = "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.anthropic.claude-sonnet-4-v1:0"
MOST_CHARACTERS = 2000
_FIELDS = {
    TITAN: {"inputText", "dimensions", "normalize", "embeddingTypes"},
    COHERE: {"texts", "input_type", "truncate", "embedding_types"},
    COHERE_4: {"texts", "input_type", "truncate", "embedding_types", "output_dimension"},
}


@dataclass
class Bedrock:
    """The service. `scripted` are replies for the next requests, None for one that is answered."""

    latency: float = 0.0
    most_texts: int = 96
    refused_text: str = "REFUSE ME"
    scripted: list[Reply | None] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)

    async def __call__(self, asked: Asked) -> Reply:
        if self.scripted and (scripted := self.scripted.pop(0)) is not None:
            return scripted
        if asked.headers.get("authorization") != f"Bearer {API_KEY}" and (refused := refusal(asked, "bedrock")):
            return refused
        match asked.path.split("/"):
            case ["", "model", model, "converse"]:
                return self._converse(unquote(model), json.loads(asked.body))
            case ["", "model", model, "invoke"]:
                return self._invoke(unquote(model), json.loads(asked.body))
            case _:
                return error(404, "UnknownOperationException", "")

    def _converse(self, model: str, body: dict[str, Any]) -> Reply:
        if model not in (TEXT_MODEL, PROFILE):
            return _invalid("The provided model identifier is invalid.")
        if wrong := fault("bedrock-runtime", "Converse", {"modelId": model, **body}):
            return _invalid(f"Malformed input request: {wrong}")
        text = body["messages"][-1]["content"][0]["text"]
        if not text.strip():
            return _invalid("The text field in the ContentBlock object at messages.0.content.0 is blank.")
        if len(text) > MOST_CHARACTERS:
            return _invalid("Input is too long for requested model.")
        self.answered[text] += 1
        if self.refused_text in text:
            return self._said([{"text": "Sorry, the guardrail stopped this."}], "guardrail_intervened", text)
        tool = body.get("toolConfig")
        wanted = body.get("outputConfig")
        if tool is not None:
            schema = tool["tools"][0]["toolSpec"]["inputSchema"]["json"]
            called = {"toolUseId": "tooluse_kZJMlvQmRJ6eAyJE5GIl7Q", "name": "answer", "input": _made(schema, text)}
            return self._said([{"text": "I will call the tool."}, {"toolUse": called}], "tool_use", text)
        if wanted is not None:
            schema = json.loads(wanted["textFormat"]["structure"]["jsonSchema"]["schema"])
            return self._said([{"text": json.dumps(_made(schema, text))}], "end_turn", text)
        return self._said([{"text": text.upper()}], "end_turn", text)

    def _said(self, content: list[dict[str, Any]], stopped: str, text: str) -> Reply:
        used = {"inputTokens": len(text.split()) + 5, "outputTokens": 7}
        body = {
            "output": {"message": {"role": "assistant", "content": content}},
            "stopReason": stopped,
            "usage": {**used, "totalTokens": sum(used.values())},
            "metrics": {"latencyMs": 412},
        }
        return Reply(200, json.dumps(body).encode(), {"x-amzn-requestid": "4c3f1a2e"}, seconds=self.latency)

    def _invoke(self, model: str, body: dict[str, Any]) -> Reply:
        if model not in _FIELDS:
            return _invalid("The provided model identifier is invalid.")
        if unknown := sorted(set(body) - _FIELDS[model]):
            return _malformed(f"extraneous key [{unknown[0]}] is not permitted")
        texts = body["texts"] if "texts" in body else [body["inputText"]]
        if len(texts) > self.most_texts:
            return _malformed(f"#/texts: expected maximum item count: {self.most_texts}, found: {len(texts)}")
        for place, text in enumerate(texts):
            if len(text) > MOST_CHARACTERS:
                return _malformed(f"#/texts/{place}: expected maxLength: {MOST_CHARACTERS}, actual: {len(text)}")
            if self.refused_text in text:
                return _malformed(f"#/texts/{place}: this text is not answered")
        self.answered.update(texts)
        return self._titan(body) if model == TITAN else self._cohere(body, texts)

    def _titan(self, body: Mapping[str, Any]) -> Reply:
        vector = vector_of(body["inputText"], body.get("dimensions", 1024))
        said = {
            "embedding": vector,
            "embeddingsByType": {"float": vector},
            "inputTextTokenCount": len(body["inputText"].split()),
        }
        return Reply(200, json.dumps(said).encode(), seconds=self.latency)

    def _cohere(self, body: Mapping[str, Any], texts: list[str]) -> Reply:
        if body.get("input_type") not in ("search_document", "search_query", "classification", "clustering"):
            return _malformed("#: required key [input_type] not found")
        vectors = [vector_of(text, body.get("output_dimension", 8)) for text in texts]
        said = {"id": "b1c2", "response_type": "embeddings_by_type", "embeddings": {"float": vectors}, "texts": texts}
        return Reply(200, json.dumps(said).encode(), seconds=self.latency)


def throttled(message: str = "Too many requests, please wait before trying again.", **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return error(429, "ThrottlingException", message, named)


def _invalid(message: str) -> Reply:
    return error(400, "ValidationException", message)


def _malformed(said: str) -> Reply:
    return _invalid(f"Malformed input request: {said}, please reformat your input and try again.")


def _made(schema: Mapping[str, Any], text: str) -> Any:
    return value_of(schema, random.Random(text))
