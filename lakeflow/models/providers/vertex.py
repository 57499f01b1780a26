"""Provider vertex: Gemini, text embeddings and deployed endpoints of Vertex AI.

The options stand in vertex_settings.py, tokens in vertex_token.py, what is said in gemini_text.py and vertex_dialects.py, and
what fills which column in vertex_outputs.py. Source: Google's reference of the Vertex AI API, "generateContent", "predict"
and "embedContent".
"""

from __future__ import annotations

from typing import assert_never

from lakeflow.models.prompt import Prompt
from lakeflow.models.providers.gemini_text import GeminiText
from lakeflow.models.providers.vertex_dialects import Bearing, VertexEmbeddings, VertexPredictions
from lakeflow.models.providers.vertex_settings import Embed, Generate, Predict, read_vertex
from lakeflow.models.remote.dialect import Dialect
from lakeflow.models.remote.provider import RemoteProvider, answer_columns
from lakeflow.models.remote.settings import read_remote
from lakeflow.models.spec import ModelSpec


class VertexProvider(RemoteProvider):
    """See `Provider`."""

    def __init__(self, spec: ModelSpec) -> None:
        remote = read_remote(spec)
        settings, bearer = read_vertex(spec, answer_columns(spec, remote))
        dialect: Dialect
        prompt: Prompt | None = None
        match settings:
            case Generate():
                dialect, prompt = GeminiText(settings.text, settings.place), settings.text.prompt
            case Embed():
                dialect, prompt = VertexEmbeddings(settings), settings.vectors.prompt
            case Predict():
                dialect = VertexPredictions(settings)
            case _:
                assert_never(settings)
        self._bearing = Bearing(dialect, bearer)
        super().__init__(spec, remote, self._bearing, prompt)

    def check(self) -> None:
        self._bearing.open()
        super().check()
