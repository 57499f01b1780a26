"""Provider triton: models of Triton Inference Server, and of any server of the KServe protocol, version 2, over HTTP.

The options stand in triton_settings.py, tensors in triton_tensors.py, what the server says of a model in triton_metadata.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from lakeflow.errors import DeclarationError, ModelError
from lakeflow.models import options
from lakeflow.models.providers.http_errors import fields_of, kind_of, retry_after, said
from lakeflow.models.providers.triton_metadata import Fit, fetched, fit_of
from lakeflow.models.providers.triton_settings import SERVICE_OPTIONS, TritonSettings, read_triton
from lakeflow.models.providers.triton_tensors import END_OF_JSON, Shapes, body_of, column_values, tensors_in
from lakeflow.models.remote.dialect import Answer, Blame, ErrorKind, Reading, Request, Row
from lakeflow.models.remote.provider import RemoteProvider, answer_columns
from lakeflow.models.remote.settings import REMOTE_OPTIONS, NullPolicy, read_remote
from lakeflow.models.shapes import check_answer
from lakeflow.models.spec import ModelSpec

_OWN = {500: ErrorKind.BROKEN_ANSWER}
"""A 500 is mostly the model's own failure over one of the rows: it is asked again a few times, then by halves."""
_TOO_MANY = re.compile(r"batch-size must be <=", re.IGNORECASE)
_TOO_SLOW = re.compile(r"timeout expired|timed out", re.IGNORECASE)
_NOT_THERE = re.compile(r"unknown model|no available versions|is not found|unexpected inference (input|output)", re.IGNORECASE)


class TritonModel:
    """See `Dialect`. Until `heed` is called it takes the model to have tensors as the protocol suggests."""

    def __init__(self, settings: TritonSettings, columns: tuple[str, ...]) -> None:
        self._settings = settings
        self.columns = columns
        self.url = f"{settings.url}/infer"
        self.service_model = settings.model
        self.rows_a_request = settings.batch_size
        self.secrets: tuple[str, ...] = (settings.token,) if settings.token else ()
        names = [output.name for output in settings.outputs]
        self.heed(Fit({}, one_row=False, binary_outputs=frozenset(names if settings.binary else ())))

    def heed(self, fit: Fit) -> None:
        """Take the model's shapes into account."""
        settings = self._settings
        self._shapes = Shapes(settings.flat, settings.binary, fit.ranks)
        self.rows_a_request = 1 if fit.one_row else settings.batch_size
        self._mixed = bool(fit.binary_outputs)
        names = dict.fromkeys(output.name for output in settings.outputs)
        self._outputs = [{"name": name, "parameters": {"binary_data": name in fit.binary_outputs}} for name in names]
        if not self._mixed:
            self._outputs = [{"name": name} for name in names]

    def headers(self) -> Mapping[str, str]:
        return self._settings.headers()

    def identity(self) -> Mapping[str, str]:
        settings = self._settings
        return {
            "url": self.url,
            "inputs": json.dumps([[one.name, one.columns, one.datatype] for one in settings.inputs]),
            "outputs": json.dumps([[one.name, one.index, one.column.name] for one in settings.outputs]),
            "flat": str(settings.flat),
        }

    def request(self, rows: Sequence[Row]) -> Request:
        settings = self._settings
        fixed = {"parameters": {"priority": settings.priority}} if settings.priority else {}
        return Request(body_of(settings.inputs, self._outputs, rows, self._shapes, fixed))

    async def sign(self, url: str, body: bytes) -> Mapping[str, str] | Blame:
        """Says where the JSON of a request ends, if tensors follow it."""
        end = body.find(END_OF_JSON) + 1
        return {"content-type": "application/octet-stream", "inference-header-content-length": str(end)} if end else {}

    def read(self, body: bytes, rows: int) -> Reading | Blame:
        try:
            tensors = tensors_in(body, self._mixed)
            outputs = self._settings.outputs
            columns = [column_values(output, tensors, rows, self._settings.flat) for output in outputs]
            answers: list[Answer] = list(zip(*columns, strict=True))
            for answer in answers:
                check_answer(answer, [output.column for output in outputs])
            return Reading(tuple(answers))
        except ModelError as error:
            return Blame(ErrorKind.BROKEN_ANSWER, error.message)

    def blame(self, status: int, headers: Mapping[str, str], body: bytes) -> Blame:
        message = said(fields_of(body).get("error"), body)
        kind = _kind(status, message)
        return Blame(kind, f"HTTP {status}: {message}", retry_after(headers) if kind.retryable else None)


class TritonProvider(RemoteProvider):
    """See `Provider`."""

    def __init__(self, spec: ModelSpec) -> None:
        options.refuse_unknown(spec, (*SERVICE_OPTIONS, *REMOTE_OPTIONS))
        remote = read_remote(spec)
        if remote.null_policy is NullPolicy.ASK:
            raise DeclarationError(
                f"{spec.label}: 'null_policy' = 'ask' is not possible: a tensor holds no null; valid: null, error"
            )
        self._triton = read_triton(spec, answer_columns(spec, remote))
        self._model = TritonModel(self._triton, tuple(spec.input.names))
        super().__init__(spec, remote, self._model)

    def check(self) -> None:
        """Also raises UnknownName for a tensor that the model does not have."""
        if self._asker is None:
            self._model.heed(fit_of(self._spec.label, self._triton, fetched(self._spec.label, self._triton)))
        super().check()


def _kind(status: int, message: str) -> ErrorKind:
    if _TOO_MANY.search(message):
        return ErrorKind.TOO_LARGE
    if _TOO_SLOW.search(message):
        return ErrorKind.TIMEOUT
    if status == 400 and _NOT_THERE.search(message):
        return ErrorKind.MISUSED
    return kind_of(status, _OWN)
