from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pyarrow as pa
import pytest

from lakeflow.errors import ModelError
from lakeflow.models.providers.onnx import OnnxProvider
from lakeflow.models.providers.onnx_pooling import cut_by_tokens, normalized
from tests.unit.models import graphs
from tests.unit.models.graphs import TABLE, WORDS

TEXTS = ["late flight", "storm", None, "", "gate late late storm", "unknown words here"]
VECTOR = {"v": pa.list_(pa.float32())}


def opened(folder: Path, output: dict[str, pa.DataType] | None = None, **options: str) -> OnnxProvider:
    provider = OnnxProvider(graphs.spec(folder.parent, folder, {"t": pa.string()}, output or VECTOR, "embedding", **options))
    provider.check()
    return provider


def embed(provider: OnnxProvider, texts: Sequence[str | None]) -> list[list[float]]:
    """The vectors; a null one comes out empty."""
    rows = pa.RecordBatch.from_pydict({"t": texts}, schema=pa.schema([("t", pa.string())]))
    return [vector or [] for vector in provider.predict(rows).column(0).to_pylist()]


def tokens(text: str, *, special: bool = True) -> npt.NDArray[np.float32]:
    ids = [WORDS.index(word) if word in WORDS else 1 for word in text.split()]
    return TABLE[[2, *ids, 3] if special else ids]


@pytest.mark.parametrize(("pooling", "reduce"), [("mean", np.mean), ("max", np.max), ("cls", lambda v, axis: v[0])])
@pytest.mark.parametrize("normalize", [True, False])
def test_token_vectors_are_pooled_as_the_folder_says(tmp_path: Path, pooling: str, reduce: object, normalize: bool) -> None:
    assert callable(reduce)
    provider = opened(graphs.text_model(tmp_path / "model", pooling=pooling, normalize=normalize))
    for text, vector in zip(TEXTS, embed(provider, TEXTS), strict=True):
        if text is None:
            assert vector == []
            continue
        expected = reduce(tokens(text), axis=0)
        np.testing.assert_allclose(vector, expected / np.linalg.norm(expected) if normalize else expected, rtol=1e-5)


@pytest.mark.parametrize(
    "inputs",
    [("input_ids",), ("input_ids", "attention_mask"), ("input_ids", "attention_mask", "token_type_ids")],
)
@pytest.mark.parametrize("outputs", [("last_hidden_state",), ("last_hidden_state", "pooler_output")])
def test_every_set_of_inputs_is_understood(tmp_path: Path, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
    provider = opened(graphs.text_model(tmp_path / "model", inputs=inputs, outputs=outputs))
    for text, vector in zip(TEXTS, embed(provider, TEXTS), strict=True):
        if text is not None:
            np.testing.assert_allclose(vector, tokens(text).mean(axis=0), rtol=1e-5)


def test_a_graph_that_pools_without_a_mask_sees_no_padding(tmp_path: Path) -> None:
    """As static embeddings do: ids in, the mean of their vectors out; a pad token among them would count."""
    folder = graphs.text_model(
        tmp_path / "model", inputs=("input_ids",), outputs=("sentence_embedding",), pooling=None, special=False
    )
    vectors = embed(opened(folder), TEXTS)
    assert vectors[2] == []
    assert vectors[3] == [], "the empty text has no token here"
    for place in (0, 1, 4, 5):
        np.testing.assert_allclose(vectors[place], tokens(TEXTS[place] or "", special=False).mean(axis=0), rtol=1e-5)


def test_long_texts_are_cut_at_the_configured_length_with_their_last_token_kept(tmp_path: Path) -> None:
    folder = graphs.text_model(tmp_path / "model", max_tokens=5)
    text = "late flight storm gate late"
    np.testing.assert_allclose(embed(opened(folder), [text])[0], tokens("late flight storm").mean(axis=0), rtol=1e-5)
    whole = opened(folder, max_tokens="100")
    np.testing.assert_allclose(embed(whole, [text])[0], tokens(text).mean(axis=0), rtol=1e-5)


def test_options_win_over_the_folder(tmp_path: Path) -> None:
    folder = graphs.text_model(tmp_path / "model", pooling=None, normalize=True)
    provider = opened(folder, pooling="cls", normalize="false", threads="2", batch_tokens="4", batch_size="2")
    np.testing.assert_allclose(embed(provider, ["late storm", "gate", "flight"]), np.tile(TABLE[2], (3, 1)), rtol=1e-6)


def check_fails(folder: Path, *words: str, output: dict[str, pa.DataType] | None = None, **options: str) -> None:
    with pytest.raises(ModelError) as caught:
        opened(folder, output, **options)
    for word in ("model 'm'", *words):
        assert word in str(caught.value)


def test_check_says_what_does_not_fit(tmp_path: Path) -> None:
    check_fails(tmp_path / "none", str(tmp_path / "none"), "is not there")
    (tmp_path / "empty").mkdir()
    check_fails(tmp_path / "empty", "holds none of model.onnx, onnx/model.onnx")
    check_fails(graphs.text_model(tmp_path / "unpooled", pooling=None), "does not say how to pool", "mean, cls, max")
    good = graphs.text_model(tmp_path / "good")
    check_fails(good, "holds 4 values", "hold 3", output={"v": pa.list_(pa.float32(), 4)})
    check_fails(good, "task 'embedding' needs", output={"v": pa.string()})
    check_fails(good, "no output 'vectors'", outputs="vectors:v")
    check_fails(graphs.text_model(tmp_path / "positions", inputs=("input_ids", "position_ids")), "input position_ids")
    two = graphs.text_model(tmp_path / "two", outputs=("pooler_output", "other"))
    check_fails(two, "not clear which output")


def test_check_says_which_file_of_the_folder_is_broken(tmp_path: Path) -> None:
    folder = graphs.text_model(tmp_path / "model")
    (folder / "modules.json").write_text("{")
    check_fails(folder, "modules.json cannot be read as JSON")
    (folder / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}]))
    check_fails(folder, "asks for Dense after pooling")
    (folder / "modules.json").unlink()
    (folder / "tokenizer.json").write_text("{}")
    check_fails(folder, "tokenizer.json is not a tokenizer")
    (folder / "tokenizer.json").unlink()
    check_fails(folder, "tokenizer.json is not there")


def test_runs_are_cut_by_tokens_after_padding() -> None:
    assert cut_by_tokens([], 8) == []
    assert cut_by_tokens([1, 2, 4, 4, 9, 9], 8) == [slice(0, 2), slice(2, 4), slice(4, 5), slice(5, 6)]
    assert cut_by_tokens([2, 2, 3], 100, equal_lengths=True) == [slice(0, 2), slice(2, 3)]


def test_a_zero_vector_stays_one() -> None:
    vectors = normalized(np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32))
    np.testing.assert_allclose(vectors, [[0.6, 0.8], [0.0, 0.0]], rtol=1e-6)


@pytest.fixture(scope="module")
def minilm() -> Path:
    root = os.environ.get("LAKEFLOW_TEST_MODELS")
    if root is None:
        reason = "LAKEFLOW_TEST_MODELS names no folder that holds minilm/"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return Path(root) / "minilm"


def reference(folder: Path) -> tuple[list[str | None], npt.NDArray[np.float32]]:
    texts = json.loads((folder / "reference/texts.json").read_text())
    vectors: npt.NDArray[np.float32] = np.load(folder / "reference/vectors.npy")
    return texts, vectors


def cosines(left: list[list[float]], right: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    both = normalized(np.asarray(left, dtype=np.float32)) * normalized(right)
    return np.asarray(both.sum(axis=1), dtype=np.float32)


def test_minilm_gives_the_vectors_of_sentence_transformers(minilm: Path) -> None:
    texts, vectors = reference(minilm)
    answers = embed(opened(minilm, {"v": pa.list_(pa.float32(), 384)}, threads="2"), texts)
    assert cosines(answers, vectors).min() > 0.999


def test_minilm_gives_the_same_vectors_in_any_batch_and_by_token_outputs(minilm: Path, tmp_path: Path) -> None:
    texts, vectors = reference(minilm)
    chosen = sorted(range(len(texts)), key=lambda place: len(texts[place] or ""))[:12]
    some = [texts[place] for place in chosen]
    together = embed(opened(minilm), some)
    alone = embed(opened(minilm, batch_tokens="1", batch_size="5"), some)
    assert cosines(together, np.asarray(alone, dtype=np.float32)).min() > 0.99999
    by_token = embed(opened(_with_token_output(minilm, tmp_path / "tokens")), some)
    assert cosines(by_token, vectors[chosen]).min() > 0.999


def test_minilm_with_weights_of_eight_bits_gives_nearly_its_vectors(minilm: Path) -> None:
    texts, vectors = reference(minilm)
    answers = embed(opened(minilm / "onnx" / "model_qint8.onnx"), texts)
    assert cosines(answers, vectors).min() > 0.95


def _with_token_output(folder: Path, target: Path) -> Path:
    """The same model with the vectors of its tokens as its only output."""
    model = onnx.load(folder / "onnx/model.onnx")
    last = [node for node in model.graph.node if node.op_type == "LayerNormalization"][-1]
    last.output[0], before = "last_hidden_state", last.output[0]
    for node in model.graph.node:
        node.input[:] = ["last_hidden_state" if name == before else name for name in node.input]
    del model.graph.output[:]
    model.graph.output.append(graphs.value("last_hidden_state", graphs.FLOAT, ["batch", "seq", 384]))
    (target / "1_Pooling").mkdir(parents=True)
    onnx.save(model, target / "model.onnx")
    for name in ("tokenizer.json", "modules.json", "sentence_bert_config.json", "1_Pooling/config.json"):
        (target / name).write_bytes((folder / name).read_bytes())
    return target


def test_tokens_are_told_by_their_places_whatever_becomes_of_small_letters(tmp_path: Path) -> None:
    folder = graphs.text_model(tmp_path / "model")
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 8, "do_lower_case": True}))
    provider = opened(folder)
    assert list(provider.token_starts("LATE İ storm") or ()) == [0, 5, 7]
    assert provider.token_starts("") == []
    assert len(provider.token_starts("gate " * 50_000) or ()) == 50_000
    provider.close()
    assert provider.token_starts("late") is None
