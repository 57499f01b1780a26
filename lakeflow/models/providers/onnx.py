"""Provider onnx: a graph run in this process by ONNX Runtime.

Over columns of numbers, strings and categories `model_path` is the graph's file. Over text (task embedding with one
STRING column) it is a folder in the layout that sentence-transformers publishes, or a graph in such a folder.
The options stand in onnx_settings.py; the rules in onnx_inputs.py, onnx_outputs.py, onnx_text.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from lakeflow.errors import ModelError
from lakeflow.models.providers.onnx_layout import graph_files, text_files
from lakeflow.models.providers.onnx_settings import TabularSettings, TextSettings, read_settings
from lakeflow.models.spec import ModelSpec

if TYPE_CHECKING:
    from lakeflow.models.providers.onnx_tabular import TabularGraph
    from lakeflow.models.providers.onnx_text import TextGraph

SPEED_ONLY = ("session", "batch_size", "batch_tokens", "threads")


class OnnxProvider:
    """See `Provider`. ONNX Runtime is imported by `check`, so that models can be listed without it."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._settings: TabularSettings | TextSettings = read_settings(spec)
        self._graph: TabularGraph | TextGraph | None = None

    def identity(self) -> Mapping[str, str | Path]:
        path = self._spec.path("model_path")
        settings = {name: str(getattr(self._settings, name)) for name in self._settings.__slots__ if name not in SPEED_ONLY}
        match self._settings:
            case TabularSettings():
                return {**settings, **graph_files(self._spec.label, path)}
            case TextSettings():
                return {**settings, **text_files(self._spec.label, path)}

    def check(self) -> None:
        match self._settings:
            case TabularSettings() as tabular:
                from lakeflow.models.providers.onnx_tabular import TabularGraph

                self._graph = TabularGraph(self._spec, tabular)
            case TextSettings() as text:
                from lakeflow.models.providers.onnx_text import TextGraph

                self._graph = TextGraph(self._spec, text)

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        if self._graph is None:
            raise ModelError(f"{self._spec.label} is asked before it was checked, or after it was closed")
        return self._graph.predict(rows)

    def close(self) -> None:
        self._graph = None
