"""The options that Gemini has wherever it is asked, read into values. Nothing is opened here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pyarrow as pa

from lakeflow.errors import DeclarationError
from lakeflow.models import options
from lakeflow.models.context import CONTEXT_OPTIONS, read_context
from lakeflow.models.prompt import Prompt
from lakeflow.models.providers.declared import require_vector
from lakeflow.models.providers.gemini_schema import gemini_schema
from lakeflow.models.providers.service_options import (
    alternative,
    read_batch_size,
    read_format,
    read_labels,
    read_question,
    within_context,
)
from lakeflow.models.shapes import json_schema
from lakeflow.models.spec import ModelSpec

TEXT_OPTIONS = (
    "prompt",
    "system_prompt",
    "temperature",
    "top_p",
    "top_k",
    "max_tokens",
    "max_output_tokens",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "stop",
    "stop_sequences",
    "response_format",
    "labels",
    "thinking_budget",
    "thinking_level",
    "safety_threshold",
    *CONTEXT_OPTIONS,
)
EMBEDDING_OPTIONS = ("prompt", "dimensions", "task_type", "batch_size", *CONTEXT_OPTIONS)
MOST_STOPS = 5
HARMS = (
    "HARM_CATEGORY_HARASSMENT",
    "HARM_CATEGORY_HATE_SPEECH",
    "HARM_CATEGORY_SEXUALLY_EXPLICIT",
    "HARM_CATEGORY_DANGEROUS_CONTENT",
)


class ResponseFormat(StrEnum):
    """How an answer of several columns is asked for; `text` is one STRING column, as it comes."""

    TEXT = "text"
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"


class SafetyThreshold(StrEnum):
    """From which probability of harm on a question or an answer is blocked."""

    OFF = "off"
    BLOCK_NONE = "block_none"
    BLOCK_ONLY_HIGH = "block_only_high"
    BLOCK_MEDIUM_AND_ABOVE = "block_medium_and_above"
    BLOCK_LOW_AND_ABOVE = "block_low_and_above"


class ThinkingLevel(StrEnum):
    """How much models of Gemini 3 and later think."""

    MINIMAL = "minimal"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class TaskType(StrEnum):
    """What vectors are for."""

    RETRIEVAL_QUERY = "retrieval_query"
    RETRIEVAL_DOCUMENT = "retrieval_document"
    SEMANTIC_SIMILARITY = "semantic_similarity"
    CLASSIFICATION = "classification"
    CLUSTERING = "clustering"
    QUESTION_ANSWERING = "question_answering"
    FACT_VERIFICATION = "fact_verification"
    CODE_RETRIEVAL_QUERY = "code_retrieval_query"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model is asked. `model` is the service's name of it, `secrets` are never shown."""

    url: str
    model: str
    sent: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class TextSettings:
    """`body` is what every request has but its contents; `columns` are the OUTPUT columns that the answer fills.

    `longest_answer` is in tokens, 0 where the declaration does not say.
    """

    prompt: Prompt
    body: Mapping[str, Any]
    longest_answer: int
    response_format: ResponseFormat
    columns: tuple[pa.Field, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EmbeddingSettings:
    """`dimensions` of None: as many as the model gives. `task_type` of None is not said."""

    prompt: Prompt
    column: pa.Field
    dimensions: int | None
    task_type: str | None
    batch_size: int


def read_text(spec: ModelSpec, columns: Sequence[pa.Field]) -> TextSettings:
    """The settings of a generated text; `columns` are the OUTPUT columns but those of errors. Raises UnknownName and
    DeclarationError."""
    labels = read_labels(spec)
    response_format = read_format(spec, columns, ResponseFormat.TEXT, ResponseFormat.JSON_SCHEMA)
    schema = {} if response_format is ResponseFormat.TEXT else json_schema(columns, spec.label, labels)
    system = _system(spec, response_format, schema)
    config = _parameters(spec) | _shape(response_format, schema)
    body: dict[str, Any] = {"generationConfig": config} if config else {}
    if system:
        body["systemInstruction"] = {"parts": [{"text": system}]}
    if threshold := options.choice(spec, "safety_threshold", SafetyThreshold):
        body["safetySettings"] = [{"category": harm, "threshold": threshold.upper()} for harm in HARMS]
    prompt = within_context(spec, read_question(spec), system, schema)
    return TextSettings(prompt, body, config.get("maxOutputTokens", 0), response_format, tuple(columns), labels)


def read_embedding(spec: ModelSpec, columns: Sequence[pa.Field], batch_size: int, most: int) -> EmbeddingSettings:
    """The settings of vectors, `batch_size` texts a request where nothing is said. Raises UnknownName and DeclarationError."""
    require_vector(spec, columns)
    task_type = options.choice(spec, "task_type", TaskType)
    return EmbeddingSettings(
        read_question(spec).within(read_context(spec)),
        columns[0],
        options.whole_number(spec, "dimensions", 0) or None,
        task_type.upper() if task_type else None,
        read_batch_size(spec, batch_size, most),
    )


def _system(spec: ModelSpec, response_format: ResponseFormat, schema: Mapping[str, Any]) -> str:
    """A model without schemas is told the schema in words."""
    parts = [spec.options.get("system_prompt", "")]
    if response_format is ResponseFormat.JSON_OBJECT:
        parts.append(f"Answer with one object of JSON that fits this JSON schema: {json.dumps(schema)}")
    return "\n\n".join(part for part in parts if part)


def _shape(response_format: ResponseFormat, schema: Mapping[str, Any]) -> dict[str, Any]:
    match response_format:
        case ResponseFormat.TEXT:
            return {}
        case ResponseFormat.JSON_OBJECT:
            return {"responseMimeType": "application/json"}
        case ResponseFormat.JSON_SCHEMA:
            return {"responseMimeType": "application/json", "responseSchema": gemini_schema(schema)}


def _parameters(spec: ModelSpec) -> dict[str, Any]:
    stops = options.parts(spec, alternative(spec, "stop", "stop_sequences"))
    if len(stops) > MOST_STOPS:
        raise DeclarationError(f"{spec.label}: option 'stop' has {len(stops)} texts; valid: {MOST_STOPS} at the most")
    found = {
        "temperature": options.fraction(spec, "temperature", least=0.0, most=2.0),
        "topP": options.fraction(spec, "top_p", least=0.0, most=1.0),
        "topK": options.whole_number(spec, "top_k", 0) or None,
        "maxOutputTokens": options.whole_number(spec, alternative(spec, "max_tokens", "max_output_tokens"), 0) or None,
        "presencePenalty": options.fraction(spec, "presence_penalty", least=-2.0, most=2.0),
        "frequencyPenalty": options.fraction(spec, "frequency_penalty", least=-2.0, most=2.0),
        "seed": options.whole_number(spec, "seed", 0, least=0) if "seed" in spec.options else None,
        "stopSequences": stops or None,
        "thinkingConfig": _thinking(spec),
    }
    return {name: value for name, value in found.items() if value is not None}


def _thinking(spec: ModelSpec) -> Mapping[str, Any] | None:
    """Models of Gemini 2.5 take a number of tokens, 0 for none and -1 for as many as they see fit, later ones a level."""
    level = options.choice(spec, "thinking_level", ThinkingLevel)
    if level is None:
        budget = options.whole_number(spec, "thinking_budget", -2, least=-1)
        return None if budget == -2 else {"thinkingBudget": budget}
    if "thinking_budget" in spec.options:
        raise DeclarationError(f"{spec.label}: a model takes 'thinking_budget' or 'thinking_level'; give one of them")
    return {"thinkingLevel": level.upper()}
