"""What a server says of itself and of a model, held against the declaration before any row is asked.

Source: the KServe "Open Inference Protocol, version 2": server ready, model metadata.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lakeflow.errors import ModelError, ProviderUnavailable, UnknownName
from lakeflow.models.providers.http_errors import fields_of, said
from lakeflow.models.providers.triton_settings import InputTensor, OutputTensor, TritonSettings, may_fill
from lakeflow.models.providers.triton_tensors import ONLY_BINARY
from lakeflow.models.remote.dialect import without_secrets

CHECK_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class TensorShape:
    """A tensor as the model declares it; -1 is a dimension of any size."""

    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Fit:
    """What a request has to heed: `ranks` as in `Shapes`, whether the model takes one row at a time, and which outputs JSON
    cannot hold."""

    ranks: Mapping[str, int]
    one_row: bool
    binary_outputs: frozenset[str]


def fetched(label: str, settings: TritonSettings) -> Mapping[str, Any]:
    """The model's metadata. Raises ProviderUnavailable where the server is away or not ready, ModelError where the model is
    not there."""
    import httpx

    base = settings.base
    try:
        with httpx.Client(headers=dict(settings.headers()), timeout=CHECK_SECONDS) as client:
            ready = client.get(f"{base}/v2/health/ready")
            answer = client.get(settings.url) if ready.status_code == 200 else ready
    except httpx.HTTPError as error:
        raise ProviderUnavailable(
            f"{label}: {base} does not answer: {str(error) or type(error).__name__}", next_step=f"curl {base}/v2/health/ready"
        ) from error
    content = without_secrets(answer.content, (settings.token,))
    reason = said(fields_of(content).get("error"), content)
    if settings.token:
        reason = reason.replace(settings.token, "***")
    if answer.status_code in (401, 403):
        raise ModelError(
            f"{label}: {base} does not let it in: HTTP {answer.status_code}: {reason}",
            next_step="check the secret that its auth_token names",
        )
    if ready.status_code != 200:
        raise ProviderUnavailable(
            f"{label}: {base} is not ready: HTTP {ready.status_code}: {reason}", next_step=f"curl {base}/v2/health/ready"
        )
    if answer.status_code != 200:
        raise ModelError(
            f"{label}: {base} has no model {settings.model!r}: HTTP {answer.status_code}: {reason}",
            next_step=f"curl {settings.url}",
        )
    return fields_of(answer.content)


def fit_of(label: str, settings: TritonSettings, metadata: Mapping[str, Any]) -> Fit:
    """Raises ModelError where tensors are of other types or shapes than declared, UnknownName where one is not there."""
    inputs, outputs = _tensors(label, metadata, "inputs"), _tensors(label, metadata, "outputs")
    sent = {tensor.name for tensor in settings.inputs}
    for tensor in settings.inputs:
        if tensor.name not in inputs:
            raise UnknownName(
                f"input of {label} on the server",
                tensor.name,
                inputs,
                next_step="name INPUT columns as the model's inputs, or put them all into one with 'input_name'",
            )
        _check_input(label, settings, tensor, inputs[tensor.name])
    missing = sorted(set(inputs) - sent)
    if missing:
        raise ModelError(
            f"{label}: the model also reads {missing[0]!r}, which INPUT does not declare; it reads {_listed(inputs)}"
        )
    for wanted in settings.outputs:
        _check_output(label, settings, wanted, outputs)
    ranks = {name: len(tensor.shape) for name, tensor in inputs.items()}
    one_row = any(tensor.shape[:1] == (1,) for tensor in inputs.values()) and not settings.flat
    wide = {wanted.name for wanted in settings.outputs if settings.binary or outputs[wanted.name].datatype in ONLY_BINARY}
    return Fit(ranks, one_row, frozenset(wide))


def _check_input(label: str, settings: TritonSettings, tensor: InputTensor, there: TensorShape) -> None:
    if there.datatype != tensor.datatype:
        named = ", ".join(f"{column}:{there.datatype}" for column in tensor.columns)
        raise ModelError(
            f"{label}: {tensor.name!r} is sent as {tensor.datatype}, and the model reads {there.datatype}",
            next_step=f"declare the column so in INPUT, or add 'input_types' = '{named}'",
        )
    inner = there.shape if settings.flat else there.shape[1:]
    alone = tensor.width == 1 and not tensor.joined and inner == ()
    fits = bool(inner) if tensor.width is None else alone or inner in ((-1,), (tensor.width,))
    if not settings.flat and there.shape[:1] not in ((-1,), (1,)):
        raise ModelError(
            f"{label}: {tensor.name!r} has the shape {list(there.shape)}, whose first dimension is not that of rows",
            next_step="add 'flatten_batch_dim' = 'true' where the model takes one row without a dimension for it",
        )
    if not fits:
        what = "a list" if tensor.width is None else f"{tensor.width} values" if tensor.joined else "one value"
        raise ModelError(f"{label}: {tensor.name!r} is {what} a row, and the model reads the shape {list(there.shape)}")


def _check_output(label: str, settings: TritonSettings, wanted: OutputTensor, outputs: Mapping[str, TensorShape]) -> None:
    if wanted.name not in outputs:
        raise UnknownName(
            f"output of {label} on the server",
            wanted.name,
            outputs,
            next_step=f"add 'outputs' = 'tensor:{wanted.column.name}' with the name of the model's output",
        )
    there = outputs[wanted.name]
    if not may_fill(there.datatype, wanted.column.type):
        raise ModelError(
            f"{label}: OUTPUT {wanted.column.name!r} is {wanted.column.type}, and {wanted.name!r} is {there.datatype}"
        )
    inner = there.shape if settings.flat else there.shape[1:]
    known = [size for size in inner if size >= 0]
    if wanted.index is not None and len(inner) == 1 and known and wanted.index >= known[0]:
        raise ModelError(f"{label}: 'outputs' takes place {wanted.index} of {wanted.name!r}, which has {known[0]} a row")


def _tensors(label: str, metadata: Mapping[str, Any], part: str) -> Mapping[str, TensorShape]:
    found: dict[str, TensorShape] = {}
    listed: Sequence[object] = metadata.get(part) or ()
    for one in listed:
        match one:
            case {"name": str(name), "datatype": str(datatype), "shape": [*shape]}:
                found[name] = TensorShape(datatype, tuple(int(size) for size in shape))
            case _:
                raise ModelError(f"{label}: the server's metadata cannot be read: {str(one)[:80]}")
    if not found:
        raise ModelError(f"{label}: the server's metadata names no {part}")
    return found


def _listed(tensors: Mapping[str, TensorShape]) -> str:
    return ", ".join(f"{name} {tensor.datatype} {list(tensor.shape)}" for name, tensor in sorted(tensors.items()))
