"""The options of services that speak as OpenAI does, read into values. Nothing is opened here.

Where a service is asked and as whom is its own: `Place`. All else is the same for provider openai and azure_openai.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import SplitResult, urlsplit

import pyarrow as pa

from lakeflow.errors import DeclarationError
from lakeflow.models import options
from lakeflow.models.context import CONTEXT_OPTIONS, read_context
from lakeflow.models.prompt import Prompt
from lakeflow.models.providers.declared import require_vector
from lakeflow.models.providers.service_options import (
    key_missing,
    read_batch_size,
    read_format,
    read_labels,
    read_question,
    within_context,
)
from lakeflow.models.remote.settings import REMOTE_OPTIONS
from lakeflow.models.shapes import json_schema
from lakeflow.models.spec import ModelSpec, Task

ENDPOINT = "https://api.openai.com/v1"
PLACE_OPTIONS = ("endpoint", "api_key", "model")
LENGTHS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
"""How long an answer may be, by its names in both APIs."""
ANSWER_OPTIONS = ("api", "system_prompt", "temperature", "top_p", *LENGTHS, "reasoning_effort", "response_format", "labels")
CHAT_OPTIONS = ("presence_penalty", "frequency_penalty", "seed", "stop")
RESPONSES_OPTIONS = ("store",)
EMBEDDING_OPTIONS = ("dimensions", "batch_size")
TASKS = (Task.TEXT_GENERATION, Task.CLASSIFICATION, Task.REGRESSION, Task.EMBEDDING)
TEXTS_A_REQUEST = 64
MOST_TEXTS = 2048
"""What OpenAI takes in one request of embeddings."""


class Api(StrEnum):
    """Which of a service's APIs is asked for text."""

    CHAT = "chat"
    RESPONSES = "responses"


PATHS = CHAT_PATH, RESPONSES_PATH, EMBEDDINGS_PATH = "/chat/completions", "/responses", "/embeddings"
_PATHS = {Api.CHAT: CHAT_PATH, Api.RESPONSES: RESPONSES_PATH}


class ResponseFormat(StrEnum):
    """How an answer of several columns is asked for; `text` is one STRING column, as it comes."""

    TEXT = "text"
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model is asked, and as whom: the credential goes as a bearer's token, or in the `header` that is named.

    `model` is the name that prices go by; requests have it only where `names_model`.
    """

    url: str
    model: str
    credential: str = field(repr=False)
    header: str = "authorization"
    names_model: bool = True

    def headers(self) -> Mapping[str, str]:
        """The headers that say who asks."""
        if not self.credential:
            return {}
        return {self.header: f"Bearer {self.credential}" if self.header == "authorization" else self.credential}

    def named(self) -> dict[str, Any]:
        """What the body of a request says about the model."""
        return {"model": self.model} if self.names_model else {}

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.credential,) if self.credential else ()


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """`parameters` go into each request as they are, so they are those of `api`; `columns` are the OUTPUT columns that the
    answer fills."""

    place: Place
    api: Api
    prompt: Prompt
    system_prompt: str
    parameters: Mapping[str, Any]
    response_format: ResponseFormat
    columns: tuple[pa.Field, ...]
    schema: Mapping[str, Any]
    labels: tuple[str, ...]

    @property
    def in_words(self) -> str:
        """The schema as an instruction, for services without JSON schemas; it has the word "JSON" that they insist on."""
        if self.response_format is not ResponseFormat.JSON_OBJECT:
            return ""
        return f"Answer with one object of JSON that fits this JSON schema: {json.dumps(self.schema)}"


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
    refuse_others(spec, PLACE_OPTIONS)
    address = read_address(spec, ENDPOINT)
    if address.query:
        is_azures = "api-version=" in address.query
        raise bad_address(
            spec, "for an address of Azure with its api-version say 'provider' = 'azure_openai'" if is_azures else None
        )
    path = path_of(spec, address)
    written = address.geturl()
    place = Place(written if written.endswith(path) else written + path, options.required(spec, "model"), _key(spec))
    return read_settings(spec, columns, place, path)


def refuse_others(spec: ModelSpec, place_options: Sequence[str]) -> None:
    """Raises UnknownName for a task or an option that there is not, DeclarationError for one of the other API."""
    options.require_task(spec, TASKS)
    if spec.task is Task.EMBEDDING:
        options.refuse_unknown(spec, (*place_options, "prompt", *EMBEDDING_OPTIONS, *CONTEXT_OPTIONS, *REMOTE_OPTIONS))
        return
    own = (*ANSWER_OPTIONS, *CHAT_OPTIONS, *RESPONSES_OPTIONS)
    options.refuse_unknown(spec, (*place_options, "prompt", *own, *CONTEXT_OPTIONS, *REMOTE_OPTIONS))


def read_address(spec: ModelSpec, default: str | None = None) -> SplitResult:
    """The option 'endpoint': the service's base, or the whole address as Flink has it; without a slash at its end."""
    written = options.required(spec, "endpoint") if default is None else spec.options.get("endpoint", default).strip()
    try:
        parts = urlsplit(written)
        has_host = options.is_host(parts.hostname) and parts.port != 0
    except ValueError as error:  # a port or a bracket that is none
        raise bad_address(spec) from error
    if parts.scheme not in ("http", "https") or not has_host or parts.username or parts.fragment:
        raise bad_address(spec)
    return parts._replace(path=parts.path.rstrip("/"))


def bad_address(spec: ModelSpec, next_step: str | None = None) -> DeclarationError:
    """For an endpoint that is none; what stands there may hold a password, and is not repeated."""
    return DeclarationError(
        f"{spec.label}: option 'endpoint' is no address; valid: http(s)://host[:port][/path], without user and query",
        next_step=next_step,
    )


def path_of(spec: ModelSpec, address: SplitResult) -> str:
    """Which path of the service is asked: by the task, the option 'api' and the end of the address.

    Raises DeclarationError where they do not agree.
    """
    named = next((path for path in PATHS if address.path.endswith(path)), None)
    api = options.choice(spec, "api", Api)
    if spec.task is Task.EMBEDDING:
        wanted: str | None = EMBEDDINGS_PATH
    else:
        wanted = _PATHS[api] if api else CHAT_PATH if named == EMBEDDINGS_PATH else None
    if named and wanted not in (None, named):
        said = f"'api' = '{api}'" if api else f"task '{spec.task}'"
        raise DeclarationError(
            f"{spec.label}: option 'endpoint' ends in {named}, and {said} is asked at {wanted}",
            next_step="end 'endpoint' where the paths of the APIs begin, as in https://host/v1",
        )
    return wanted or named or CHAT_PATH


def read_settings(spec: ModelSpec, columns: Sequence[pa.Field], place: Place, path: str) -> ChatSettings | EmbeddingSettings:
    """The settings of a model at a place, whose path says which API it is. Raises DeclarationError and UnknownName."""
    prompt = read_question(spec)
    if path == EMBEDDINGS_PATH:
        return _embedding(spec, place, prompt, columns)
    return _chat(spec, place, Api.RESPONSES if path == RESPONSES_PATH else Api.CHAT, prompt, columns)


def _embedding(spec: ModelSpec, place: Place, prompt: Prompt, columns: Sequence[pa.Field]) -> EmbeddingSettings:
    require_vector(spec, columns)
    size = read_batch_size(spec, TEXTS_A_REQUEST, MOST_TEXTS)
    dimensions = options.whole_number(spec, "dimensions", 0) or None
    return EmbeddingSettings(place, prompt.within(read_context(spec)), columns[0], dimensions, size)


def _chat(spec: ModelSpec, place: Place, api: Api, prompt: Prompt, columns: Sequence[pa.Field]) -> ChatSettings:
    labels = read_labels(spec)
    response_format = read_format(spec, columns, ResponseFormat.TEXT, ResponseFormat.JSON_SCHEMA)
    schema = {} if response_format is ResponseFormat.TEXT else json_schema(columns, spec.label, labels)
    system_prompt = spec.options.get("system_prompt", "")
    return ChatSettings(
        place,
        api,
        within_context(spec, prompt, system_prompt, schema),
        system_prompt,
        _parameters(spec, api),
        response_format,
        tuple(columns),
        schema,
        labels,
    )


def _parameters(spec: ModelSpec, api: Api) -> Mapping[str, Any]:
    _refuse_others_of(spec, api)
    effort = options.required(spec, "reasoning_effort").lower() if "reasoning_effort" in spec.options else None
    found: dict[str, Any] = {
        "temperature": options.fraction(spec, "temperature", least=0.0, most=2.0),
        "top_p": options.fraction(spec, "top_p", least=0.0, most=1.0),
        "presence_penalty": options.fraction(spec, "presence_penalty", least=-2.0, most=2.0),
        "frequency_penalty": options.fraction(spec, "frequency_penalty", least=-2.0, most=2.0),
        "seed": options.whole_number(spec, "seed", 0, least=0) if "seed" in spec.options else None,
        "stop": options.parts(spec, "stop") or None,
        **_length(spec, api),
    }
    match api:
        case Api.CHAT:
            found["reasoning_effort"] = effort
        case Api.RESPONSES:
            found["reasoning"] = {"effort": effort} if effort else None
            found["store"] = options.truth(spec, "store") or False
    return {name: value for name, value in found.items() if value is not None}


def _length(spec: ModelSpec, api: Api) -> dict[str, int | None]:
    given = [name for name in LENGTHS if name in spec.options]
    if len(given) > 1:
        raise DeclarationError(f"{spec.label}: '{given[0]}' and '{given[1]}' mean the same; give one of them")
    return {
        "max_output_tokens" if api is Api.RESPONSES else name: options.whole_number(spec, name, 0) or None for name in given
    }


def _refuse_others_of(spec: ModelSpec, api: Api) -> None:
    """Raises DeclarationError for an option that only the other API takes."""
    others = CHAT_OPTIONS if api is Api.RESPONSES else (*RESPONSES_OPTIONS, "max_output_tokens")
    other = Api.CHAT if api is Api.RESPONSES else Api.RESPONSES
    for name in others:
        if name in spec.options:
            raise DeclarationError(
                f"{spec.label}: option '{name}' goes with 'api' = '{other}'; this model is asked by the API '{api}'"
            )


def _key(spec: ModelSpec) -> str:
    key = credential(spec, "api_key")
    if not key and "endpoint" not in spec.options:
        raise key_missing(spec, "api_key", "OPENAI_API_KEY", ENDPOINT)
    return key


def credential(spec: ModelSpec, name: str) -> str:
    """The secret that an option names, "" where it is not given. Raises DeclarationError for one that no header takes."""
    key = spec.options.get(name, "").strip()
    if not key.isascii() or not key.isprintable():
        raise DeclarationError(
            f"{spec.label}: the secret that '{name}' names is no key: it has characters that no header takes"
        )
    return key
