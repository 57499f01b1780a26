"""Embeddings as OpenAI speaks them: several texts a request, a vector each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lakeflow.errors import ModelError
from lakeflow.models.providers.openai_errors import blame_of, tokens_of
from lakeflow.models.providers.openai_settings import EmbeddingSettings
from lakeflow.models.providers.service_answers import broken, read_answer, text_request, vector_answer
from lakeflow.models.remote.dialect import Answer, Blame, Reading, Request, Row


class OpenAIEmbeddings:
    """See `Dialect`."""

    def __init__(self, settings: EmbeddingSettings) -> None:
        self._settings = settings
        self.columns = settings.prompt.columns
        self.url = settings.place.url
        self.service_model = settings.place.model
        self.secrets = settings.place.secrets
        self.rows_a_request = settings.batch_size

    def headers(self) -> Mapping[str, str]:
        return self._settings.place.headers()

    def identity(self) -> Mapping[str, str]:
        settings = self._settings
        return {
            "url": self.url,
            "model": self.service_model,
            "dimensions": str(settings.dimensions),
            "prompt": json.dumps(settings.prompt.pieces),
            "columns": json.dumps(self.columns),
        }

    def request(self, rows: Sequence[Row]) -> Request:
        fixed: dict[str, Any] = {**self._settings.place.named(), "encoding_format": "float"}
        if self._settings.dimensions:
            fixed["dimensions"] = self._settings.dimensions
        texts = [self._settings.prompt.of(row) for row in rows]
        return text_request({**fixed, "input": texts})

    def read(self, body: bytes, rows: int) -> Reading | Blame:
        return read_answer(body, tokens_of, lambda answer, tokens: Reading(self._vectors(answer, rows), tokens))

    def blame(self, status: int, headers: Mapping[str, str], body: bytes) -> Blame:
        return blame_of(status, headers, body, {"model", "dimensions", "encoding_format"})

    def _vectors(self, answer: object, rows: int) -> tuple[Answer, ...]:
        match answer:
            case {"data": [*data]}:
                pass
            case _:
                raise broken("data", answer)
        vectors: dict[int, Answer] = {}
        for one in data:
            match one:
                case {"index": int(index), "embedding": [*vector]}:
                    vectors[index] = vector_answer(vector, self._settings.column, self._settings.dimensions)
                case _:
                    raise broken("data[].embedding", one)
        if len(data) != rows or sorted(vectors) != list(range(rows)):
            raise ModelError(f"{rows} texts were asked, and vectors came for the places {sorted(vectors)[:10]}")
        return tuple(vectors[place] for place in range(rows))
