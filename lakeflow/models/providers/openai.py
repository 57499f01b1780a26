"""Provider openai: chat completions, responses and embeddings, of OpenAI or any service that speaks as it does.

The options stand in openai_settings.py; what is said in openai_chat.py, openai_responses.py and openai_embeddings.py;
errors in openai_errors.py. Source: OpenAI's API reference, "Chat Completions", "Responses", "Embeddings", "Error codes".
"""

from __future__ import annotations

from typing import assert_never

from lakeflow.models.providers.openai_chat import OpenAIChat
from lakeflow.models.providers.openai_embeddings import OpenAIEmbeddings
from lakeflow.models.providers.openai_responses import OpenAIResponses
from lakeflow.models.providers.openai_settings import Api, ChatSettings, EmbeddingSettings, read_openai
from lakeflow.models.remote.dialect import Dialect
from lakeflow.models.remote.provider import RemoteProvider, answer_columns
from lakeflow.models.remote.settings import read_remote
from lakeflow.models.spec import ModelSpec


class OpenAIProvider(RemoteProvider):
    """See `Provider`."""

    def __init__(self, spec: ModelSpec) -> None:
        remote = read_remote(spec)
        settings = read_openai(spec, answer_columns(spec, remote))
        super().__init__(spec, remote, dialect_of(settings), settings.prompt)


def dialect_of(settings: ChatSettings | EmbeddingSettings) -> Dialect:
    """What is said to a model of these settings."""
    match settings:
        case EmbeddingSettings():
            return OpenAIEmbeddings(settings)
        case ChatSettings():
            return OpenAIResponses(settings) if settings.api is Api.RESPONSES else OpenAIChat(settings)
        case _:
            assert_never(settings)
