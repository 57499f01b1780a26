"""A graph over text: tokenised here, run by length, pooled and normalised as its folder's configuration says.

A null text gives a null vector. So does a text without a single token; the empty text is one only where the
tokenizer adds no token of its own (BERT's does, and its vector is the model's). The output taken is, in this order:
the one that 'outputs' names, `sentence_embedding`, `last_hidden_state` or `token_embeddings`, the only one. With
[texts, tokens, width] tokens are pooled; [texts, width] is taken as it is. A graph without an attention mask is
given only texts of one length at a time, so that padding never touches a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from lakeflow.errors import ModelError
from lakeflow.models.providers.onnx_layout import TextLayout, read_layout
from lakeflow.models.providers.onnx_outputs import Answer, answer_column, empty_answers
from lakeflow.models.providers.onnx_pooling import Floats, cut_by_tokens, normalized, padded, pooled
from lakeflow.models.providers.onnx_session import Session, Tensor
from lakeflow.models.providers.onnx_settings import Pooling, TensorRef, TextSettings
from lakeflow.models.providers.onnx_tokens import TokenPlaces
from lakeflow.models.providers.task_outputs import check_task
from lakeflow.models.spec import ModelSpec

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
POOLED_NAME = "sentence_embedding"
TOKEN_NAMES = ("last_hidden_state", "token_embeddings")
PROBE = "probe"


class TextGraph:
    """An opened text model that fits its declaration. Raises ModelError where it does not."""

    def __init__(self, spec: ModelSpec, settings: TextSettings, path: Path) -> None:
        check_task(spec)
        self._spec = spec
        self._settings = settings
        self._layout = read_layout(spec.label, path)
        self._tokenizer = open_tokenizer(spec.label, self._layout, settings.max_tokens or self._layout.max_tokens)
        self.places = TokenPlaces(self._tokenizer, lower_case=self._layout.lower_case)
        self._session = Session(spec.label, self._layout.graph, settings.session)
        self._types = input_types(spec.label, self._session)
        self._output = _output(spec, self._session, settings)
        self._pooling = settings.pooling or self._layout.pooling
        self._normalize = self._layout.normalize if settings.normalize is None else settings.normalize
        self._answer = Answer(spec.output.field(0), TensorRef(self._output))
        self._width = self._measured_width()

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """See `Provider.predict`."""
        size = self._settings.batch_size
        pieces = [self._window(rows.column(0).slice(start, size)) for start in range(0, rows.num_rows, size)]
        return pa.concat_batches(pieces) if pieces else empty_answers(self._spec.output)

    def _window(self, column: pa.Array) -> pa.RecordBatch:
        """The vectors of one stretch of texts, which are sorted by length within it and put back in order."""
        texts = column.drop_null().to_pylist()
        asked = column.is_valid().to_numpy(zero_copy_only=False)
        tokens = self._tokens(texts)
        asked[asked] = [bool(text) for text in tokens]
        present = [text for text in tokens if text]
        vectors = np.empty((len(present), self._width), dtype=np.float32)
        order = sorted(range(len(present)), key=lambda place: len(present[place]))
        lengths = [len(present[place]) for place in order]
        cuts = cut_by_tokens(lengths, self._settings.batch_tokens, equal_lengths=MASK not in self._types)

        def fill(cut: slice) -> None:
            vectors[order[cut]] = self._embed([present[place] for place in order[cut]])

        if self._settings.threads == 1 or len(cuts) < 2:
            for cut in cuts:
                fill(cut)
        else:
            with ThreadPoolExecutor(self._settings.threads, thread_name_prefix="embed") as pool:
                for _ in pool.map(fill, cuts):
                    pass
        answers = answer_column(self._spec.label, self._answer, vectors, None if asked.all() else asked, len(column))
        return pa.RecordBatch.from_arrays([answers], schema=self._spec.output)

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        if self._layout.lower_case:
            texts = [text.lower() for text in texts]
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]

    def _embed(self, tokens: Sequence[Sequence[int]]) -> Floats:
        ids, mask = padded(tokens, pad_id(self._tokenizer))
        given = {IDS: ids, MASK: mask, TYPES: np.zeros_like(ids)}
        output = self._session.run([self._output], {name: given[name].astype(kind) for name, kind in self._types.items()})[0]
        vectors = self._sentence_vectors(output, mask) if output.ndim == 3 else output.astype(np.float32, copy=False)
        if vectors.ndim != 2 or len(vectors) != len(tokens):
            raise ModelError(
                f"{self._spec.label}: the graph's output {self._output} has the shape {list(output.shape)} "
                f"for {len(tokens)} texts; valid: [texts, width], [texts, tokens, width]"
            )
        if not np.isfinite(vectors).all():
            raise ModelError(f"{self._spec.label}: the graph {self._session.path} gave a vector that is not finite")
        return normalized(vectors) if self._normalize else vectors

    def _sentence_vectors(self, output: Floats, mask: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Floats:
        if self._pooling is None or (self._layout.beyond_pooling and self._settings.pooling is None):
            beyond = ", ".join(self._layout.beyond_pooling)
            raise ModelError(
                f"{self._spec.label}: the graph's output {self._output} has a vector for each token, and the folder of "
                f"{self._layout.graph} {f'asks for {beyond} after pooling' if beyond else 'does not say how to pool them'}; "
                f"understood: {', '.join(Pooling)}",
                next_step="set 'pooling' in its WITH (..) as the model was trained, or export it with pooling inside",
            )
        return pooled(output, mask, self._pooling)

    def _measured_width(self) -> int:
        tokens = self._tokens([PROBE])[0] or [pad_id(self._tokenizer)]
        width = int(self._embed([tokens]).shape[1])
        kind = self._spec.output.field(0).type
        if pa.types.is_fixed_size_list(kind) and kind.list_size != width:
            raise ModelError(
                f"{self._spec.label}: OUTPUT column {self._spec.output.names[0]!r} holds {kind.list_size} values, "
                f"the model's vectors hold {width}"
            )
        return width


def open_tokenizer(label: str, layout: TextLayout, max_tokens: int) -> Tokenizer:
    """The tokenizer of a folder, which pads nothing and cuts at `max_tokens`. Raises ModelError where it is none."""
    try:
        tokenizer: Tokenizer = Tokenizer.from_file(str(layout.tokenizer))
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_tokens)
    except Exception as error:  # the library raises nothing more precise
        raise ModelError(f"{label}: {layout.tokenizer} is not a tokenizer that can be opened: {error}") from error
    return tokenizer


def pad_id(tokenizer: Tokenizer) -> int:
    """The id of the token that fills short texts up; 0 where there is none."""
    return next((found for word in ("[PAD]", "<pad>") if (found := tokenizer.token_to_id(word)) is not None), 0)


def input_types(label: str, session: Session) -> dict[str, np.dtype[np.generic]]:
    """The graph's inputs, each with its type. Raises ModelError for one that a tokenizer does not fill."""
    known = (IDS, MASK, TYPES)
    types: dict[str, np.dtype[np.generic]] = {}
    for tensor in session.inputs:
        rank = len(tensor.shape) if tensor.shape is not None else 2
        if tensor.name not in known or tensor.dtype is None or tensor.dtype.kind not in "iuf" or rank != 2:
            raise ModelError(
                f"{label}: the graph's input {tensor} is none that a tokenizer fills; "
                f"valid: {', '.join(known)}, each of integers [texts, tokens]"
            )
        types[tensor.name] = tensor.dtype
    if IDS not in types:
        raise ModelError(f"{label}: the graph has no input {IDS}; its inputs: {'; '.join(map(str, session.inputs))}")
    return types


def _output(spec: ModelSpec, session: Session, settings: TextSettings) -> str:
    """The name of the output taken; see the head of this file."""
    known: dict[str, Tensor] = {tensor.name: tensor for tensor in session.outputs}
    named = [source.tensor for source in settings.outputs.values()]
    usual = [name for name in (POOLED_NAME, *TOKEN_NAMES) if name in known]
    alone = list(known) if len(known) == 1 else []
    chosen = (named or usual or alone or [""])[0]
    if chosen not in known:
        problem = f"the graph has no output {chosen!r}" if chosen else "it is not clear which output is the embedding"
        raise ModelError(
            f"{spec.label}: {problem}; its outputs: {'; '.join(map(str, known.values()))}",
            next_step=f"say which in its WITH (..): 'outputs' = '{next(iter(known))}:{spec.output.names[0]}'",
        )
    dtype = known[chosen].dtype
    if dtype is None or dtype.kind != "f":
        raise ModelError(f"{spec.label}: the graph's output {known[chosen]} holds no floats")
    return chosen
