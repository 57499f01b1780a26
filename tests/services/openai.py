"""A server that answers as OpenAI does: chat completions, responses and embeddings, its errors, its headers, its pickiness.

Bodies follow OpenAI's API reference; tests/unit/models/remote/test_openai_service.py has its own client read them.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.services.answers import value_of, vector_of
from tests.services.http import Asked, Reply

KEY = "sk-test-4f1c9a7e2b8d"
CHAT_FIELDS = {"model", "messages", "temperature", "top_p", "max_tokens", "max_completion_tokens", "seed", "stop"}
CHAT_FIELDS |= {"response_format", "presence_penalty", "frequency_penalty", "n", "user", "stream", "reasoning_effort"}
RESPONSES_FIELDS = {"model", "input", "instructions", "temperature", "top_p", "max_output_tokens", "text", "store", "reasoning"}
EMBEDDING_FIELDS = {"model", "input", "encoding_format", "dimensions", "user"}
MOST_INPUTS = 2048


@dataclass(frozen=True, slots=True)
class Faults:
    """Shares of requests that go wrong, drawn anew for each."""

    error: float = 0.0
    cut: float = 0.0
    slow: float = 0.0
    broken: float = 0.0
    slow_seconds: float = 5.0


@dataclass
class OpenAI:
    """The service. `answers` are drawn at random where `random_answers` is set, else made of the question.

    `scripted` are replies for the next requests, None for one that is answered; `refused_text` makes a text a bad request.
    """

    latency: float = 0.0
    a_second: float | None = None
    burst: float = 20.0
    faults: Faults = field(default_factory=Faults)
    random_answers: bool = False
    schemas: bool = True
    most_inputs: int = MOST_INPUTS
    width: int = 4
    refused_text: str = "REFUSE ME"
    scripted: list[Reply | None] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int | None] = field(default_factory=Counter)
    _random: random.Random = field(default_factory=lambda: random.Random(7))
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _room: float = 0.0
    _seen: float | None = None

    async def __call__(self, asked: Asked) -> Reply:
        reply = self._reply(asked)
        self.statuses[reply.status] += 1
        return reply

    def _reply(self, asked: Asked) -> Reply:
        if self.scripted and (scripted := self.scripted.pop(0)) is not None:
            return scripted
        if asked.headers.get("authorization") != f"Bearer {KEY}":
            given = asked.headers.get("authorization", "").removeprefix("Bearer ")
            return error(401, f"Incorrect API key provided: {given}.", "invalid_request_error", code="invalid_api_key")
        if not self._admitted():
            return limited()
        if wrong := self._wrong():
            return wrong
        body = json.loads(asked.body)
        match asked.path:
            case "/v1/chat/completions":
                return self._chat(body)
            case "/v1/responses":
                return self._responses(body)
            case "/v1/embeddings":
                return self._embeddings(body)
            case path:
                return error(404, f"Invalid URL (POST {path})", "invalid_request_error")

    def _admitted(self) -> bool:
        """A bucket that fills at `a_second`."""
        if self.a_second is None:
            return True
        now = asyncio.get_running_loop().time()
        since = 0.0 if self._seen is None else now - self._seen
        self._room = self.burst if self._seen is None else min(self.burst, self._room + since * self.a_second)
        self._seen = now
        if self._room < 1.0:
            return False
        self._room -= 1.0
        return True

    def _wrong(self) -> Reply | None:
        drawn, faults = self._random.random(), self.faults
        replies = (
            (faults.error, error(500, "The server had an error while processing your request.", "server_error")),
            (faults.cut, Reply(None)),
            (faults.slow, Reply(200, b"{}", seconds=faults.slow_seconds)),
            (faults.broken, Reply(200, b'{"id": "chatcmpl-1", "choices": [{"mess')),
        )
        for share, reply in replies:
            if drawn < share:
                return reply
            drawn -= share
        return None

    def _chat(self, body: dict[str, Any]) -> Reply:
        if refusal := _checked(body, CHAT_FIELDS, "messages") or self._unschooled(body):
            return refusal
        text = body["messages"][-1]["content"]
        if self.refused_text in text:
            return error(400, "Invalid prompt: this text is not answered.", "invalid_request_error", code="invalid_prompt")
        self.answered[text] += 1
        content = self._content(text, body.get("response_format", {"type": "text"}))
        tokens = {"prompt_tokens": len(text.split()) + 5, "completion_tokens": max(1, len(content) // 4)}
        return self._done(
            {
                "id": f"chatcmpl-{next(self._numbers)}",
                "object": "chat.completion",
                "created": 1_760_000_000,
                "model": f"{body['model']}-2026-04-14",
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": content, "refusal": None, "annotations": []},
                        "logprobs": None,
                        "finish_reason": "stop",
                    }
                ],
                "usage": {**tokens, "total_tokens": sum(tokens.values())},
                "service_tier": "default",
                "system_fingerprint": None,
            }
        )

    def _unschooled(self, body: Mapping[str, Any]) -> Reply | None:
        """What OpenAI refuses of a response format."""
        match body.get("response_format"):
            case {"type": "json_schema"} if not self.schemas:
                said = "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model."
                return error(400, said, "invalid_request_error", param="response_format")
            case {"type": "json_schema", "json_schema": {"name": str(), "strict": True, "schema": {**schema}}}:
                if not _is_strict(schema):
                    said = "Invalid schema for response_format 'answer': 'additionalProperties' is required to be false."
                    return error(400, said, "invalid_request_error", param="response_format")
            case {"type": "json_object"} if not any("json" in one["content"].lower() for one in body["messages"]):
                said = "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
                return error(400, said, "invalid_request_error", param="messages")
            case _:
                pass
        return None

    def _responses(self, body: dict[str, Any]) -> Reply:
        if refusal := _checked(body, RESPONSES_FIELDS, "input", "Unknown parameter: '{}'.") or self._unschooled_text(body):
            return refusal
        given = body["input"]
        text = given if isinstance(given, str) else given[-1]["content"]
        if self.refused_text in text:
            return error(400, "Invalid prompt: this text is not answered.", "invalid_request_error", code="invalid_prompt")
        self.answered[text] += 1
        text_format: dict[str, Any] = body.get("text", {}).get("format", {"type": "text"})
        content = self._content(text, {**text_format, "json_schema": text_format})
        tokens = {"input_tokens": len(text.split()) + 5, "output_tokens": max(1, len(content) // 4)}
        usage = {**tokens, "total_tokens": sum(tokens.values())}
        return self._done(response_of(body, [message_of("output_text", content)], usage))

    def _unschooled_text(self, body: Mapping[str, Any]) -> Reply | None:
        """What OpenAI refuses of a text format. The word "json" is looked for in the input, not in the instructions."""
        match body.get("text"):
            case {"format": {"type": "json_schema", "name": str(), "strict": True, "schema": {**schema}}}:
                if not _is_strict(schema):
                    said = "Invalid schema for response_format 'answer': 'additionalProperties' is required to be false."
                    return error(400, said, "invalid_request_error", param="text.format.schema", code="invalid_json_schema")
            case {"format": {"type": "json_object"}} if "json" not in json.dumps(body["input"]).lower():
                said = "Response input messages must contain the word 'json' in some form to use 'text.format' of type "
                return error(400, f"{said}'json_object'.", "invalid_request_error", param="input")
            case None | {"format": {"type": "json_object"}}:
                pass
            case _:
                said = "Missing required parameter: 'text.format.name'."
                return error(400, said, "invalid_request_error", param="text.format.name", code="missing_required_parameter")
        return None

    def _content(self, text: str, response_format: Mapping[str, Any]) -> str:
        salt = f"{self._random.random()}" if self.random_answers else ""
        draw = random.Random(f"{text}{salt}")
        match response_format:
            case {"type": "json_schema", "json_schema": {"schema": schema}}:
                return json.dumps(value_of(schema, draw))
            case {"type": "json_object"}:
                return json.dumps({"label": draw.choice(["good", "bad"]), "score": round(draw.random(), 6)})
            case _:
                return f"{text}!{draw.randrange(10**9)}" if self.random_answers else text.upper()

    def _embeddings(self, body: dict[str, Any]) -> Reply:
        if refusal := _checked(body, EMBEDDING_FIELDS, "input"):
            return refusal
        texts = body["input"]
        if len(texts) > self.most_inputs:
            said = f"Invalid 'input': maximum input length is {self.most_inputs} items."
            return error(400, said, "invalid_request_error", param="input")
        if any(not text or self.refused_text in text for text in texts):
            return error(400, "'$.input' is invalid.", "invalid_request_error")
        self.answered.update(texts)
        width = body.get("dimensions", self.width)
        data = [
            {"object": "embedding", "index": place, "embedding": vector_of(text, width)} for place, text in enumerate(texts)
        ]
        tokens = sum(len(text.split()) for text in texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return self._done({"object": "list", "data": data[::-1], "model": body["model"], "usage": usage})

    def _done(self, body: object) -> Reply:
        headers = {"x-request-id": f"req_{next(self._numbers)}", "x-ratelimit-remaining-requests": "9999"}
        return Reply(200, json.dumps(body).encode(), headers, seconds=self.latency)


def error(status: int, message: str, kind: str, *, code: str | None = None, param: str | None = None, **headers: str) -> Reply:
    """An error as OpenAI writes it."""
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return Reply(status, json.dumps(body).encode(), {name.replace("_", "-"): value for name, value in headers.items()})


def message_of(kind: str, text: str) -> dict[str, Any]:
    """An item of a response's output: a message of one part, `output_text` or `refusal`."""
    part: dict[str, Any] = {"type": kind, "refusal": text}
    if kind != "refusal":
        part = {"type": kind, "text": text, "annotations": [], "logprobs": []}
    return {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [part]}


def response_of(
    body: Mapping[str, Any], output: list[dict[str, Any]], usage: Mapping[str, int], **other: object
) -> dict[str, Any]:
    """A response as OpenAI writes one, after an item of reasoning."""
    details = {"input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0}}
    details |= {"output_tokens_details": {"reasoning_tokens": 0}}
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_760_000_000,
        "status": "completed",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": f"{body.get('model')}-2026-04-14",
        "output": [{"type": "reasoning", "id": "rs_1", "summary": []}, *output],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": body.get("store", True),
        "temperature": body.get("temperature", 1.0),
        "text": {"format": body.get("text", {}).get("format", {"type": "text"}), "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_p": body.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": {**usage, **details},
        "metadata": {},
        **other,
    }


def limited(retry_after: str | None = None) -> Reply:
    said = "Rate limit reached for gpt-4.1-mini in organization org-x on requests per min (RPM): Limit 500, Used 500."
    headers = {} if retry_after is None else {"retry_after": retry_after}
    return error(429, said, "requests", code="rate_limit_exceeded", **headers)


def _checked(
    body: Mapping[str, Any], fields: set[str], needed: str, unknown_said: str = "Unrecognized request argument supplied: {}"
) -> Reply | None:
    for name in ("model", needed):
        if not body.get(name):
            return error(400, f"you must provide a {name} parameter", "invalid_request_error", param=name)
    if unknown := sorted(set(body) - fields):
        return error(400, unknown_said.format(unknown[0]), "invalid_request_error")
    if body["model"] == "gpt-none":
        said = "The model `gpt-none` does not exist or you do not have access to it."
        return error(404, said, "invalid_request_error", code="model_not_found")
    return None


def _is_strict(schema: Mapping[Any, Any]) -> bool:
    if schema.get("type") == "object" or "properties" in schema:
        properties = schema["properties"]
        named = sorted(schema.get("required", [])) == sorted(properties)
        return named and schema.get("additionalProperties") is False and all(map(_is_strict, properties.values()))
    return _is_strict(schema["items"]) if "items" in schema else True
