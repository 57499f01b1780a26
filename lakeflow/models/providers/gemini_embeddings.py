"""batchEmbedContents as the Gemini API speaks it: several texts a request, a vector each, in their order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lakeflow.errors import ModelError
from lakeflow.models.providers.gemini_errors import blame_of, tokens_of
from lakeflow.models.providers.gemini_settings import EmbeddingSettings, Place
from lakeflow.models.providers.service_answers import about_tokens, body_of, broken, vector_answers
from lakeflow.models.remote.dialect import Answer, Blame, ErrorKind, Reading, Request, Row
from lakeflow.models.shapes import parsed
from lakeflow.models.usage import Tokens


class GeminiEmbeddings:
    """See `Dialect`."""

    def __init__(self, settings: EmbeddingSettings, place: Place) -> None:
        self._settings = settings
        self._place = place
        self.columns = settings.prompt.columns
        self.url = place.url
        self.service_model = place.model
        self.secrets = place.secrets
        self.rows_a_request = settings.batch_size

    def headers(self) -> Mapping[str, str]:
        return self._place.sent

    def identity(self) -> Mapping[str, str]:
        return {"url": self.url, **identity_of(self._settings)}

    def request(self, rows: Sequence[Row]) -> Request:
        fixed: dict[str, Any] = {"model": f"models/{self.service_model}"}
        if self._settings.task_type:
            fixed["taskType"] = self._settings.task_type
        if self._settings.dimensions:
            fixed["outputDimensionality"] = self._settings.dimensions
        texts = [self._settings.prompt.of(row) for row in rows]
        requests = [{**fixed, "content": {"parts": [{"text": text}]}} for text in texts]
        return request_of({"requests": requests}, texts)

    def read(self, body: bytes, rows: int) -> Reading | Blame:
        try:
            answer = parsed(body)
            return Reading(vectors_of(self._settings, found_vectors(answer), rows), tokens_of(answer))
        except ModelError as error:
            return Blame(ErrorKind.BROKEN_ANSWER, error.message)

    def blame(self, status: int, headers: Mapping[str, str], body: bytes) -> Blame:
        return blame_of(status, headers, body)


def identity_of(settings: EmbeddingSettings) -> Mapping[str, str]:
    """What of the settings decides the vectors."""
    return {
        "dimensions": str(settings.dimensions),
        "task_type": str(settings.task_type),
        "prompt": json.dumps(settings.prompt.pieces),
        "columns": json.dumps(settings.prompt.columns),
    }


def request_of(body: Mapping[str, object], texts: Sequence[str]) -> Request:
    """The request that holds some texts."""
    return Request(body_of(body), Tokens(about_tokens(texts)))


def found_vectors(answer: object) -> list[object]:
    """The values of each embedding of an answer. Raises ModelError where there are none."""
    match answer:
        case {"embeddings": [*embeddings]}:
            return [_values(one) for one in embeddings]
        case {"embedding": embedding}:
            return [_values(embedding)]
        case _:
            raise broken("embeddings", answer)


def vectors_of(settings: EmbeddingSettings, vectors: Sequence[object], rows: int) -> tuple[Answer, ...]:
    """An answer a row. Raises ModelError for another number of vectors, or vectors that are none."""
    return vector_answers(vectors, rows, settings.column, settings.dimensions)


def _values(embedding: object) -> object:
    match embedding:
        case {"values": [*values]}:
            return values
        case _:
            raise broken("embeddings[].values", embedding)
