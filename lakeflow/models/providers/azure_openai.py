"""Provider azure_openai: OpenAI's models as Azure serves them. What is said is what openai.py says, at other addresses.

Its options stand in azure_openai_settings.py; what its errors mean in openai_errors.py, beside those of OpenAI.
Source: Azure's REST reference of OpenAI, and "Content filtering".
"""

from __future__ import annotations

from lakeflow.models.providers.azure_openai_settings import read_azure
from lakeflow.models.providers.openai import dialect_of
from lakeflow.models.remote.provider import RemoteProvider, answer_columns
from lakeflow.models.remote.settings import read_remote
from lakeflow.models.spec import ModelSpec


class AzureOpenAIProvider(RemoteProvider):
    """See `Provider`."""

    def __init__(self, spec: ModelSpec) -> None:
        remote = read_remote(spec)
        settings = read_azure(spec, answer_columns(spec, remote))
        super().__init__(spec, remote, dialect_of(settings), settings.prompt)
