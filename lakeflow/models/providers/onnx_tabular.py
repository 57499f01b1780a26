"""A graph over columns: features in, OUTPUT columns out, in batches of bounded size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from lakeflow.errors import ModelError
from lakeflow.models.providers.onnx_inputs import Features, Feed, build_features, plan_inputs
from lakeflow.models.providers.onnx_layout import graph_files
from lakeflow.models.providers.onnx_outputs import answer_column, empty_answers, plan_answers
from lakeflow.models.providers.onnx_session import Array, Session, Tensor
from lakeflow.models.providers.onnx_settings import TabularSettings
from lakeflow.models.providers.task_outputs import check_task
from lakeflow.models.spec import ModelSpec

CONVERTED_ROWS = 32_768
"""Rows turned into arrays at a time: many enough that the turning costs little, few enough to stay in the cache."""


class TabularGraph:
    """An opened graph that fits its declaration. Raises ModelError where it does not."""

    def __init__(self, spec: ModelSpec, settings: TabularSettings, path: Path) -> None:
        check_task(spec)
        self._spec = spec
        self._settings = settings
        self._session = Session(spec.label, graph_files(spec.label, path)["graph"], settings.session)
        self._feeds = plan_inputs(spec.label, spec.input, self._session.inputs)
        plain = [tensor for tensor in self._session.outputs if tensor.dtype is not None]
        measured = _measured(self._session, self._feeds, plain)
        others = [tensor for tensor in self._session.outputs if tensor.dtype is None]
        self._answers = plan_answers(spec, [*measured, *others], settings.outputs)
        self._asked_for = tuple(dict.fromkeys(answer.source.tensor for answer in self._answers))

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """See `Provider.predict`."""
        size = self._settings.batch_size
        step = size * max(1, CONVERTED_ROWS // size)
        pieces = [self._chunk(rows.slice(start, step), start) for start in range(0, rows.num_rows, step)]
        match pieces:
            case []:
                return empty_answers(self._spec.output)
            case [piece]:
                return piece
            case _:
                return pa.concat_batches(pieces)

    def _chunk(self, rows: pa.RecordBatch, first_row: int) -> pa.RecordBatch:
        label = self._spec.label
        features = build_features(label, rows, self._feeds, self._settings, first_row)
        tensors = self._run(features)
        columns = [
            answer_column(label, answer, tensors[answer.source.tensor], features.asked, features.rows)
            if tensors
            else pa.nulls(features.rows, answer.column.type)
            for answer in self._answers
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self._spec.output)

    def _run(self, features: Features) -> dict[str, Array]:
        """The tensors over all rows that are asked; none at all where no row is."""
        rows = len(next(iter(features.arrays.values())))
        size = self._settings.batch_size
        if rows <= size:
            return dict(zip(self._asked_for, self._session_run(features, 0, rows), strict=True)) if rows else {}
        whole: list[Array] = []
        for start in range(0, rows, size):
            stop = min(start + size, rows)
            parts = self._session_run(features, start, stop)
            if not whole:
                whole = [np.empty((rows, *part.shape[1:]), dtype=part.dtype) for part in parts]
            for target, part in zip(whole, parts, strict=True):
                target[start:stop] = part
        return dict(zip(self._asked_for, whole, strict=True))

    def _session_run(self, features: Features, start: int, stop: int) -> list[Array]:
        feeds = {name: array[start:stop] for name, array in features.arrays.items()}
        tensors = self._session.run(self._asked_for, feeds)
        for name, tensor in zip(self._asked_for, tensors, strict=True):
            if not tensor.shape or tensor.shape[0] != stop - start:
                raise ModelError(
                    f"{self._spec.label}: the graph's output {name} has the shape {list(tensor.shape)} for {stop - start} rows"
                )
        return tensors


def _measured(session: Session, feeds: Sequence[Feed], outputs: Sequence[Tensor]) -> list[Tensor]:
    """The outputs with the sizes that a run really gives; graphs leave them open, or promise what they do not hold.

    The run is over no rows, which asks no encoder about a category that it may not know. Graphs that cannot do that
    are run over one row of zeros. Raises ModelError with the graph's own words where it fails on both.
    """
    names = [tensor.name for tensor in outputs]
    if not names:
        return []
    try:
        arrays = session.run(names, _blank(feeds, 0))
    except ModelError:
        arrays = session.run(names, _blank(feeds, 1))
    return [
        Tensor(tensor.name, tensor.type, (None, *array.shape[1:]) if array.ndim else None)
        for tensor, array in zip(outputs, arrays, strict=True)
    ]


def _blank(feeds: Sequence[Feed], rows: int) -> dict[str, Array]:
    blank: dict[str, Array] = {}
    for feed in feeds:
        dtype = feed.tensor.dtype
        assert dtype is not None, "plan_inputs has refused the others"
        shape = (rows, 1 if feed.width is None else feed.width) if feed.matrix else (rows,)
        blank[feed.tensor.name] = np.full(shape, "" if dtype.kind == "O" else 0, dtype=dtype)
    return blank
