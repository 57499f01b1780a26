"""Embeddings by InvokeModel, in the shape of each maker: Titan takes one text a request, Cohere up to 96.

Source: Amazon Bedrock's guide, "Amazon Titan Embeddings G1 - Text", "Amazon Titan Text Embeddings V2", "Cohere Embed v3"
and "Cohere Embed v4".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from lakeflow.errors import ModelError
from lakeflow.models.providers.aws_dialect import JSON, AwsDialect
from lakeflow.models.providers.aws_errors import blame_of
from lakeflow.models.providers.bedrock_converse import BYTES_A_TOKEN
from lakeflow.models.providers.bedrock_errors import judge
from lakeflow.models.providers.bedrock_settings import EmbeddingSettings
from lakeflow.models.providers.service_answers import broken, count
from lakeflow.models.remote.dialect import Answer, Blame, ErrorKind, Reading, Request, Row
from lakeflow.models.shapes import check_answer, parsed
from lakeflow.models.usage import Tokens


class BedrockEmbeddings(AwsDialect):
    """See `Dialect`."""

    def __init__(self, settings: EmbeddingSettings) -> None:
        place = settings.place
        super().__init__(place.url, place.access, "bedrock", JSON, takes_api_keys=True)
        self._settings = settings
        self.columns = settings.prompt.columns
        self.service_model = place.model
        self.rows_a_request = settings.batch_size

    def identity(self) -> Mapping[str, str]:
        settings = self._settings
        return {
            "url": self.url,
            "family": str(settings.family),
            "body": json.dumps(settings.body, sort_keys=True),
            "prompt": json.dumps(settings.prompt.pieces),
            "columns": json.dumps(self.columns),
        }

    def request(self, rows: Sequence[Row]) -> Request:
        texts = [self._settings.prompt.of(row) for row in rows]
        asked = {"texts": texts} if self._settings.family.is_cohere else {"inputText": texts[0]}
        body = json.dumps({**self._settings.body, **asked}, ensure_ascii=False).encode("utf-8", "replace")
        return Request(body, Tokens(_about(texts)))

    def read(self, body: bytes, rows: int) -> Reading | Blame:
        tokens = Tokens()
        try:
            answer = parsed(body)
            tokens = _tokens(answer)
            vectors = _vectors(answer)
            if len(vectors) != rows:
                raise ModelError(f"{rows} texts were asked, and {len(vectors)} vectors came")
            return Reading(tuple(self._checked(vector) for vector in vectors), tokens)
        except ModelError as error:
            return Blame(ErrorKind.BROKEN_ANSWER, error.message, tokens=tokens)

    def blame(self, status: int, headers: Mapping[str, str], body: bytes) -> Blame:
        return blame_of(status, headers, body, judge)

    def _checked(self, vector: object) -> Answer:
        check_answer((vector,), [self._settings.column])
        if not isinstance(vector, list) or self._settings.dimensions not in (None, len(vector)) or not vector:
            width = len(vector) if isinstance(vector, list) else 0
            raise ModelError(f"a vector has {width} values; asked for: {self._settings.dimensions or 'one at least'}")
        return (vector,)


def _vectors(answer: object) -> list[object]:
    """Cohere's stand by type where types were asked for, and plainly with older versions."""
    match answer:
        case {"embeddings": {"float": [*vectors]}} | {"embeddings": [*vectors]}:
            return vectors
        case {"embedding": [*vector]}:
            return [vector]
        case _:
            raise broken("embedding", answer)


def _tokens(answer: object) -> Tokens:
    """Titan counts in its body. Cohere does not, and repeats the texts: a quarter of their bytes is taken in its place."""
    match answer:
        case {"inputTextTokenCount": tokens}:
            return Tokens(count(tokens))
        case {"texts": [*texts]}:
            return Tokens(_about([text for text in texts if isinstance(text, str)]))
        case _:
            return Tokens()


def _about(texts: Sequence[str]) -> int:
    return sum(len(text.encode("utf-8", "replace")) for text in texts) // BYTES_A_TOKEN
