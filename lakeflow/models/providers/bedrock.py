"""Provider bedrock: models of Amazon Bedrock; texts by Converse, embeddings by InvokeModel.

The options stand in bedrock_settings.py, what is said in bedrock_converse.py and bedrock_embeddings.py, errors in
bedrock_errors.py; who asks, in aws_access.py and aws_signing.py. Source: the API reference of Amazon Bedrock Runtime.
"""

from __future__ import annotations

from lakeflow.models.providers.bedrock_converse import BedrockConverse
from lakeflow.models.providers.bedrock_embeddings import BedrockEmbeddings
from lakeflow.models.providers.bedrock_settings import ConverseSettings, EmbeddingSettings, read_bedrock
from lakeflow.models.remote.provider import RemoteProvider, answer_columns
from lakeflow.models.remote.settings import read_remote
from lakeflow.models.spec import ModelSpec


class BedrockProvider(RemoteProvider):
    """See `Provider`."""

    def __init__(self, spec: ModelSpec) -> None:
        remote = read_remote(spec)
        settings = read_bedrock(spec, answer_columns(spec, remote))
        self._aws: BedrockConverse | BedrockEmbeddings
        match settings:
            case ConverseSettings():
                self._aws = BedrockConverse(settings)
            case EmbeddingSettings():
                self._aws = BedrockEmbeddings(settings)
        super().__init__(spec, remote, self._aws, settings.prompt)

    def check(self) -> None:
        self._aws.find_account(self._spec.label)
        super().check()
