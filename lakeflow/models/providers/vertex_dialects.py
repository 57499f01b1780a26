"""Predictions and embeddings as Vertex AI speaks them, and the token that each of its requests bears."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from lakeflow.errors import ModelError
from lakeflow.models.providers.gemini_embeddings import found_vectors, identity_of, request_of, vectors_of
from lakeflow.models.providers.gemini_errors import blame_of, tokens_of
from lakeflow.models.providers.service_answers import broken, count
from lakeflow.models.providers.vertex_outputs import Unplaced
from lakeflow.models.providers.vertex_settings import Embed, Instances, Method, Predict
from lakeflow.models.providers.vertex_token import Bearer
from lakeflow.models.remote.dialect import Blame, Dialect, ErrorKind, Reading, Request, Row
from lakeflow.models.shapes import parsed
from lakeflow.models.usage import Tokens


class Bearing:
    """See `Dialect` and `Signing`: another dialect, whose requests bear a token."""

    def __init__(self, dialect: Dialect, bearer: Bearer) -> None:
        self._dialect = dialect
        self._bearer = bearer
        self.columns = dialect.columns
        self.url = dialect.url
        self.service_model = dialect.service_model
        self.rows_a_request = dialect.rows_a_request
        self.secrets = bearer.secrets

    def headers(self) -> Mapping[str, str]:
        return self._dialect.headers()

    def identity(self) -> Mapping[str, str]:
        return self._dialect.identity()

    def request(self, rows: Sequence[Row]) -> Request:
        return self._dialect.request(rows)

    def read(self, body: bytes, rows: int) -> Reading | Blame:
        return self._dialect.read(body, rows)

    def blame(self, status: int, headers: Mapping[str, str], body: bytes) -> Blame:
        """A token may be taken back before its time, or run out while a machine slept: then another one is tried."""
        blame = self._dialect.blame(status, headers, body)
        if status == 401 and self._bearer.refused():
            return replace(blame, kind=ErrorKind.UNAVAILABLE)
        return blame

    def open(self) -> None:
        """Reads what tokens are got with. Raises ModelError."""
        self._bearer.open()
        self.secrets = self._bearer.secrets

    async def sign(self, url: str, body: bytes) -> Mapping[str, str] | Blame:
        token = await self._bearer.token()
        if isinstance(token, Blame):
            return token
        if token not in self.secrets:
            self.secrets = (*self._bearer.secrets, token)
        return {"authorization": f"Bearer {token}", **self._bearer.headers}


class VertexPredictions:
    """See `Dialect`: predictions of a deployed model, several rows a request."""

    def __init__(self, settings: Predict) -> None:
        self._settings = settings
        self.columns = settings.columns
        self.url = settings.place.url
        self.service_model = settings.place.model
        self.rows_a_request = settings.batch_size
        self.secrets: tuple[str, ...] = ()

    def headers(self) -> Mapping[str, str]:
        return {}

    def identity(self) -> Mapping[str, str]:
        settings = self._settings
        return {
            "url": self.url,
            "instances": str(settings.instances),
            "parameters": json.dumps(settings.parameters, sort_keys=True),
            "outputs": settings.output.identity(),
        }

    def request(self, rows: Sequence[Row]) -> Request:
        body: dict[str, Any] = {"instances": [self._instance(row) for row in rows]}
        if self._settings.parameters:
            body["parameters"] = self._settings.parameters
        return Request(json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace"))

    def read(self, body: bytes, rows: int) -> Reading | Blame:
        try:
            predictions = _predictions(parsed(body), rows)
            return Reading(tuple(self._settings.output.of(one) for one in predictions))
        except Unplaced as error:
            return Blame(ErrorKind.MISUSED, error.message)
        except ModelError as error:
            return Blame(ErrorKind.BROKEN_ANSWER, error.message)

    def blame(self, status: int, headers: Mapping[str, str], body: bytes) -> Blame:
        return blame_of(status, headers, body)

    def _instance(self, row: Row) -> object:
        values = {name: _plain(row[name]) for name in self.columns}
        match self._settings.instances:
            case Instances.OBJECT:
                return values
            case Instances.ARRAY:
                return list(values.values())
            case Instances.VALUE:
                return next(iter(values.values()))


class VertexEmbeddings:
    """See `Dialect`: vectors of texts, as predictions of a text embedding model or by Gemini's own calls."""

    def __init__(self, settings: Embed) -> None:
        self._settings = settings
        self._vectors = settings.vectors
        self.columns = settings.vectors.prompt.columns
        self.url = settings.place.url
        self.service_model = settings.place.model
        self.rows_a_request = settings.vectors.batch_size
        self.secrets: tuple[str, ...] = ()

    def headers(self) -> Mapping[str, str]:
        return {}

    def identity(self) -> Mapping[str, str]:
        return {"url": self.url, **identity_of(self._vectors)}

    def request(self, rows: Sequence[Row]) -> Request:
        texts = [self._vectors.prompt.of(row) for row in rows]
        return request_of(self._body(texts), texts)

    def read(self, body: bytes, rows: int) -> Reading | Blame:
        try:
            answer = parsed(body)
            if self._settings.method is not Method.PREDICT:
                return Reading(vectors_of(self._vectors, found_vectors(answer), rows), tokens_of(answer))
            predictions = _predictions(answer, rows)
            vectors = vectors_of(self._vectors, [_vector(one) for one in predictions], rows)
            return Reading(vectors, Tokens(sum(map(_tokens, predictions))))
        except ModelError as error:
            return Blame(ErrorKind.BROKEN_ANSWER, error.message)

    def blame(self, status: int, headers: Mapping[str, str], body: bytes) -> Blame:
        return blame_of(status, headers, body)

    def _body(self, texts: Sequence[str]) -> Mapping[str, object]:
        """A text that is too long is an error, not a vector of its beginning."""
        task_type, dimensions = self._vectors.task_type, self._vectors.dimensions
        if self._settings.method is Method.PREDICT:
            kind = {"task_type": task_type} if task_type else {}
            width = {"outputDimensionality": dimensions} if dimensions else {}
            parameters = {"autoTruncate": False, **width}
            return {"instances": [{"content": text, **kind} for text in texts], "parameters": parameters}
        found = {"taskType": task_type, "outputDimensionality": dimensions, "autoTruncate": False}
        config = {name: value for name, value in found.items() if value is not None}
        requests = [{"content": {"parts": [{"text": text}]}, "embedContentConfig": config} for text in texts]
        return requests[0] if self._settings.method is Method.EMBED else {"requests": requests}


def _predictions(answer: object, rows: int) -> list[object]:
    match answer:
        case {"predictions": [*predictions]}:
            pass
        case _:
            raise broken("predictions", answer)
    if len(predictions) != rows:
        raise ModelError(f"{rows} rows were asked, and {len(predictions)} predictions came")
    return predictions


def _vector(prediction: object) -> object:
    match prediction:
        case {"embeddings": {"values": [*values]}}:
            return values
        case _:
            raise broken("predictions[].embeddings.values", prediction)


def _tokens(prediction: object) -> int:
    """Counted in whole numbers, and written as doubles."""
    match prediction:
        case {"embeddings": {"statistics": {"token_count": float(tokens)}}} if tokens.is_integer():
            return count(int(tokens))
        case {"embeddings": {"statistics": {"token_count": tokens}}}:
            return count(tokens)
        case _:
            return 0


def _plain(value: object) -> object:
    """A value as JSON has it; what JSON has no number for is null."""
    match value:
        case Decimal():
            return float(value)
        case float():
            return value if math.isfinite(value) else None
        case datetime() | date() | time():
            return value.isoformat()
        case list() | tuple():
            return [_plain(one) for one in value]
        case dict():
            return {str(name): _plain(one) for name, one in value.items()}
        case _:
            return value
