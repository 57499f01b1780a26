"""A server that answers as Anthropic does: messages, forced tools, its errors, its headers, its pickiness.

Bodies follow Anthropic's API reference; tests/unit/models/remote/test_anthropic_service.py has its own client read them.
"""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.services.answers import value_of
from tests.services.http import Asked, Reply

KEY = "sk-ant-test-7d1e0b9c42"
FIELDS = {"model", "max_tokens", "messages", "system", "temperature", "top_p", "top_k", "stop_sequences", "stream"}
FIELDS |= {"tools", "tool_choice", "output_config", "thinking", "metadata", "service_tier"}
TOOL_FIELDS = {"name", "description", "input_schema", "strict", "cache_control", "type"}
VERSIONS = ("2023-01-01", "2023-06-01", "2026-10-21")
SAMPLING = {"temperature", "top_p", "top_k"}
MOST_BYTES = 100_000
CONTEXT_WORDS = 1_000


@dataclass
class Anthropic:
    """The service. `scripted` are replies for the next requests, None for one that is answered; `latency` is in seconds.

    `thinks` puts a thought before each answer; `cached` is how many of a question's tokens it finds in its own cache.
    """

    latency: float = 0.0
    thinks: bool = False
    cached: int = 0
    scripted: list[Reply | None] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def __call__(self, asked: Asked) -> Reply:
        if self.scripted and (scripted := self.scripted.pop(0)) is not None:
            return scripted
        given = asked.headers.get("x-api-key") or asked.headers.get("authorization", "").removeprefix("Bearer ")
        if given != KEY:
            return error(401, "authentication_error", "invalid x-api-key")
        if asked.headers.get("anthropic-version") not in VERSIONS:
            return error(400, "invalid_request_error", "anthropic-version: header is required")
        if asked.path != "/v1/messages":
            return error(404, "not_found_error", "Not Found")
        if len(asked.body) > MOST_BYTES:
            return error(413, "request_too_large", "Request exceeds the maximum size")
        body = json.loads(asked.body)
        if asked.headers["anthropic-version"] == VERSIONS[-1] and (removed := sorted(SAMPLING.intersection(body))):
            return error(400, "invalid_request_error", f"{removed[0]}: Extra inputs are not permitted")
        return self._message(body)

    def _message(self, body: dict[str, Any]) -> Reply:
        if wrong := _checked(body):
            return error(400, "invalid_request_error", wrong)
        if body["model"] == "claude-none":
            return error(404, "not_found_error", "model: claude-none")
        text = _text_of(body["messages"][-1]["content"])
        if "REFUSE ME" in text:
            return error(400, "invalid_request_error", "Output blocked by content filtering policy")
        if len(text.split()) > CONTEXT_WORDS:
            said = f"prompt is too long: {len(text.split())} tokens > {CONTEXT_WORDS} maximum"
            return error(400, "invalid_request_error", said)
        self.answered[text] += 1
        return self._done(body, text)

    def _done(self, body: Mapping[str, Any], text: str) -> Reply:
        thought = [{"type": "thinking", "thinking": "", "signature": "c2lnbmVk"}] if self.thinks else []
        block, reason = _block(body, text, next(self._numbers))
        words = len(text.split()) + 5
        usage = {
            "input_tokens": words - self.cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": self.cached,
            "output_tokens": len(json.dumps(block)) // 4,
            "service_tier": "standard",
        }
        answer = message([*thought, block], reason, model=body["model"], usage=usage)
        headers = {"request-id": f"req_{next(self._numbers)}", "anthropic-ratelimit-requests-remaining": "49"}
        return Reply(200, json.dumps(answer).encode(), headers, seconds=self.latency)


def message(content: list[dict[str, Any]], stop_reason: str, **other: Any) -> dict[str, Any]:
    """An answer as Anthropic writes it."""
    return {
        "id": "msg_013Zva2CMHLNnXjNJJKqJ2EF",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5",
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {"input_tokens": 7, "output_tokens": 3},
        **other,
    }


def error(status: int, kind: str, said: str, *, code: str | None = None, **headers: str) -> Reply:
    """An error as Anthropic writes it."""
    details = None if code is None else {"error_code": code}
    body = {"type": "error", "error": {"type": kind, "message": said, "details": details}, "request_id": "req_011CSHoEeqs5"}
    return Reply(status, json.dumps(body).encode(), {name.replace("_", "-"): value for name, value in headers.items()})


def limited(**headers: str) -> Reply:
    said = "This request would exceed your organization's rate limit of 50 requests per minute."
    return error(429, "rate_limit_error", said, **headers)


def _checked(body: Mapping[str, Any]) -> str | None:
    """What the service refuses of a request, in its words."""
    if unknown := sorted(set(body) - FIELDS):
        return f"{unknown[0]}: Extra inputs are not permitted"
    for name in ("max_tokens", "messages", "model"):
        if not body.get(name):
            return f"{name}: Field required"
    if not isinstance(body["max_tokens"], int) or body["max_tokens"] > 64_000:
        return f"max_tokens: {body['max_tokens']} > 64000, which is the maximum allowed number of output tokens"
    if "temperature" in body and body["model"].startswith("claude-opus-5"):
        return "`temperature` is deprecated for this model."
    for place, one in enumerate(body["messages"]):
        if one.get("role") not in ("user", "assistant"):
            return f'messages: Unexpected role "{one.get("role")}".'
        if not _text_of(one["content"]):
            return f"messages.{place}: user messages must have non-empty content"
    return _checked_tools(body)


def _checked_tools(body: Mapping[str, Any]) -> str | None:
    tools, choice = body.get("tools", []), body.get("tool_choice", {})
    for place, tool in enumerate(tools):
        if unknown := sorted(set(tool) - TOOL_FIELDS):
            return f"tools.{place}.custom.{unknown[0]}: Extra inputs are not permitted"
        if tool["input_schema"].get("type") != "object":
            return f"tools.{place}.custom.input_schema.type: Field required"
        if tool.get("strict") and not _is_closed(tool["input_schema"]):
            return f"tools.{place}.custom: For 'object' type, 'additionalProperties' must be explicitly set to false"
    if choice.get("type") == "tool" and choice.get("name") not in {tool["name"] for tool in tools}:
        return f"Tool '{choice.get('name')}' not found in provided tools"
    thinks = body.get("thinking", {}).get("type") == "adaptive" or body["model"].startswith("claude-fable")
    if thinks and choice.get("type") in ("tool", "any"):
        return "Thinking may not be enabled when tool_choice forces tool use."
    output = body.get("output_config", {})
    if unknown := sorted(set(output) - {"format", "effort"}):
        return f"output_config.{unknown[0]}: Extra inputs are not permitted"
    if "format" in output and not _is_closed(output["format"]["schema"]):
        return "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false"
    return None


def _block(body: Mapping[str, Any], text: str, number: int) -> tuple[dict[str, Any], str]:
    draw = random.Random(text)
    if body.get("tool_choice", {}).get("type") == "tool":
        given = value_of(body["tools"][0]["input_schema"], draw)
        return {"type": "tool_use", "id": f"toolu_{number}", "name": body["tool_choice"]["name"], "input": given}, "tool_use"
    if schema := body.get("output_config", {}).get("format", {}).get("schema"):
        return {"type": "text", "text": json.dumps(value_of(schema, draw))}, "end_turn"
    return {"type": "text", "text": text.upper()}, "end_turn"


def _text_of(content: str | list[dict[str, Any]]) -> str:
    return content if isinstance(content, str) else "".join(block["text"] for block in content)


def _is_closed(schema: Mapping[str, Any]) -> bool:
    if "properties" in schema:
        return schema.get("additionalProperties") is False and all(map(_is_closed, schema["properties"].values()))
    return _is_closed(schema["items"]) if "items" in schema else True
