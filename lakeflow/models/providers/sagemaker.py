"""Provider sagemaker: real-time endpoints of Amazon SageMaker, asked by InvokeEndpoint.

How rows go out and come back stands in scoring.py; who asks, in aws_access.py and aws_signing.py.
Source: the API reference of Amazon SageMaker Runtime, "InvokeEndpoint".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import pyarrow as pa

from lakeflow.errors import DeclarationError
from lakeflow.models import options
from lakeflow.models.providers.aws_access import ACCESS_OPTIONS, Access, read_access, service_address
from lakeflow.models.providers.aws_dialect import AwsDialect
from lakeflow.models.providers.aws_errors import AwsError, blame_of
from lakeflow.models.providers.declared import header_text
from lakeflow.models.providers.scoring import SCORING_OPTIONS, Scoring, kind_of_model, read_scoring
from lakeflow.models.providers.scoring_input import InputFormat
from lakeflow.models.remote.dialect import Blame, ErrorKind, Reading, Request, Row
from lakeflow.models.remote.provider import RemoteProvider, answer_columns
from lakeflow.models.remote.settings import REMOTE_OPTIONS, read_remote
from lakeflow.models.spec import ModelSpec, Task

SERVICE_OPTIONS = (*ACCESS_OPTIONS, *SCORING_OPTIONS, "prompt", "endpoint_name")
HEADERS = {
    "target_variant": "x-amzn-sagemaker-target-variant",
    "target_model": "x-amzn-sagemaker-target-model",
    "inference_component": "x-amzn-sagemaker-inference-component",
    "custom_attributes": "x-amzn-sagemaker-custom-attributes",
}
"""Options that go into headers, and so decide the answers."""
_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_WHOLE_ADDRESS = re.compile(r"(.*)/endpoints/([^/]+)/invocations")
_NOT_THERE = re.compile(r"not found|could not find|does not exist", re.IGNORECASE)
_TOO_LARGE = re.compile(r"length less than or equal to|request entity too large", re.IGNORECASE)
_TOO_SLOW = re.compile(r"timed out", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an endpoint is asked, as whom, and with which headers."""

    url: str
    name: str
    access: Access
    headers: Mapping[str, str]


class SageMakerEndpoint(AwsDialect):
    """See `Dialect`."""

    def __init__(self, place: Place, scoring: Scoring) -> None:
        sent = {"content-type": scoring.input.format.content_type, "accept": "application/json", **place.headers}
        super().__init__(place.url, place.access, "sagemaker", sent, takes_api_keys=False)
        self._place = place
        self._scoring = scoring
        self.columns = scoring.columns
        self.service_model = place.name
        self.rows_a_request = scoring.batch_size

    def identity(self) -> Mapping[str, str]:
        return {"url": self.url, **self._place.headers, **self._scoring.identity()}

    def request(self, rows: Sequence[Row]) -> Request:
        return self._scoring.request(rows)

    def read(self, body: bytes, rows: int) -> Reading | Blame:
        return self._scoring.read(body, rows)

    def blame(self, status: int, headers: Mapping[str, str], body: bytes) -> Blame:
        return blame_of(status, headers, body, judge)


class SageMakerProvider(RemoteProvider):
    """See `Provider`."""

    def __init__(self, spec: ModelSpec) -> None:
        remote = read_remote(spec)
        place, scoring = read_sagemaker(spec, answer_columns(spec, remote))
        self._aws = SageMakerEndpoint(place, scoring)
        super().__init__(spec, remote, self._aws, scoring.input.prompt)

    def check(self) -> None:
        self._aws.find_account(self._spec.label)
        super().check()


def read_sagemaker(spec: ModelSpec, columns: Sequence[pa.Field]) -> tuple[Place, Scoring]:
    """The settings in a spec's options; `columns` are the OUTPUT columns but those of errors. Raises UnknownName and
    DeclarationError."""
    options.refuse_unknown(spec, (*SERVICE_OPTIONS, *HEADERS, *REMOTE_OPTIONS))
    reads_text = len(spec.input) == 1 and pa.types.is_string(spec.input.field(0).type)
    default = InputFormat.TEXT if reads_text or spec.task is Task.TEXT_GENERATION else InputFormat.CSV
    return _place(spec), read_scoring(spec, columns, default)


def judge(error: AwsError) -> ErrorKind | None:
    """See `Judge`. A ModelError is what the model's container said, with its status beside it."""
    if error.code == "ModelError":
        if _TOO_SLOW.search(error.message):
            return ErrorKind.TIMEOUT
        status = error.fields.get("OriginalStatusCode")
        return kind_of_model(status if isinstance(status, int) else 500)
    if error.status == 400 and _TOO_LARGE.search(error.message):
        return ErrorKind.TOO_LARGE
    if error.code in ("ValidationError", "ValidationException") and _NOT_THERE.search(error.message):
        return ErrorKind.MISUSED
    return None


def _place(spec: ModelSpec) -> Place:
    """The option 'endpoint' is the service's base, or the whole address of the call as Confluent has it."""
    access = read_access(spec)
    base = service_address(spec, "runtime.sagemaker", access.region)
    whole = _WHOLE_ADDRESS.fullmatch(base)
    name = spec.options.get("endpoint_name", whole[2] if whole else "").strip()
    if not _NAME.fullmatch(name) or (whole and whole[2] != name):
        raise DeclarationError(
            f"{spec.label}: option 'endpoint_name' is {name!r}; valid: the name of an endpoint in {urlsplit(base).hostname}",
            next_step="add 'endpoint_name' = '..' to its WITH (..); aws sagemaker list-endpoints shows them",
        )
    headers = {header: text for option, header in HEADERS.items() if (text := header_text(spec, option))}
    return Place(f"{whole[1] if whole else base}/endpoints/{name}/invocations", name, access, headers)
