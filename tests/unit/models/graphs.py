"""Tiny ONNX graphs and text models, made on the spot, whose answers can be computed by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pyarrow as pa
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from lakeflow.declare import ModelDeclaration
from lakeflow.models.spec import ModelSpec

Node = Any
FLOAT, DOUBLE, INT32, INT64, STRING = (
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.INT32,
    TensorProto.INT64,
    TensorProto.STRING,
)
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "late", "flight", "storm", "gate")
TABLE = np.random.default_rng(7).normal(size=(len(WORDS), 3)).astype(np.float32)


def value(name: str, kind: int, shape: Sequence[int | str | None] | None) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def save(path: Path, nodes: list[Node], inputs: list[Any], outputs: list[Any], **constants: npt.NDArray[Any]) -> Path:
    initial = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initial)
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=versions, ir_version=9), path)
    return path


def classifier(path: Path, weights: Sequence[float], *, zipmap: bool = False, width: int | None = -1) -> Path:
    """X [N, k] -> label, probabilities [N, 2]: softmax of (-wx, wx)."""
    coefficients = [*(-weight for weight in weights), *weights]
    node = helper.make_node(
        "LinearClassifier",
        ["X"],
        ["label", "probabilities"],
        domain="ai.onnx.ml",
        coefficients=coefficients,
        intercepts=[0.0, 0.0],
        classlabels_ints=[0, 1],
        post_transform="SOFTMAX",
    )
    inputs = [value("X", FLOAT, [None, len(weights) if width == -1 else width])]
    outputs = [value("label", INT64, [None])]
    if not zipmap:
        return save(path, [node], inputs, [*outputs, value("probabilities", FLOAT, [None, 2])])
    zipped = helper.make_node("ZipMap", ["probabilities"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])
    kind = helper.make_sequence_type_proto(helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, None)))
    return save(path, [node, zipped], inputs, [*outputs, helper.make_value_info("maps", kind)])


def positive(rows: npt.NDArray[Any], weights: Sequence[float]) -> npt.NDArray[np.float64]:
    """What `classifier` gives as the probability of label 1."""
    return np.asarray(1 / (1 + np.exp(-2 * (rows @ np.asarray(weights)))), dtype=np.float64)


def regressor(path: Path, weights: Sequence[float], kind: int = FLOAT) -> Path:
    """features [N, k] -> variable [N, 1]."""
    matrix = np.asarray(weights, dtype=np.float32 if kind == FLOAT else np.float64).reshape(-1, 1)
    return save(
        path,
        [helper.make_node("MatMul", ["features", "weights"], ["variable"])],
        [value("features", kind, [None, len(weights)])],
        [value("variable", kind, [None, 1])],
        weights=matrix,
    )


def identity(path: Path, kind: int, width: int, *, output: str = "y") -> Path:
    """x [N, width] -> the same."""
    node = helper.make_node("Identity", ["x"], [output])
    return save(path, [node], [value("x", kind, [None, width])], [value(output, kind, [None, width])])


def of_open_width(path: Path, width: int) -> Path:
    """x [N, ?] -> the sum of its `width` columns; the graph does not say that it needs so many."""
    node = helper.make_node("MatMul", ["x", "ones"], ["y"])
    ones = np.ones((width, 1), dtype=np.float32)
    return save(path, [node], [value("x", FLOAT, [None, None])], [value("y", FLOAT, [None, None])], ones=ones)


def by_name(path: Path) -> Path:
    """hour int64 [N, 1] and carrier string [N, 1] -> score [N, 1]: hour plus 10 for 'AA', 20 for 'DL', -1 for others."""
    encode = helper.make_node(
        "LabelEncoder",
        ["carrier"],
        ["code"],
        domain="ai.onnx.ml",
        keys_strings=["AA", "DL"],
        values_floats=[10.0, 20.0],
        default_float=-1.0,
    )
    nodes = [
        encode,
        helper.make_node("Cast", ["hour"], ["hours"], to=FLOAT),
        helper.make_node("Add", ["hours", "code"], ["score"]),
    ]
    inputs = [value("hour", INT64, [None, 1]), value("carrier", STRING, [None, 1])]
    return save(path, nodes, inputs, [value("score", FLOAT, [None, 1])])


def text_model(
    folder: Path,
    *,
    inputs: Sequence[str] = ("input_ids", "attention_mask"),
    outputs: Sequence[str] = ("last_hidden_state",),
    pooling: str | None = "mean",
    normalize: bool = False,
    special: bool = True,
    max_tokens: int = 8,
) -> Path:
    """A folder in the layout of sentence-transformers; a token's vector is its row of TABLE."""
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])]
    shapes: dict[str, list[int | str | None]] = {
        "last_hidden_state": [None, None, 3],
        "sentence_embedding": [None, None],
        "pooler_output": [None, 3],
        "other": [None, 3],
    }
    for name in outputs:
        if name != "last_hidden_state":
            nodes.append(helper.make_node("ReduceMean", ["last_hidden_state"], [name], axes=[1], keepdims=0))
    save(
        folder / "onnx" / "model.onnx",
        nodes,
        [value(name, INT64, ["texts", "tokens"]) for name in inputs],
        [value(name, FLOAT, shapes[name]) for name in outputs],
        table=TABLE,
    )
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if special:
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_padding(length=32)
    tokenizer.save(str(folder / "tokenizer.json"))
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": f"{place}_{kind}"} for place, kind in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": max_tokens, "do_lower_case": False}))
    if pooling:
        modes = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "max": "pooling_mode_max_tokens"}
        (folder / "1_Pooling").mkdir()
        config = {key: mode == pooling for mode, key in modes.items()}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 3, **config}))
    return folder


def spec(
    root: Path,
    path: Path,
    given: Mapping[str, pa.DataType],
    output: Mapping[str, pa.DataType],
    task: str = "classification",
    **options: str,
) -> ModelSpec:
    """A declared model of provider onnx."""
    written = {"provider": "onnx", "task": task, "model_path": str(path), **options}
    declaration = ModelDeclaration("m", pa.schema(list(given.items())), pa.schema(list(output.items())), written)
    return ModelSpec.from_declaration(declaration, root)
