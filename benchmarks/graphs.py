"""Two tabular ONNX graphs of known size, made here: weights are drawn, since only their number matters for speed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import NodeProto, TensorProto, helper, save_model

FEATURES = 16
TREES = 100
DEPTH = 6
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]


def linear(path: Path) -> None:
    """A logistic regression of `FEATURES` features and two classes."""
    weights = np.random.default_rng(0).normal(size=FEATURES)
    node = helper.make_node(
        "LinearClassifier",
        ["features"],
        ["label", "scores"],
        domain="ai.onnx.ml",
        classlabels_ints=[0, 1],
        coefficients=[*(-weights), *weights],
        intercepts=[-0.1, 0.1],
        multi_class=0,
        post_transform="SOFTMAX",
    )
    _save(path, [node])


def trees(path: Path) -> None:
    """`TREES` full binary trees of depth `DEPTH`, over two classes, as gradient boosting makes them."""
    random = np.random.default_rng(0)
    inner, all_nodes = 2**DEPTH - 1, 2 ** (DEPTH + 1) - 1
    leaves = all_nodes - inner
    per_tree = {
        "nodeids": np.arange(all_nodes),
        "truenodeids": np.concatenate([2 * np.arange(inner) + 1, np.zeros(leaves, int)]),
        "falsenodeids": np.concatenate([2 * np.arange(inner) + 2, np.zeros(leaves, int)]),
    }
    count = TREES * all_nodes
    is_inner = np.tile(np.arange(all_nodes) < inner, TREES)
    node = helper.make_node(
        "TreeEnsembleClassifier",
        ["features"],
        ["label", "scores"],
        domain="ai.onnx.ml",
        classlabels_int64s=[0, 1],
        nodes_treeids=np.repeat(np.arange(TREES), all_nodes).tolist(),
        nodes_modes=np.where(is_inner, "BRANCH_LEQ", "LEAF").tolist(),
        nodes_featureids=np.where(is_inner, random.integers(0, FEATURES, count), 0).tolist(),
        nodes_values=np.where(is_inner, random.normal(size=count), 0.0).tolist(),
        class_treeids=np.repeat(np.arange(TREES), leaves).tolist(),
        class_nodeids=np.tile(np.arange(inner, all_nodes), TREES).tolist(),
        class_ids=[1] * (TREES * leaves),
        class_weights=random.normal(scale=0.1, size=TREES * leaves).tolist(),
        post_transform="LOGISTIC",
        **{f"nodes_{name}": np.tile(values, TREES).tolist() for name, values in per_tree.items()},
    )
    _save(path, [node])


def _save(path: Path, nodes: list[NodeProto]) -> None:
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, FEATURES])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, 2]),
        ],
    )
    save_model(helper.make_model(graph, opset_imports=OPSETS, ir_version=8), str(path))
