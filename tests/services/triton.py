"""A server that answers as Triton does over HTTP: health, metadata, inference in JSON and with binary tensors, its errors.

Bodies follow the KServe Open Inference Protocol, version 2, and Triton's "Binary tensor data extension".
tests/unit/models/remote/test_triton_service.py has Triton's own client read the answers.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.services.answers import vector_of
from tests.services.http import Asked, Reply

TOKEN = "triton-token-91c2"
POISON = -13.0
KINDS = {"INT64": "<i8", "INT32": "<i4", "FP32": "<f4", "FP64": "<f8", "FP16": "<f2", "BOOL": "?"}
FIELDS = {"id", "inputs", "outputs", "parameters"}

Tensors = Mapping[str, "np.ndarray[Any, Any]"]
Spec = tuple[str, str, list[int]]
"""Name, datatype, shape."""


@dataclass(frozen=True)
class Served:
    """A model: its tensors, and what it computes. `most` rows a request, 0 for a model without a dimension of rows."""

    inputs: list[Spec]
    outputs: list[Spec]
    compute: Callable[[Tensors], dict[str, np.ndarray[Any, Any]]]
    most: int = 16


def _scores(given: Tensors) -> dict[str, np.ndarray[Any, Any]]:
    hour, distance = given["hour"][:, 0].astype(float), given["distance"][:, 0]
    names = np.array([len(text) for text in given["carrier"][:, 0]])
    late = np.abs(np.sin(hour + distance + names)).astype("<f4")
    labels = np.array(["late" if one > 0.5 else "on time" for one in late], object)
    return {"label": labels[:, None], "probabilities": np.stack([1 - late, late], 1), "is_late": late[:, None] > 0.5}


def _embed(given: Tensors) -> dict[str, np.ndarray[Any, Any]]:
    return {"vector": np.array([vector_of(text, 4) for text in given["text"]], "<f2").reshape(-1, 4)}


MODELS: dict[str, Served] = {
    "scores": Served(
        [("hour", "INT64", [-1, 1]), ("distance", "FP32", [-1, 1]), ("carrier", "BYTES", [-1, 1])],
        [("label", "BYTES", [-1, 1]), ("probabilities", "FP32", [-1, 2]), ("is_late", "BOOL", [-1, 1])],
        _scores,
    ),
    "matrix": Served(
        [("input__0", "FP32", [-1, 3])],
        [("output__0", "FP32", [-1]), ("rank", "INT32", [-1])],
        lambda given: {"output__0": given["input__0"].sum(1), "rank": given["input__0"].argmax(1).astype("<i4")},
    ),
    "half": Served([("x", "FP16", [-1, 1])], [("y", "FP16", [-1, 1])], lambda given: {"y": (given["x"] * 2).astype("<f2")}),
    "embed": Served([("text", "BYTES", [-1])], [("vector", "FP16", [-1, 4])], _embed),
    "lists": Served(
        [("v", "FP64", [-1, -1])],
        [("total", "FP64", [-1, 1]), ("twice", "FP64", [-1, -1])],
        lambda given: {"total": given["v"].sum(1, keepdims=True), "twice": given["v"] * 2},
    ),
    "flat": Served([("v", "FP32", [3])], [("w", "FP32", [3])], lambda given: {"w": given["v"] * 2}, most=0),
    "one": Served([("x", "FP64", [1, 1])], [("y", "FP64", [1, 1])], lambda given: {"y": given["x"] * 2}, most=1),
}


@dataclass
class Triton:
    """The service. `scripted` are replies for the next inferences, None for one that is answered."""

    latency: float = 0.0
    ready: bool = True
    scripted: list[Reply | None] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)

    async def __call__(self, asked: Asked) -> Reply:
        if asked.headers.get("authorization", f"Bearer {TOKEN}") != f"Bearer {TOKEN}":
            return error(401, f"the token {asked.headers['authorization'].removeprefix('Bearer ')} is not known")
        match asked.path.strip("/").split("/"):
            case ["v2"]:
                return _json({"name": "triton", "version": "2.60.0", "extensions": ["binary_tensor_data"]})
            case ["v2", "health", "ready"]:
                return Reply(200 if self.ready else 503, b"")
            case ["v2", "health", "live"]:
                return Reply(200, b"")
            case ["v2", "models", name, *rest] if name in MODELS and rest[:2] in ([], ["versions", "2"], ["infer"], ["ready"]):
                return self._model(name, rest[-1] if rest else "", asked)
            case ["v2", "models", name, *_]:
                return error(404, f"Request for unknown model: '{name}' is not found")
            case _:
                return error(404, "Not Found")

    def _model(self, name: str, verb: str, asked: Asked) -> Reply:
        match verb:
            case "infer":
                if self.scripted and (scripted := self.scripted.pop(0)) is not None:
                    return scripted
                try:
                    return self._infer(name, MODELS[name], asked)
                except _Refused as refused:
                    return error(refused.status, str(refused))
            case "ready":
                return Reply(200, b"")
            case _:
                served = MODELS[name]
                parts = {"inputs": served.inputs, "outputs": served.outputs}
                listed = {
                    part: [{"name": one, "datatype": kind, "shape": shape} for one, kind, shape in tensors]
                    for part, tensors in parts.items()
                }
                return _json({"name": name, "versions": ["1", "2"], "platform": "onnxruntime_onnx", **listed})

    def _infer(self, name: str, served: Served, asked: Asked) -> Reply:
        size = int(asked.headers.get("inference-header-content-length", len(asked.body)))
        body, rest = json.loads(asked.body[:size]), asked.body[size:]
        if unknown := sorted(set(body) - FIELDS):
            raise _Refused(f"Unexpected request field '{unknown[0]}'")
        given: dict[str, np.ndarray[Any, Any]] = {}
        declared = {one: (kind, shape) for one, kind, shape in served.inputs}
        for tensor in body["inputs"]:
            rest = _take(tensor, rest, declared, name, given)
        if rest:
            raise _Refused("unexpected additional input data for model")
        if missing := sorted(set(declared) - set(given)):
            raise _Refused(f"expected {len(declared)} inputs but got {len(given)} inputs for model '{name}'. Missing {missing}")
        rows = len(next(iter(given.values()))) if served.most else 1
        if served.most and rows > served.most:
            raise _Refused(f"[request id: <id_unknown>] inference request batch-size must be <= {served.most} for '{name}'")
        self.rows.append(rows)
        for tensor in given.values():
            if tensor.dtype != object and (tensor == POISON).any():
                raise _Refused("Failed to process the request(s): ValueError: negative distance", 500)
        return self._answer(name, served, served.compute(given), body)

    def _answer(self, name: str, served: Served, computed: Tensors, body: Mapping[str, Any]) -> Reply:
        kinds = {one: kind for one, kind, _ in served.outputs}
        everything: list[dict[str, Any]] = [{"name": one} for one in kinds]
        described, parts = [], []
        asked: list[dict[str, Any]] = body.get("outputs") or everything
        for wanted in asked:
            if wanted["name"] not in kinds:
                raise _Refused(f"unexpected inference output '{wanted['name']}' for model '{name}'")
            values, kind = computed[wanted["name"]], kinds[wanted["name"]]
            said: dict[str, Any] = {"name": wanted["name"], "datatype": kind, "shape": list(values.shape)}
            plain = body.get("parameters", {}).get("binary_data_output", False)
            if wanted.get("parameters", {}).get("binary_data", plain):
                packed = _packed(kind, values)
                parts.append(packed)
                said["parameters"] = {"binary_data_size": len(packed)}
            elif kind == "FP16":
                raise _Refused(f"sending FP16 data via JSON is not supported for output '{wanted['name']}'")
            else:
                said["data"] = values.flatten().tolist()
            described.append(said)
        head = json.dumps({"model_name": name, "model_version": "2", "outputs": described}).encode()
        headers = (
            {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"} if parts else {}
        )
        return Reply(200, b"".join([head, *parts]), headers, seconds=self.latency)


class _Refused(Exception):
    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def _take(
    tensor: Mapping[str, Any],
    rest: bytes,
    declared: Mapping[str, tuple[str, list[int]]],
    model: str,
    given: dict[str, np.ndarray[Any, Any]],
) -> bytes:
    """Read one tensor into `given`; what is left of the binary part."""
    name, shape = tensor["name"], tensor["shape"]
    if name not in declared:
        raise _Refused(f"unexpected inference input '{name}' for model '{model}'")
    kind, wanted = declared[name]
    if tensor["datatype"] != kind:
        said = f"inference input '{name}' data-type is '{tensor['datatype']}', but model '{model}' expects '{kind}'"
        raise _Refused(said)
    if len(shape) != len(wanted) or any(size not in (-1, sent) for size, sent in zip(wanted, shape, strict=True)):
        raise _Refused(f"unexpected shape for input '{name}' for model '{model}'. Expected {wanted}, got {shape}.")
    size = tensor.get("parameters", {}).get("binary_data_size")
    if size is None:
        values, left = _of_json(name, kind, tensor["data"]), rest
    else:
        values, left = _of_bytes(kind, rest[:size]), rest[size:]
    if math.prod(shape) != len(values):
        raise _Refused(f"input '{name}' has {len(values)} elements, but the shape {shape} holds {math.prod(shape)}")
    given[name] = np.array(values, KINDS.get(kind, object)).reshape(shape)
    return left


def _of_json(name: str, kind: str, data: Sequence[Any]) -> list[Any]:
    if kind == "FP16":
        raise _Refused(f"receiving FP16 data via JSON is not supported. Please use the binary data format for input '{name}'")
    flat = list(np.array(data, object).flatten())
    fits: dict[str, type | tuple[type, ...]] = {"BYTES": str, "BOOL": bool}
    for value in flat:
        if not isinstance(value, fits.get(kind, (int, float))) or (isinstance(value, bool) and kind != "BOOL"):
            raise _Refused(f"Unable to parse 'data': value {value!r} is no {kind}")
    return flat


def _of_bytes(kind: str, content: bytes) -> list[Any]:
    if kind != "BYTES":
        values: list[Any] = np.frombuffer(content, KINDS[kind]).tolist()
        return values
    texts, place = [], 0
    while place < len(content):
        [size] = struct.unpack_from("<I", content, place)
        texts.append(content[place + 4 : place + 4 + size].decode())
        place += 4 + size
    return texts


def _packed(kind: str, values: np.ndarray[Any, Any]) -> bytes:
    if kind != "BYTES":
        return values.astype(KINDS[kind]).tobytes()
    texts = [str(text).encode() for text in values.flatten()]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def error(status: int, message: str) -> Reply:
    """An error as Triton writes it."""
    return Reply(status, json.dumps({"error": message}).encode())


def _json(body: object) -> Reply:
    return Reply(200, json.dumps(body).encode())
