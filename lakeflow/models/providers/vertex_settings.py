"""The options of provider vertex, read into values. Nothing is opened here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from lakeflow.errors import DeclarationError
from lakeflow.models import options
from lakeflow.models.prompt import require_no_bytes
from lakeflow.models.providers.declared import address, header_text, json_object, require_vector
from lakeflow.models.providers.gemini_settings import (
    EMBEDDING_OPTIONS,
    TEXT_OPTIONS,
    EmbeddingSettings,
    Place,
    TextSettings,
    read_embedding,
    read_text,
)
from lakeflow.models.providers.service_options import read_batch_size
from lakeflow.models.providers.vertex_outputs import Output, read_outputs
from lakeflow.models.providers.vertex_token import ACCESS_OPTIONS, Bearer, read_bearer
from lakeflow.models.remote.settings import REMOTE_OPTIONS
from lakeflow.models.spec import ModelSpec, Task

SERVICE_OPTIONS = ("endpoint", "project", "location", "api_version", *ACCESS_OPTIONS)
PREDICT_OPTIONS = ("instances", "parameters", "outputs", "batch_size")
ROWS_A_REQUEST = 64
MOST_ROWS = 10_000
TEXTS_A_REQUEST = 64
MOST_TEXTS = 250
"""What the service takes in one request of text embeddings."""
MULTI_REGIONS = ("us", "eu")
_LOCATION = re.compile(r"[a-z][a-z0-9-]*")


class Method(StrEnum):
    """The calls of Vertex AI, by the last word of their addresses."""

    GENERATE = "generateContent"
    PREDICT = "predict"
    EMBED = "embedContent"
    EMBED_BATCH = "batchEmbedContents"


class EmbeddingApi(StrEnum):
    """How an embedding model is asked: the older ones by predict, those named after Gemini by calls of their own."""

    PREDICT = "predict"
    EMBED_CONTENT = "embed_content"


class Instances(StrEnum):
    """How a row is an instance: an object by column, an array in the order of INPUT, or the only column's value."""

    OBJECT = "object"
    ARRAY = "array"
    VALUE = "value"


@dataclass(frozen=True, slots=True)
class Generate:
    """A text by Gemini."""

    place: Place
    text: TextSettings


@dataclass(frozen=True, slots=True)
class Embed:
    """Vectors of texts. With `method` PREDICT they are predictions, else what Gemini's own calls give."""

    place: Place
    vectors: EmbeddingSettings
    method: Method


@dataclass(frozen=True, slots=True)
class Predict:
    """Predictions of a deployed model. `columns` are those of INPUT; `output` says which part of one fills which column."""

    place: Place
    columns: tuple[str, ...]
    instances: Instances
    parameters: Mapping[str, Any]
    output: Output
    batch_size: int


VertexSettings = Generate | Embed | Predict


def read_vertex(spec: ModelSpec, columns: Sequence[pa.Field]) -> tuple[VertexSettings, Bearer]:
    """What is asked, and as whom; `columns` are the OUTPUT columns but those of errors. Raises UnknownName and
    DeclarationError."""
    whole = _whole(spec)
    if "endpoint_id" in spec.options or (whole and "/endpoints/" in whole and whole.endswith(f":{Method.PREDICT}")):
        settings: VertexSettings = _predict(spec, columns, whole)
    elif spec.task is Task.EMBEDDING:
        settings = _embed(spec, columns, whole)
    else:
        settings = _generate(spec, columns, whole)
    return settings, read_bearer(spec)


def _generate(spec: ModelSpec, columns: Sequence[pa.Field], whole: str | None) -> Generate:
    if spec.task is Task.CLUSTERING:
        raise DeclarationError(
            f"{spec.label}: task 'clustering' is one of deployed models alone", next_step="name its endpoint in 'endpoint_id'"
        )
    options.refuse_unknown(spec, (*SERVICE_OPTIONS, "model", "endpoint_id", *TEXT_OPTIONS, *REMOTE_OPTIONS))
    return Generate(_place(spec, whole, Method.GENERATE), read_text(spec, columns))


def _embed(spec: ModelSpec, columns: Sequence[pa.Field], whole: str | None) -> Embed:
    options.refuse_unknown(
        spec, (*SERVICE_OPTIONS, "model", "endpoint_id", "embedding_api", *EMBEDDING_OPTIONS, *REMOTE_OPTIONS)
    )
    model = _model_of(whole) if whole else options.required(spec, "model")
    named_after_gemini = "gemini" in model.rpartition("/")[2]
    plain = EmbeddingApi.EMBED_CONTENT if named_after_gemini else EmbeddingApi.PREDICT
    api = options.choice(spec, "embedding_api", EmbeddingApi) or plain
    vectors = read_embedding(spec, columns, 1 if named_after_gemini else TEXTS_A_REQUEST, MOST_TEXTS)
    method = Method.PREDICT
    if api is EmbeddingApi.EMBED_CONTENT:
        method = Method.EMBED if vectors.batch_size == 1 else Method.EMBED_BATCH
    return Embed(_place(spec, whole, method), vectors, method)


def _predict(spec: ModelSpec, columns: Sequence[pa.Field], whole: str | None) -> Predict:
    options.refuse_unknown(spec, (*SERVICE_OPTIONS, "endpoint_id", *PREDICT_OPTIONS, *REMOTE_OPTIONS))
    if spec.task is Task.EMBEDDING:
        require_vector(spec, columns)
    names = tuple(spec.input.names)
    require_no_bytes(spec, names)
    instances = options.choice(spec, "instances", Instances) or Instances.OBJECT
    if instances is Instances.VALUE and len(names) != 1:
        raise DeclarationError(
            f"{spec.label}: option 'instances' = 'value' takes one INPUT column, declared: {', '.join(names)}"
        )
    return Predict(
        _place(spec, whole, Method.PREDICT),
        names,
        instances,
        json_object(spec, "parameters"),
        read_outputs(spec, columns),
        read_batch_size(spec, ROWS_A_REQUEST, MOST_ROWS),
    )


def _whole(spec: ModelSpec) -> str | None:
    """The option 'endpoint' where it is the whole address of a call; None where it is the service's base, or not said."""
    if "endpoint" not in spec.options:
        return None
    written = address(spec, "endpoint")
    last = written.rpartition("/")[2]
    return written if last.rpartition(":")[2] in list(Method) else None


def _place(spec: ModelSpec, whole: str | None, method: Method) -> Place:
    """A whole address needs no project, location or model."""
    if whole:
        if not whole.endswith(f":{method}"):
            raise DeclarationError(
                f"{spec.label}: option 'endpoint' ends with {whole.rpartition(':')[2]!r}; task {str(spec.task)!r} asks for "
                f"{str(method)!r}"
            )
        return Place(whole, _model_of(whole))
    location = options.required(spec, "location")
    if not _LOCATION.fullmatch(location):
        raise DeclarationError(
            f"{spec.label}: option 'location' is {location!r}; valid: a region as 'us-central1', us, eu, global"
        )
    resource = _resource(spec, location)
    version = header_text(spec, "api_version") or ("v1beta1" if method in (Method.EMBED, Method.EMBED_BATCH) else "v1")
    base = address(spec, "endpoint", _base(location))
    return Place(f"{base}/{version}/{quote(resource, safe='/@')}:{method}", resource.rpartition("/")[2])


def _resource(spec: ModelSpec, location: str) -> str:
    """The name of a deployed endpoint, of a model of Google, or what the option 'model' says as a path."""
    if "endpoint_id" in spec.options:
        part = f"endpoints/{options.required(spec, 'endpoint_id')}"
    else:
        part = options.required(spec, "model")
        if part.startswith("projects/"):
            return part
        if not part.startswith(("publishers/", "endpoints/")):
            part = f"publishers/google/models/{part}"
    return f"projects/{options.required(spec, 'project')}/locations/{location}/{part}"


def _base(location: str) -> str:
    if location == "global":
        return "https://aiplatform.googleapis.com"
    if location in MULTI_REGIONS:
        return f"https://aiplatform.{location}.rep.googleapis.com"
    return f"https://{location}-aiplatform.googleapis.com"


def _model_of(whole: str) -> str:
    return whole.rpartition("/")[2].rpartition(":")[0]
