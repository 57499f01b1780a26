"""The options of provider openai, read into values. Nothing is opened here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from lakeflow.errors import DeclarationError
from lakeflow.models import options
from lakeflow.models.context import CHAT_TOKENS, CONTEXT_OPTIONS, read_context
from lakeflow.models.prompt import Prompt, read_prompt, require_no_bytes
from lakeflow.models.remote.settings import REMOTE_OPTIONS
from lakeflow.models.shapes import json_schema
from lakeflow.models.spec import ModelSpec, Task

ENDPOINT = "https://api.openai.com/v1"
SERVICE_OPTIONS = ("endpoint", "api_key", "model", "prompt")
CHAT_OPTIONS = (
    "system_prompt",
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "max_tokens",
    "max_completion_tokens",
    "seed",
    "stop",
    "response_format",
    "labels",
)
EMBEDDING_OPTIONS = ("dimensions", "batch_size")
TASKS = (Task.TEXT_GENERATION, Task.CLASSIFICATION, Task.REGRESSION, Task.EMBEDDING)
TEXTS_A_REQUEST = 64
MOST_TEXTS = 2048
"""What OpenAI takes in one request of embeddings."""


class ResponseFormat(StrEnum):
    """How an answer of several columns is asked for; `text` is one STRING column, as it comes."""

    TEXT = "text"
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model is asked, and as whom."""

    url: str
    model: str
    api_key: str = field(repr=False)

    def headers(self) -> Mapping[str, str]:
        return {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.api_key,) if self.api_key else ()


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """`parameters` go into each request as they are; `columns` are the OUTPUT columns that the answer fills."""

    place: Place
    prompt: Prompt
    system_prompt: str
    parameters: Mapping[str, Any]
    response_format: ResponseFormat
    columns: tuple[pa.Field, ...]
    schema: Mapping[str, Any]
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EmbeddingSettings:
    """`dimensions` of None: as many as the model gives."""

    place: Place
    prompt: Prompt
    column: pa.Field
    dimensions: int | None
    batch_size: int


def read_openai(spec: ModelSpec, columns: Sequence[pa.Field]) -> ChatSettings | EmbeddingSettings:
    """The settings in a spec's options; `columns` are the OUTPUT columns but those of errors. Raises UnknownName and
    DeclarationError."""
    options.require_task(spec, TASKS)
    embeds = spec.task is Task.EMBEDDING
    own = EMBEDDING_OPTIONS if embeds else CHAT_OPTIONS
    options.refuse_unknown(spec, (*SERVICE_OPTIONS, *own, *CONTEXT_OPTIONS, *REMOTE_OPTIONS))
    prompt = read_prompt(spec)
    require_no_bytes(spec, prompt.columns)
    if not prompt.columns:
        raise DeclarationError(f"{spec.label}: option 'prompt' names no INPUT column, so every row would ask the same")
    return _embedding(spec, prompt, columns) if embeds else _chat(spec, prompt, columns)


def _embedding(spec: ModelSpec, prompt: Prompt, columns: Sequence[pa.Field]) -> EmbeddingSettings:
    if len(columns) != 1 or not _is_vector(columns[0].type):
        shown = ", ".join(f"{one.name} {one.type}" for one in columns)
        raise DeclarationError(f"{spec.label}: OUTPUT of task 'embedding' is one column ARRAY<FLOAT>, declared: {shown}")
    size = options.whole_number(spec, "batch_size", TEXTS_A_REQUEST)
    if size > MOST_TEXTS:
        raise DeclarationError(f"{spec.label}: option 'batch_size' is {size}; valid: 1 to {MOST_TEXTS}")
    dimensions = options.whole_number(spec, "dimensions", 0) or None
    prompt = prompt.within(read_context(spec))
    return EmbeddingSettings(_place(spec, "/embeddings"), prompt, columns[0], dimensions, size)


def _chat(spec: ModelSpec, prompt: Prompt, columns: Sequence[pa.Field]) -> ChatSettings:
    labels = tuple(options.parts(spec, "labels"))
    if labels and spec.task is not Task.CLASSIFICATION:
        raise DeclarationError(f"{spec.label}: option 'labels' goes with task 'classification', not {str(spec.task)!r}")
    is_text = len(columns) == 1 and pa.types.is_string(columns[0].type)
    plain = ResponseFormat.TEXT if is_text and spec.task is Task.TEXT_GENERATION else ResponseFormat.JSON_SCHEMA
    response_format = options.choice(spec, "response_format", ResponseFormat) or plain
    if response_format is ResponseFormat.TEXT and not is_text:
        raise DeclarationError(
            f"{spec.label}: option 'response_format' = 'text' fills one STRING column; OUTPUT has "
            f"{', '.join(f'{one.name} {one.type}' for one in columns)}",
            next_step="leave response_format out: the answer's columns become a JSON schema",
        )
    schema = {} if response_format is ResponseFormat.TEXT else json_schema(columns, spec.label, labels)
    system_prompt = spec.options.get("system_prompt", "")
    context = read_context(spec)
    if context is not None:
        context = context.beside(system_prompt, json.dumps(schema) if schema else "", extra=CHAT_TOKENS)
    return ChatSettings(
        _place(spec, "/chat/completions"),
        prompt.within(context),
        system_prompt,
        _parameters(spec),
        response_format,
        tuple(columns),
        schema,
        labels,
    )


def _parameters(spec: ModelSpec) -> Mapping[str, Any]:
    if "max_tokens" in spec.options and "max_completion_tokens" in spec.options:
        raise DeclarationError(f"{spec.label}: 'max_tokens' and 'max_completion_tokens' mean the same; give one of them")
    found = {
        "temperature": options.fraction(spec, "temperature", least=0.0, most=2.0),
        "top_p": options.fraction(spec, "top_p", least=0.0, most=1.0),
        "presence_penalty": options.fraction(spec, "presence_penalty", least=-2.0, most=2.0),
        "frequency_penalty": options.fraction(spec, "frequency_penalty", least=-2.0, most=2.0),
        "max_tokens": options.whole_number(spec, "max_tokens", 0) or None,
        "max_completion_tokens": options.whole_number(spec, "max_completion_tokens", 0) or None,
        "seed": options.whole_number(spec, "seed", 0, least=0) if "seed" in spec.options else None,
        "stop": options.parts(spec, "stop") or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _place(spec: ModelSpec, path: str) -> Place:
    """The option 'endpoint' is the service's base, or the whole address as Flink has it."""
    written = spec.options.get("endpoint", ENDPOINT).strip().rstrip("/")
    parts = urlsplit(written)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise DeclarationError(
            f"{spec.label}: option 'endpoint' is no address; valid: http(s)://host[:port][/path], without user and query"
        )
    key = spec.options.get("api_key", "").strip()
    if not key and "endpoint" not in spec.options:
        raise DeclarationError(
            f"{spec.label}: option 'api_key' is missing, which {ENDPOINT} needs",
            next_step="add 'api_key' = '{{ secret.OPENAI_API_KEY }}' to WITH (..), and export LAKEFLOW_SECRET_OPENAI_API_KEY",
        )
    if not key.isascii() or not key.isprintable():
        raise DeclarationError(
            f"{spec.label}: the secret that 'api_key' names is no key: it has characters that no header takes"
        )
    return Place(written if written.endswith(path) else written + path, options.required(spec, "model"), key)


def _is_vector(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(is_list and pa.types.is_floating(kind.value_type))
