"""A graph over pairs of texts, such as a cross-encoder that judges how well a text answers a query: one number a pair.

INPUT is two STRING columns, which the tokenizer joins as it joins pairs; a pair that is too long loses words of its longer
text. Pairs are sorted by length within a batch. A null on either side gives a null.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from lakeflow.errors import ModelError
from lakeflow.models.providers.onnx_layout import read_layout
from lakeflow.models.providers.onnx_outputs import answer_column, empty_answers, plan_answers
from lakeflow.models.providers.onnx_pooling import cut_by_tokens, padded
from lakeflow.models.providers.onnx_session import Array, Session, Tensor
from lakeflow.models.providers.onnx_settings import PairSettings
from lakeflow.models.providers.onnx_text import IDS, MASK, TYPES, input_types, open_tokenizer, pad_id
from lakeflow.models.providers.task_outputs import check_task
from lakeflow.models.spec import ModelSpec

Pair = tuple[str, str]


class PairGraph:
    """An opened model of pairs that fits its declaration. Raises ModelError where it does not."""

    def __init__(self, spec: ModelSpec, settings: PairSettings, path: Path) -> None:
        check_task(spec)
        self._spec = spec
        self._settings = settings
        self._layout = read_layout(spec.label, path)
        self._tokenizer = open_tokenizer(spec.label, self._layout, settings.max_tokens or self._layout.max_tokens)
        self._session = Session(spec.label, self._layout.graph, settings.session)
        self._types = input_types(spec.label, self._session)
        self._tensors = [tensor.name for tensor in self._session.outputs if tensor.dtype is not None]
        tried = self._run(self._encoded([("probe", "probe")]))
        measured = [
            Tensor(tensor.name, tensor.type, (None, *tried[tensor.name].shape[1:]))
            for tensor in self._session.outputs
            if tensor.name in tried
        ]
        [self._answer] = plan_answers(spec, measured, settings.outputs)

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """See `Provider.predict`."""
        size = self._settings.batch_size
        pieces = [self._window(rows.slice(start, size)) for start in range(0, rows.num_rows, size)]
        return pa.concat_batches(pieces) if pieces else empty_answers(self._spec.output)

    def _window(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        pairs = list(zip(rows.column(0).to_pylist(), rows.column(1).to_pylist(), strict=True))
        asked = np.array([left is not None and right is not None for left, right in pairs], dtype=bool)
        encoded = self._encoded([pair for pair, there in zip(pairs, asked, strict=True) if there])
        order = sorted(range(len(encoded)), key=lambda place: len(encoded[place][0]))
        lengths = [len(encoded[place][0]) for place in order]
        answers: Array | None = None
        for cut in cut_by_tokens(lengths, self._settings.batch_tokens, equal_lengths=MASK not in self._types):
            found = self._run([encoded[place] for place in order[cut]])[self._answer.source.tensor]
            if answers is None:
                answers = np.zeros((len(encoded), *found.shape[1:]), dtype=found.dtype)
            answers[order[cut]] = found
        kind = self._spec.output.field(0).type
        if answers is None:
            return pa.RecordBatch.from_arrays([pa.nulls(rows.num_rows, kind)], schema=self._spec.output)
        if not np.isfinite(answers).all():
            raise ModelError(f"{self._spec.label}: the graph {self._session.path} gave a number that is not finite")
        column = answer_column(self._spec.label, self._answer, answers, None if asked.all() else asked, rows.num_rows)
        return pa.RecordBatch.from_arrays([column], schema=self._spec.output)

    def _encoded(self, pairs: Sequence[Pair]) -> list[tuple[list[int], list[int]]]:
        """Of each pair its token ids, and which of the two texts each is of."""
        if self._layout.lower_case:
            pairs = [(left.lower(), right.lower()) for left, right in pairs]
        return [(one.ids, one.type_ids) for one in self._tokenizer.encode_batch(list(pairs))]

    def _run(self, encoded: Sequence[tuple[list[int], list[int]]]) -> dict[str, Array]:
        ids, mask = padded([each for each, _ in encoded], pad_id(self._tokenizer))
        types, _ = padded([each for _, each in encoded], 0)
        given = {IDS: ids, MASK: mask, TYPES: types}
        feeds = {name: given[name].astype(kind) for name, kind in self._types.items()}
        found = dict(zip(self._tensors, self._session.run(self._tensors, feeds), strict=True))
        wrong = [name for name, tensor in found.items() if len(tensor) != len(encoded)]
        if wrong:
            raise ModelError(
                f"{self._spec.label}: the graph's output {wrong[0]} has {len(found[wrong[0]])} rows for {len(encoded)} pairs"
            )
        return found
