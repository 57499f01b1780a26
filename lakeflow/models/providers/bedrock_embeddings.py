"""Embeddings by InvokeModel, in the shape of each maker: Titan takes one text a request, Cohere up to 96.

Source: Amazon Bedrock's guide, "Amazon Titan Embeddings G1 - Text", "Amazon Titan Text Embeddings V2", "Cohere Embed v3"
and "Cohere Embed v4".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lakeflow.models.providers.aws_dialect import JSON, AwsDialect
from lakeflow.models.providers.aws_errors import blame_of
from lakeflow.models.providers.bedrock_errors import judge
from lakeflow.models.providers.bedrock_settings import EmbeddingSettings
from lakeflow.models.providers.service_answers import (
    about_tokens,
    body_of,
    broken,
    count,
    identity_of,
    read_answer,
    vector_answers,
)
from lakeflow.models.remote.dialect import Blame, Reading, Request, Row
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
        return {**identity_of(self.url, settings.body, settings.prompt), "family": str(settings.family)}

    def request(self, rows: Sequence[Row]) -> Request:
        texts = [self._settings.prompt.of(row) for row in rows]
        asked = {"texts": texts} if self._settings.family.is_cohere else {"inputText": texts[0]}
        return Request(body_of({**self._settings.body, **asked}), Tokens(about_tokens(texts)))

    def read(self, body: bytes, rows: int) -> Reading | Blame:
        column, dimensions = self._settings.column, self._settings.dimensions
        return read_answer(
            body, _tokens, lambda answer, tokens: Reading(vector_answers(_vectors(answer), rows, column, dimensions), tokens)
        )

    def blame(self, status: int, headers: Mapping[str, str], body: bytes) -> Blame:
        return blame_of(status, headers, body, judge)


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
            return Tokens(about_tokens([text for text in texts if isinstance(text, str)]))
        case _:
            return Tokens()
