"""Provider openai: chat completions and embeddings, of OpenAI or any service that speaks as it does.

The options stand in openai_settings.py, what is said in openai_chat.py and openai_embeddings.py, errors in
openai_errors.py. Source: OpenAI's API reference, "Chat Completions", "Embeddings" and "Error codes".
"""

from __future__ import annotations

from lakeflow.models.providers.openai_chat import OpenAIChat
from lakeflow.models.providers.openai_embeddings import OpenAIEmbeddings
from lakeflow.models.providers.openai_settings import ChatSettings, EmbeddingSettings, read_openai
from lakeflow.models.remote.dialect import Dialect
from lakeflow.models.remote.provider import RemoteProvider, answer_columns
from lakeflow.models.remote.settings import read_remote
from lakeflow.models.spec import ModelSpec


class OpenAIProvider(RemoteProvider):
    """See `Provider`."""

    def __init__(self, spec: ModelSpec) -> None:
        remote = read_remote(spec)
        columns = answer_columns(spec, remote)
        settings = read_openai(spec, columns)
        dialect: Dialect
        match settings:
            case ChatSettings():
                dialect = OpenAIChat(settings)
            case EmbeddingSettings():
                dialect = OpenAIEmbeddings(settings)
        super().__init__(spec, remote, dialect, settings.prompt)
