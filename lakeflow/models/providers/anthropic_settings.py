"""The options of provider anthropic, read into values. Nothing is opened here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pyarrow as pa

from lakeflow.errors import DeclarationError
from lakeflow.models import options
from lakeflow.models.context import CONTEXT_OPTIONS, read_context
from lakeflow.models.prompt import Prompt
from lakeflow.models.providers.declared import address, header_text
from lakeflow.models.providers.service_options import alternative, key_missing, read_format, read_labels, read_question
from lakeflow.models.remote.settings import REMOTE_OPTIONS
from lakeflow.models.shapes import json_schema
from lakeflow.models.spec import ModelSpec, Task

ENDPOINT = "https://api.anthropic.com"
VERSION = "2026-10-21"
SAMPLING_VERSION = "2023-06-01"
"""The last version of the service's API that takes the options of SAMPLING, from models that take them.
Source: Anthropic's documentation, "Migrating to API version 2026-10-21"."""
SAMPLING = ("temperature", "top_p", "top_k")
TASKS = (Task.TEXT_GENERATION, Task.CLASSIFICATION, Task.REGRESSION)
OPTIONS = (
    "endpoint",
    "api_key",
    "anthropic_version",
    "model",
    "prompt",
    "system_prompt",
    "max_tokens",
    *SAMPLING,
    "stop",
    "stop_sequences",
    "response_format",
    "strict",
    "labels",
    "thinking",
    "effort",
    "prompt_caching",
    *CONTEXT_OPTIONS,
)
MAX_TOKENS = 4096
"""The service wants to be told how long an answer may be."""
TOOL = "answer"
TOOL_TOKENS = 346
"""What the service adds to a request with a tool that is forced, at the most.
Source: Anthropic's documentation, "Tool use", "Pricing"."""
CHAT_TOKENS = 16


class ResponseFormat(StrEnum):
    """How an answer of several columns is asked for; `text` is one STRING column, as it comes."""

    TEXT = "text"
    TOOL = "tool"
    JSON_SCHEMA = "json_schema"


class Thinking(StrEnum):
    """Whether the model thinks before it answers."""

    DISABLED = "disabled"
    ADAPTIVE = "adaptive"


class Effort(StrEnum):
    """How much work an answer is worth."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    XHIGH = "xhigh"
    MAX = "max"


@dataclass(frozen=True, slots=True)
class AnthropicSettings:
    """`body` is what every request has but its message; `columns` are the OUTPUT columns that the answer fills.

    `longest_answer` is in tokens, 0 where the declaration does not say.
    """

    url: str
    version: str
    model: str
    api_key: str = field(repr=False)
    prompt: Prompt
    body: Mapping[str, Any]
    longest_answer: int
    response_format: ResponseFormat
    columns: tuple[pa.Field, ...]
    labels: tuple[str, ...]


def read_anthropic(spec: ModelSpec, columns: Sequence[pa.Field]) -> AnthropicSettings:
    """The settings in a spec's options; `columns` are the OUTPUT columns but those of errors. Raises UnknownName and
    DeclarationError."""
    options.require_task(spec, TASKS)
    options.refuse_unknown(spec, (*OPTIONS, *REMOTE_OPTIONS))
    labels = read_labels(spec)
    response_format = read_format(spec, columns, ResponseFormat.TEXT, ResponseFormat.TOOL)
    body = _body(spec, response_format, columns, labels)
    key = header_text(spec, "api_key")
    if not key and "endpoint" not in spec.options:
        raise key_missing(spec, "api_key", "ANTHROPIC_API_KEY", ENDPOINT)
    return AnthropicSettings(
        url=_url(address(spec, "endpoint", ENDPOINT)),
        version=_version(spec),
        model=body["model"],
        api_key=key,
        prompt=_prompt(spec, body),
        body=body,
        longest_answer=options.whole_number(spec, "max_tokens", 0),
        response_format=response_format,
        columns=tuple(columns),
        labels=labels,
    )


def _version(spec: ModelSpec) -> str:
    sampled = [name for name in SAMPLING if name in spec.options]
    version = header_text(spec, "anthropic_version") or (SAMPLING_VERSION if sampled else VERSION)
    if sampled and version >= VERSION:
        raise DeclarationError(
            f"{spec.label}: option '{sampled[0]}' is not taken by the service since version {VERSION} of its API; "
            f"'anthropic_version' is {version!r}",
            next_step=f"leave {' and '.join(sampled)} out, or say 'anthropic_version' = '{SAMPLING_VERSION}'",
        )
    return version


def _url(base: str) -> str:
    """The option 'endpoint' is the service's base, with or without its version, or the whole address."""
    if base.endswith("/messages"):
        return base
    return f"{base}/messages" if base.endswith("/v1") else f"{base}/v1/messages"


def _prompt(spec: ModelSpec, body: Mapping[str, Any]) -> Prompt:
    """The fixed text is what the body says beside the message; the service adds words of its own around a tool."""
    prompt = read_question(spec)
    context = read_context(spec)
    if context is None:
        return prompt
    fixed = [str(body[name]) for name in ("system", "tools", "output_config") if name in body]
    return prompt.within(context.beside(*fixed, extra=CHAT_TOKENS + (TOOL_TOKENS if "tools" in body else 0)))


def _body(
    spec: ModelSpec, response_format: ResponseFormat, columns: Sequence[pa.Field], labels: Sequence[str]
) -> dict[str, Any]:
    body = {"model": options.required(spec, "model"), **_parameters(spec)}
    if system := spec.options.get("system_prompt", ""):
        body["system"] = system
    match response_format:
        case ResponseFormat.TEXT:
            pass
        case ResponseFormat.TOOL:
            body |= _forced_tool(spec, json_schema(columns, spec.label, labels))
        case ResponseFormat.JSON_SCHEMA:
            body["output_config"] = {"format": {"type": "json_schema", "schema": json_schema(columns, spec.label, labels)}}
    if effort := options.choice(spec, "effort", Effort):
        body["output_config"] = {**body.get("output_config", {}), "effort": str(effort)}
    if thinking := options.choice(spec, "thinking", Thinking):
        _require_thought(spec, thinking, response_format)
        body["thinking"] = {"type": str(thinking)}
    return _cached(spec, body) if options.truth(spec, "prompt_caching") else body


def _parameters(spec: ModelSpec) -> dict[str, Any]:
    found = {
        "max_tokens": options.whole_number(spec, "max_tokens", MAX_TOKENS),
        "temperature": options.fraction(spec, "temperature", least=0.0, most=1.0),
        "top_p": options.fraction(spec, "top_p", least=0.0, most=1.0),
        "top_k": options.whole_number(spec, "top_k", 0) or None,
        "stop_sequences": options.parts(spec, alternative(spec, "stop", "stop_sequences")) or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _forced_tool(spec: ModelSpec, schema: Mapping[str, Any]) -> dict[str, Any]:
    tool: dict[str, Any] = {"name": TOOL, "description": "Gives the answer.", "input_schema": schema}
    if options.truth(spec, "strict") is not False:
        tool["strict"] = True
    return {"tools": [tool], "tool_choice": {"type": "tool", "name": TOOL, "disable_parallel_tool_use": True}}


def _require_thought(spec: ModelSpec, thinking: Thinking, response_format: ResponseFormat) -> None:
    if thinking is Thinking.ADAPTIVE and response_format is ResponseFormat.TOOL:
        raise DeclarationError(
            f"{spec.label}: option 'thinking' = 'adaptive' does not go with 'response_format' = 'tool': the service forces no "
            "tool on a model that thinks",
            next_step="say 'response_format' = 'json_schema'",
        )


def _cached(spec: ModelSpec, body: dict[str, Any]) -> dict[str, Any]:
    """The service keeps what stands before the mark, tools first, so it goes behind the last of what all rows share."""
    mark = {"cache_control": {"type": "ephemeral"}}
    if "system" in body:
        return {**body, "system": [{"type": "text", "text": body["system"], **mark}]}
    if "tools" in body:
        return {**body, "tools": [{**body["tools"][0], **mark}]}
    raise DeclarationError(
        f"{spec.label}: option 'prompt_caching' has nothing to keep: rows share no text", next_step="add a 'system_prompt'"
    )
