"""Provider onnx, or `local` with 'runtime' = 'onnx': a graph run in this process by ONNX Runtime.

Over columns of numbers, strings and categories `model_path` is the graph's file, or the folder that holds it. Over text
(task embedding with one STRING column) it is a folder in the layout that sentence-transformers publishes, or a graph in
such a folder, and so it is over pairs of texts ('text_pairs'). Either may lie on this disk or at s3:// or http(s)://, from
where it is fetched once (onnx_fetch.py). The options stand in onnx_settings.py and onnx_place.py; the rules in
onnx_inputs.py, onnx_outputs.py, onnx_text.py, onnx_pairs.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

import pyarrow as pa

from lakeflow.errors import ModelError
from lakeflow.models.providers.onnx_layout import TOKENIZER, graph_files, text_files
from lakeflow.models.providers.onnx_place import LocalPlace, RemotePlace, read_place
from lakeflow.models.providers.onnx_settings import PairSettings, TabularSettings, TextSettings, read_settings
from lakeflow.models.providers.task_outputs import require_answers
from lakeflow.models.remote.surroundings import Surroundings
from lakeflow.models.spec import ModelSpec

if TYPE_CHECKING:
    from lakeflow.models.providers.onnx_pairs import PairGraph
    from lakeflow.models.providers.onnx_tabular import TabularGraph
    from lakeflow.models.providers.onnx_text import TextGraph

SPEED_ONLY = ("session", "batch_size", "batch_tokens", "threads")
FETCHED = Path(".lakeflow", "models")
"""Where fetched models are kept, seen from the project."""


class OnnxProvider:
    """See `Provider`. ONNX Runtime is imported by `check`, so that models can be listed without it."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._settings: TabularSettings | TextSettings | PairSettings = read_settings(spec)
        self._is_text = isinstance(self._settings, TextSettings | PairSettings)
        self._place = read_place(spec, text=self._is_text)
        self._surroundings = Surroundings()
        self._graph: TabularGraph | TextGraph | PairGraph | None = None

    def surround(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings

    def identity(self) -> Mapping[str, str | Path]:
        """Files of this disk count by their bytes; those elsewhere by their checksum, so that nothing is fetched here."""
        settings = {name: str(getattr(self._settings, name)) for name in self._settings.__slots__ if name not in SPEED_ONLY}
        match self._place:
            case LocalPlace(path):
                return {**settings, **self._files(path)}
            case RemotePlace() as remote:
                return {**settings, "files": f"sha256:{remote.checksum}", "graph": remote.graph or ""}
            case _ as never:
                assert_never(never)

    def check(self) -> None:
        path = self._at_hand()
        match self._settings:
            case TabularSettings() as tabular:
                from lakeflow.models.providers.onnx_tabular import TabularGraph

                self._graph = TabularGraph(self._spec, tabular, path)
            case TextSettings() as text:
                from lakeflow.models.providers.onnx_text import TextGraph

                self._graph = TextGraph(self._spec, text, path)
            case PairSettings() as pairs:
                from lakeflow.models.providers.onnx_pairs import PairGraph

                self._graph = PairGraph(self._spec, pairs, path)
            case _ as never:
                assert_never(never)

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        if self._graph is None:
            raise ModelError(f"{self._spec.label} is asked before it was checked, or after it was closed")
        return require_answers(self._spec, self._graph.predict(rows))

    def token_starts(self, text: str) -> Sequence[int] | None:
        """See `Tokenizing`."""
        from lakeflow.models.providers.onnx_text import TextGraph

        return self._graph.places.starts(text) if isinstance(self._graph, TextGraph) else None

    def close(self) -> None:
        self._graph = None

    def _files(self, path: Path) -> Mapping[str, Path]:
        return text_files(self._spec.label, path) if self._is_text else graph_files(self._spec.label, path)

    def _at_hand(self) -> Path:
        """The graph or folder on this disk, with the checksum that is declared. Raises as `Fetcher.fetched` does."""
        from lakeflow.models.providers.onnx_fetch import Fetcher, require_checksum
        from lakeflow.models.providers.onnx_stores import open_store

        label = self._spec.label
        match self._place:
            case LocalPlace(path, checksum):
                if checksum is not None:
                    require_checksum(label, str(path), checksum, self._named(path))
                return path
            case RemotePlace() as remote:
                around = self._surroundings
                fetcher = Fetcher(label, remote, self._is_text, self._spec.root / FETCHED, stop=lambda: around.stop())
                return fetcher.fetched(lambda: open_store(label, remote, around.storage))
            case _ as never:
                assert_never(never)

    def _named(self, path: Path) -> Mapping[str, Path]:
        """The files by their names in the model's folder."""
        files = self._files(path)
        folder = path if path.is_dir() else files.get(TOKENIZER, path).parent
        return {file.relative_to(folder).as_posix(): file for file in files.values()}
