"""Sessions of ONNX Runtime: opened, kept per process, run; its errors become ModelError here and nowhere else."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as native

from lakeflow.errors import ModelError, did_you_mean
from lakeflow.models.providers.onnx_settings import Optimization, SessionSettings

Array = npt.NDArray[Any]

SESSIONS_KEPT = 4
SILENT = 4
"""Log level "fatal": every other failure is raised, and would stand on stderr a second time."""

RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    native.EngineError,
    native.EPFail,
    native.Fail,
    native.InvalidArgument,
    native.InvalidGraph,
    native.InvalidProtobuf,
    native.ModelLoaded,
    native.ModelRequiresCompilation,
    native.NoModel,
    native.NoSuchFile,
    native.NotImplemented,
    native.RuntimeException,
    RuntimeError,
    TypeError,
    ValueError,
)
OPTIMIZATIONS = {
    Optimization.DISABLED: onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    Optimization.BASIC: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    Optimization.EXTENDED: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    Optimization.ALL: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
NUMPY_TYPES: Mapping[str, npt.DTypeLike] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int8)": np.int8,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a graph. `shape` holds None where the graph leaves a size open; None itself: no rank is said."""

    name: str
    type: str
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        sizes = "[..]" if self.shape is None else "[" + ", ".join("?" if n is None else str(n) for n in self.shape) + "]"
        return f"{self.name} {self.type}{sizes}"

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """What numpy calls the type; None for sequences, maps and types that no column has."""
        return np.dtype(NUMPY_TYPES[self.type]) if self.type in NUMPY_TYPES else None


class Session:
    """An opened graph. Thread-safe."""

    def __init__(self, label: str, path: Path, settings: SessionSettings) -> None:
        self.label = label
        self.path = path
        self._session = _session(label, path, settings)
        self.inputs = tuple(_tensor(node) for node in self._session.get_inputs())
        self.outputs = tuple(_tensor(node) for node in self._session.get_outputs())

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
        """The named outputs. Raises ModelError with the graph's own words and the shapes that it was given."""
        try:
            answers: list[Array] = self._session.run(outputs, feeds)
        except RUNTIME_ERRORS as error:
            shapes = ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in feeds.items())
            raise ModelError(f"{self.label}: the graph {self.path} fails on {shapes}: {_first_lines(error)}") from error
        return answers


_sessions: OrderedDict[tuple[str, int, SessionSettings], Any] = OrderedDict()
_lock = threading.Lock()


def _session(label: str, path: Path, settings: SessionSettings) -> Any:
    """The session of a file as it is now, one a process: opening takes seconds, and no session can be pickled."""
    available = onnxruntime.get_available_providers()
    if settings.execution_provider not in available:
        raise ModelError(
            f"{label}: option 'execution_provider' is {settings.execution_provider!r}"
            f"{did_you_mean(settings.execution_provider, available)}"
        )
    with _lock:
        key = (str(path), path.stat().st_mtime_ns, settings)
        if key not in _sessions:
            _sessions[key] = _open(label, path, settings)
        _sessions.move_to_end(key)
        while len(_sessions) > SESSIONS_KEPT:
            _sessions.popitem(last=False)
        return _sessions[key]


def _open(label: str, path: Path, settings: SessionSettings) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.intra_op_threads
    options.inter_op_num_threads = settings.inter_op_threads
    options.graph_optimization_level = OPTIMIZATIONS[settings.optimization]
    options.log_severity_level = SILENT
    for kind in ("intra_op", "inter_op"):
        options.add_session_config_entry(f"session.{kind}.allow_spinning", "1" if settings.allow_spinning else "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=[settings.execution_provider])
    except RUNTIME_ERRORS as error:
        raise ModelError(
            f"{label}: {path} is not a graph that ONNX Runtime {onnxruntime.__version__} can open: {_first_lines(error)}",
            next_step="export the model to ONNX again, and compare the size of the file with its origin",
        ) from error


def _tensor(node: Any) -> Tensor:
    shape = node.shape or None  # an unknown rank and a lone number both read []
    return Tensor(node.name, node.type, None if shape is None else tuple(n if isinstance(n, int) else None for n in shape))


def _first_lines(error: Exception) -> str:
    return " ".join(str(error).split())[:400]
