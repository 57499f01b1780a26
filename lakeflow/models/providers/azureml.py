"""Provider azureml: online endpoints of Azure Machine Learning, asked at their scoring URI.

How rows go out and come back stands in scoring.py. Source: Azure Machine Learning's documentation, "Authenticate clients for
online endpoints", "HTTP status codes" of "Troubleshoot online endpoints", and for `input_data` "Deploy MLflow models".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pyarrow as pa

from lakeflow.errors import DeclarationError
from lakeflow.models import options
from lakeflow.models.providers.declared import address, header_text
from lakeflow.models.providers.http_errors import fields_of, kind_of, retry_after, said
from lakeflow.models.providers.scoring import SCORING_OPTIONS, Scoring, kind_of_model, read_scoring
from lakeflow.models.providers.scoring_input import InputFormat
from lakeflow.models.remote.dialect import Blame, ErrorKind, Reading, Request, Row
from lakeflow.models.remote.provider import RemoteProvider, answer_columns
from lakeflow.models.remote.settings import REMOTE_OPTIONS, read_remote
from lakeflow.models.spec import ModelSpec, Task

SERVICE_OPTIONS = ("endpoint", "api_key", "deployment", "prompt", *SCORING_OPTIONS)
DEPLOYMENT_HEADER = "azureml-model-deployment"
MODEL_STATUS_HEADER = "ms-azureml-model-error-statuscode"
MODEL_REASON_HEADER = "ms-azureml-model-error-reason"

_OWN = {409: ErrorKind.UNAVAILABLE}


@dataclass(frozen=True, slots=True)
class Place:
    """Where an endpoint is asked, and as whom; without `deployment` its traffic rules say which one answers."""

    url: str
    deployment: str
    api_key: str = field(repr=False)


class AzureMLEndpoint:
    """See `Dialect`."""

    def __init__(self, place: Place, scoring: Scoring) -> None:
        self._place = place
        self._scoring = scoring
        self.columns = scoring.columns
        self.url = place.url
        self.service_model = place.deployment or (urlsplit(place.url).hostname or "").split(".", 1)[0]
        self.rows_a_request = scoring.batch_size
        self.secrets: tuple[str, ...] = (place.api_key,)

    def headers(self) -> Mapping[str, str]:
        place = self._place
        named = {DEPLOYMENT_HEADER: place.deployment} if place.deployment else {}
        content_type = self._scoring.input.format.content_type
        sent = {"authorization": f"Bearer {place.api_key}", "content-type": content_type, "accept": "application/json"}
        return {**sent, **named}

    def identity(self) -> Mapping[str, str]:
        return {"url": self.url, "deployment": self._place.deployment, **self._scoring.identity()}

    def request(self, rows: Sequence[Row]) -> Request:
        return self._scoring.request(rows)

    def read(self, body: bytes, rows: int) -> Reading | Blame:
        return self._scoring.read(_unwrapped(body), rows)

    def blame(self, status: int, headers: Mapping[str, str], body: bytes) -> Blame:
        reason = said(_reason(body) or (None if body else headers.get(MODEL_REASON_HEADER)), body)
        if status == 424:
            answered = _number(headers.get(MODEL_STATUS_HEADER, ""))
            kind = kind_of_model(answered)
            message = f"HTTP 424: the model answered {answered}: {reason}"
        else:
            kind = kind_of(status, _OWN)
            message = f"HTTP {status}: {reason}"
        return Blame(kind, message, retry_after(headers) if kind.retryable else None)


class AzureMLProvider(RemoteProvider):
    """See `Provider`."""

    def __init__(self, spec: ModelSpec) -> None:
        remote = read_remote(spec)
        place, scoring = read_azureml(spec, answer_columns(spec, remote))
        super().__init__(spec, remote, AzureMLEndpoint(place, scoring), scoring.input.prompt)


def read_azureml(spec: ModelSpec, columns: Sequence[pa.Field]) -> tuple[Place, Scoring]:
    """The settings in a spec's options; `columns` are the OUTPUT columns but those of errors. Raises UnknownName and
    DeclarationError."""
    options.refuse_unknown(spec, (*SERVICE_OPTIONS, *REMOTE_OPTIONS))
    url = address(spec, "endpoint")
    key = header_text(spec, "api_key")
    if not key:
        raise DeclarationError(
            f"{spec.label}: option 'api_key' is missing, which provider 'azureml' needs",
            next_step="add 'api_key' = '{{ secret.AZUREML_API_KEY }}' to WITH (..): a key of the endpoint, or a token",
        )
    writes_text = spec.task is Task.TEXT_GENERATION
    scoring = read_scoring(spec, columns, InputFormat.TEXT if writes_text else InputFormat.INPUT_DATA)
    return Place(url, header_text(spec, "deployment"), key), scoring


def _unwrapped(body: bytes) -> bytes:
    """Scoring scripts often answer with a text that is JSON itself; it comes as a string of JSON."""
    if not body.startswith(b'"'):
        return body
    try:
        text = json.loads(body)
    except ValueError:
        return body
    return text.encode() if text.lstrip().startswith(("[", "{")) else body


def _reason(body: bytes) -> str | None:
    """The words of whatever answered: the gateway, the inference server, or the model's own code."""
    match fields_of(body):
        case {"error": {"message": str(text)}} | {"error": str(text)} | {"message": str(text)} | {"detail": str(text)}:
            return text
        case _:
            return None


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 500
