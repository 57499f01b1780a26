"""The options of provider bedrock, read into values. Nothing is opened here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from lakeflow.errors import DeclarationError
from lakeflow.models import options
from lakeflow.models.context import CONTEXT_OPTIONS, read_context
from lakeflow.models.prompt import Prompt
from lakeflow.models.providers.aws_access import ACCESS_OPTIONS, Access, read_access, service_address
from lakeflow.models.providers.declared import json_object, require_vector
from lakeflow.models.providers.service_options import (
    read_batch_size,
    read_format,
    read_labels,
    read_question,
    within_context,
)
from lakeflow.models.remote.settings import REMOTE_OPTIONS
from lakeflow.models.shapes import json_schema
from lakeflow.models.spec import ModelSpec, Task

SERVICE_OPTIONS = (*ACCESS_OPTIONS, "api_key", "model", "prompt")
TEXT_OPTIONS = (
    "system_prompt",
    "temperature",
    "top_p",
    "max_tokens",
    "stop",
    "response_format",
    "tool_choice",
    "labels",
    "additional_model_request_fields",
    "guardrail_identifier",
    "guardrail_version",
)
EMBEDDING_OPTIONS = ("model_family", "dimensions", "normalize", "input_type", "truncate", "batch_size")
TASKS = (Task.TEXT_GENERATION, Task.CLASSIFICATION, Task.REGRESSION, Task.EMBEDDING)
TOOL = "answer"
MOST_TEXTS = 96
"""What Cohere's models take in one request."""


class ResponseFormat(StrEnum):
    """How an answer of several columns is asked for: as the input of a tool that the model has to call, or by a schema."""

    TEXT = "text"
    TOOL = "tool"
    JSON_SCHEMA = "json_schema"


class ToolChoice(StrEnum):
    """How far the model is made to call the tool; not every model takes each."""

    TOOL = "tool"
    ANY = "any"
    AUTO = "auto"


class Family(StrEnum):
    """How an embedding model is asked: each maker has a shape of its own."""

    TITAN_V1 = "titan_v1"
    TITAN_V2 = "titan_v2"
    COHERE_V3 = "cohere_v3"
    COHERE_V4 = "cohere_v4"

    @property
    def is_cohere(self) -> bool:
        return self in (Family.COHERE_V3, Family.COHERE_V4)


class InputType(StrEnum):
    """What Cohere's vectors are for."""

    SEARCH_DOCUMENT = "search_document"
    SEARCH_QUERY = "search_query"
    CLASSIFICATION = "classification"
    CLUSTERING = "clustering"


class Truncate(StrEnum):
    """Which end of a text that is too long Cohere leaves out; with `none` it is an error."""

    NONE = "none"
    START = "start"
    END = "end"


_FAMILIES = (
    ("titan-embed-text-v2", Family.TITAN_V2),
    ("titan-embed", Family.TITAN_V1),
    ("cohere.embed-v4", Family.COHERE_V4),
    ("cohere.embed", Family.COHERE_V3),
)
_DIMENSIONS = {Family.TITAN_V2: (256, 512, 1024), Family.COHERE_V4: (256, 512, 1024, 1536)}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model is asked, and as whom. `url` holds the model's name, percent-encoded."""

    url: str
    model: str
    access: Access


@dataclass(frozen=True, slots=True)
class ConverseSettings:
    """`body` is what every request holds but its messages; `columns` are the OUTPUT columns that the answer fills."""

    place: Place
    prompt: Prompt
    body: Mapping[str, Any]
    response_format: ResponseFormat
    columns: tuple[pa.Field, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EmbeddingSettings:
    """`dimensions` of None: as many as the model gives. `body` is what every request holds but its texts."""

    place: Place
    prompt: Prompt
    family: Family
    column: pa.Field
    dimensions: int | None
    body: Mapping[str, Any]
    batch_size: int


def read_bedrock(spec: ModelSpec, columns: Sequence[pa.Field]) -> ConverseSettings | EmbeddingSettings:
    """The settings in a spec's options; `columns` are the OUTPUT columns but those of errors. Raises UnknownName and
    DeclarationError."""
    options.require_task(spec, TASKS)
    embeds = spec.task is Task.EMBEDDING
    own = EMBEDDING_OPTIONS if embeds else TEXT_OPTIONS
    options.refuse_unknown(spec, (*SERVICE_OPTIONS, *own, *CONTEXT_OPTIONS, *REMOTE_OPTIONS))
    prompt = read_question(spec)
    return _embedding(spec, prompt, columns) if embeds else _converse(spec, prompt, columns)


def _converse(spec: ModelSpec, prompt: Prompt, columns: Sequence[pa.Field]) -> ConverseSettings:
    labels = read_labels(spec)
    response_format = _response_format(spec, columns)
    schema = {} if response_format is ResponseFormat.TEXT else json_schema(columns, spec.label, labels)
    system = spec.options.get("system_prompt", "").strip()
    body = {
        "system": [{"text": system}] if system else None,
        "inferenceConfig": _inference(spec) or None,
        "guardrailConfig": _guardrail(spec),
        "additionalModelRequestFields": json_object(spec, "additional_model_request_fields") or None,
        **_format(spec, response_format, schema),
    }
    return ConverseSettings(
        _place(spec, "converse"),
        within_context(spec, prompt, system, schema),
        {name: value for name, value in body.items() if value is not None},
        response_format,
        tuple(columns),
        labels,
    )


def _response_format(spec: ModelSpec, columns: Sequence[pa.Field]) -> ResponseFormat:
    chosen = read_format(spec, columns, ResponseFormat.TEXT, ResponseFormat.TOOL, "the input of a tool")
    if "tool_choice" in spec.options and chosen is not ResponseFormat.TOOL:
        raise DeclarationError(f"{spec.label}: option 'tool_choice' goes with 'response_format' = 'tool', not {str(chosen)!r}")
    return chosen


def _format(spec: ModelSpec, response_format: ResponseFormat, schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """How the answer's shape is asked for. Models of Amazon take no more than these three fields at a tool's top."""
    match response_format:
        case ResponseFormat.TEXT:
            return {}
        case ResponseFormat.JSON_SCHEMA:
            wanted = {"jsonSchema": {"name": TOOL, "schema": json.dumps(schema)}}
            return {"outputConfig": {"textFormat": {"type": "json_schema", "structure": wanted}}}
        case ResponseFormat.TOOL:
            top = {name: schema[name] for name in ("type", "properties", "required")}
            tool = {"name": TOOL, "description": "Gives the answer.", "inputSchema": {"json": top}}
            choice = options.choice(spec, "tool_choice", ToolChoice) or ToolChoice.TOOL
            chosen = {str(choice): {"name": TOOL} if choice is ToolChoice.TOOL else {}}
            return {"toolConfig": {"tools": [{"toolSpec": tool}], "toolChoice": chosen}}


def _inference(spec: ModelSpec) -> Mapping[str, Any]:
    found = {
        "maxTokens": options.whole_number(spec, "max_tokens", 0) or None,
        "temperature": options.fraction(spec, "temperature", least=0.0, most=1.0),
        "topP": options.fraction(spec, "top_p", least=0.0, most=1.0),
        "stopSequences": options.parts(spec, "stop") or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _guardrail(spec: ModelSpec) -> Mapping[str, str] | None:
    if "guardrail_identifier" not in spec.options and "guardrail_version" not in spec.options:
        return None
    return {
        "guardrailIdentifier": options.required(spec, "guardrail_identifier"),
        "guardrailVersion": options.required(spec, "guardrail_version"),
    }


def _embedding(spec: ModelSpec, prompt: Prompt, columns: Sequence[pa.Field]) -> EmbeddingSettings:
    require_vector(spec, columns)
    family = _family(spec)
    _refuse_others(spec, family)
    most = MOST_TEXTS if family.is_cohere else 1
    size = read_batch_size(spec, most, most, family)
    dimensions = options.whole_number(spec, "dimensions", 0) or None
    valid = _DIMENSIONS.get(family, ())
    if dimensions is not None and dimensions not in valid:
        said = ", ".join(map(str, valid)) or "none, the model has one width"
        raise DeclarationError(f"{spec.label}: option 'dimensions' is {dimensions}; valid for {family}: {said}")
    prompt = prompt.within(read_context(spec))
    body = _embedding_body(spec, family, dimensions)
    return EmbeddingSettings(_place(spec, "invoke"), prompt, family, columns[0], dimensions, body, size)


def _family(spec: ModelSpec) -> Family:
    model = options.required(spec, "model")
    known = next((family for part, family in _FAMILIES if part in model), None)
    family = options.choice(spec, "model_family", Family) or known
    if family is None:
        raise DeclarationError(
            f"{spec.label}: 'model' = {model!r} does not tell how it is asked",
            next_step=f"add 'model_family' = one of {', '.join(Family)}",
        )
    return family


def _refuse_others(spec: ModelSpec, family: Family) -> None:
    for name, fits in (
        ("normalize", family is Family.TITAN_V2),
        ("input_type", family.is_cohere),
        ("truncate", family.is_cohere),
    ):
        if name in spec.options and not fits:
            raise DeclarationError(f"{spec.label}: option '{name}' is none of a model of the family {family}")


def _embedding_body(spec: ModelSpec, family: Family, dimensions: int | None) -> Mapping[str, Any]:
    if not family.is_cohere:
        normalize = options.truth(spec, "normalize")
        sized = {"dimensions": dimensions, "normalize": normalize}
        return {name: value for name, value in sized.items() if value is not None}
    body: dict[str, Any] = {
        "input_type": str(options.choice(spec, "input_type", InputType) or InputType.SEARCH_DOCUMENT),
        "truncate": str(options.choice(spec, "truncate", Truncate) or Truncate.NONE).upper(),
        "embedding_types": ["float"],
    }
    return {**body, "output_dimension": dimensions} if dimensions else body


def _place(spec: ModelSpec, operation: str) -> Place:
    access = read_access(spec)
    base = service_address(spec, "bedrock-runtime", access.region)
    if "/model/" in base:
        raise DeclarationError(
            f"{spec.label}: option 'endpoint' is the service's base; the model and the operation are added to it",
            next_step="leave 'endpoint' out, and say 'region' and 'model'",
        )
    model = options.required(spec, "model")
    return Place(f"{base}/model/{quote(model, safe='')}/{operation}", model, access)
