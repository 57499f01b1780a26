"""Provider googleai: the Gemini API, with a key of Google AI Studio.

What it shares with Vertex AI stands in gemini_settings.py, gemini_text.py, gemini_embeddings.py, gemini_schema.py and
gemini_errors.py. Source: Google's reference of the Gemini API, "Generating content" and "Embeddings".
"""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from lakeflow.errors import DeclarationError
from lakeflow.models import options
from lakeflow.models.providers.declared import address, header_text
from lakeflow.models.providers.gemini_embeddings import GeminiEmbeddings
from lakeflow.models.providers.gemini_settings import EMBEDDING_OPTIONS, TEXT_OPTIONS, Place, read_embedding, read_text
from lakeflow.models.providers.gemini_text import GeminiText
from lakeflow.models.providers.service_options import key_missing
from lakeflow.models.remote.dialect import Dialect
from lakeflow.models.remote.provider import RemoteProvider, answer_columns
from lakeflow.models.remote.settings import REMOTE_OPTIONS, read_remote
from lakeflow.models.spec import ModelSpec, Task

VERSION = "v1beta"
ENDPOINT = f"https://generativelanguage.googleapis.com/{VERSION}"
SERVICE_OPTIONS = ("endpoint", "api_key", "model")
TASKS = (Task.TEXT_GENERATION, Task.CLASSIFICATION, Task.REGRESSION, Task.EMBEDDING)
TEXTS_A_REQUEST = MOST_TEXTS = 100
"""What the service takes in one request of embeddings."""
GENERATE = "generateContent"
EMBED = "batchEmbedContents"


class GoogleAIProvider(RemoteProvider):
    """See `Provider`."""

    def __init__(self, spec: ModelSpec) -> None:
        remote = read_remote(spec)
        columns = answer_columns(spec, remote)
        options.require_task(spec, TASKS)
        embeds = spec.task is Task.EMBEDDING
        own = EMBEDDING_OPTIONS if embeds else TEXT_OPTIONS
        options.refuse_unknown(spec, (*SERVICE_OPTIONS, *own, *REMOTE_OPTIONS))
        place = read_place(spec, EMBED if embeds else GENERATE)
        dialect: Dialect
        if embeds:
            vectors = read_embedding(spec, columns, TEXTS_A_REQUEST, MOST_TEXTS)
            dialect, prompt = GeminiEmbeddings(vectors, place), vectors.prompt
        else:
            text = read_text(spec, columns)
            dialect, prompt = GeminiText(text, place), text.prompt
        super().__init__(spec, remote, dialect, prompt)


def read_place(spec: ModelSpec, method: str) -> Place:
    """The option 'endpoint' is the service's base, or the whole address of the call. Raises DeclarationError."""
    base = address(spec, "endpoint", ENDPOINT)
    key = header_text(spec, "api_key")
    if not key and "endpoint" not in spec.options:
        raise key_missing(spec, "api_key", "GEMINI_API_KEY", ENDPOINT)
    path, colon, called = base.rpartition("/")[2].partition(":")
    if not colon or "/models/" not in base:
        model = options.required(spec, "model").removeprefix("models/")
        path = model if "/" in model else f"models/{model}"
        url = f"{base if urlsplit(base).path else f'{base}/{VERSION}'}/{quote(path)}:{method}"
    else:
        model, url = path, base
        _require_whole(spec, model, called, method)
    secrets = (key,) if key else ()
    return Place(url, model, {"x-goog-api-key": key} if key else {}, secrets)


def _require_whole(spec: ModelSpec, model: str, called: str, method: str) -> None:
    """Raises DeclarationError where a whole address is that of another call or another model."""
    if called != method:
        raise DeclarationError(
            f"{spec.label}: option 'endpoint' ends with {called!r}; task {str(spec.task)!r} asks for {method!r}",
            next_step=f"name the service's base, as {ENDPOINT}, and the model in 'model'",
        )
    if spec.options.get("model", model).removeprefix("models/") != model:
        raise DeclarationError(
            f"{spec.label}: option 'endpoint' names the model {model!r} and 'model' {spec.options['model']!r}; give one of them"
        )
