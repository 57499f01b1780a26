"""Answers beside those of ONNX's own reference runtime, and of the library that a model was trained with."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pyarrow as pa
from onnx import helper
from onnx.reference import ReferenceEvaluator
from sklearn.cluster import KMeans
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import LogisticRegression

from benchmarks import graphs as large
from lakeflow.models.providers.onnx import OnnxProvider
from lakeflow.models.spec import ModelSpec
from tests.unit.models import graphs

ROWS = 300
NAMES = [f"feature_{number}" for number in range(large.FEATURES)]
MATRIX = np.random.default_rng(11).normal(size=(ROWS, large.FEATURES)).astype(np.float32)
TWO = {"a": pa.float64(), "b": pa.float64()}
MOST_APART = 1e-5


def answered_by(spec: ModelSpec, rows: pa.RecordBatch, batch: int) -> pa.RecordBatch:
    provider = OnnxProvider(dataclasses.replace(spec, options={**spec.options, "batch_size": str(batch)}))
    provider.check()
    return provider.predict(rows)


def answers(spec: ModelSpec, rows: pa.RecordBatch, batch: int) -> npt.NDArray[np.float64]:
    answered = answered_by(spec, rows, batch)
    columns = [column.to_numpy(zero_copy_only=False).astype(np.float64) for column in answered.columns]
    return np.column_stack(columns)


def reference(path: Path, outputs: list[str], features: dict[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    answers: Any = ReferenceEvaluator(onnx.load(path)).run(outputs, features)
    return list(answers)


def rows_of(matrix: npt.NDArray[np.float32], spec: ModelSpec) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(column) for column in matrix.T.astype(np.float64)], schema=spec.input)


def assert_the_same_in_any_batch(spec: ModelSpec, rows: pa.RecordBatch, expected: npt.NDArray[np.float64]) -> None:
    whole = answers(spec, rows, ROWS)
    np.testing.assert_allclose(whole, expected, rtol=0, atol=MOST_APART)
    for batch in (1, 7, 128):
        np.testing.assert_allclose(answers(spec, rows, batch), whole, rtol=0, atol=1e-6)


def test_a_linear_model_answers_as_the_reference_runtime_does(tmp_path: Path) -> None:
    large.linear(tmp_path / "m.onnx")
    given, output = dict.fromkeys(NAMES, pa.float64()), {"label": pa.int64(), "score": pa.float64()}
    spec = graphs.spec(tmp_path, tmp_path / "m.onnx", given, output, outputs="scores[1]:score")
    label, scores = reference(tmp_path / "m.onnx", ["label", "scores"], {"features": MATRIX})
    assert_the_same_in_any_batch(spec, rows_of(MATRIX, spec), np.column_stack([label, scores[:, 1]]))


def test_boosted_trees_answer_as_scikit_learn_does(tmp_path: Path) -> None:
    target = MATRIX[:, 0] * 3 + np.abs(MATRIX[:, 1]) + MATRIX[:, 2] * MATRIX[:, 3]
    model = GradientBoostingRegressor(n_estimators=40, max_depth=4, random_state=0).fit(MATRIX, target)
    path = boosting(tmp_path / "m.onnx", model)
    spec = graphs.spec(tmp_path, path, dict.fromkeys(NAMES, pa.float64()), {"y": pa.float64()}, "regression")
    assert_the_same_in_any_batch(spec, rows_of(MATRIX, spec), model.predict(MATRIX)[:, None])


def boosting(path: Path, model: GradientBoostingRegressor) -> Path:
    """The trees as a graph. ONNX compares in single precision, so thresholds are rounded down to it."""
    nodes: dict[str, Any] = defaultdict(list)
    for number, tree in enumerate(one.tree_ for one in model.estimators_[:, 0]):
        for place in range(tree.node_count):
            leaf = tree.children_left[place] < 0
            nodes["nodes_treeids"].append(number)
            nodes["nodes_nodeids"].append(place)
            nodes["nodes_modes"].append("LEAF" if leaf else "BRANCH_LEQ")
            nodes["nodes_featureids"].append(0 if leaf else int(tree.feature[place]))
            nodes["nodes_values"].append(0.0 if leaf else rounded_down(tree.threshold[place]))
            nodes["nodes_truenodeids"].append(0 if leaf else int(tree.children_left[place]))
            nodes["nodes_falsenodeids"].append(0 if leaf else int(tree.children_right[place]))
            if leaf:
                nodes["target_treeids"].append(number)
                nodes["target_nodeids"].append(place)
                nodes["target_ids"].append(0)
                nodes["target_weights"].append(float(tree.value[place, 0, 0] * model.learning_rate))
    start = [float(model.init_.constant_[0, 0])]
    node = helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=1, base_values=start, **nodes)
    inputs = [graphs.value("x", graphs.FLOAT, [None, large.FEATURES])]
    return graphs.save(path, [node], inputs, [graphs.value("y", graphs.FLOAT, [None, 1])])


def rounded_down(threshold: float) -> float:
    single = np.float32(threshold)
    return float(single if single <= threshold else np.nextafter(single, np.float32(-np.inf)))


def test_labels_of_strings_are_those_of_scikit_learn(tmp_path: Path) -> None:
    given = MATRIX[:, :2]
    model = LogisticRegression().fit(given, np.where(given[:, 0] > given[:, 1], "late", "on time"))
    weights, bias = model.coef_[0], float(model.intercept_[0])
    node = helper.make_node(
        "LinearClassifier",
        ["x"],
        ["label", "probabilities"],
        domain="ai.onnx.ml",
        classlabels_strings=list(model.classes_),
        coefficients=[*(-weights / 2), *(weights / 2)],
        intercepts=[-bias / 2, bias / 2],
        post_transform="SOFTMAX",
    )
    outputs = [graphs.value("label", graphs.STRING, [None]), graphs.value("probabilities", graphs.FLOAT, [None, 2])]
    path = graphs.save(tmp_path / "m.onnx", [node], [graphs.value("x", graphs.FLOAT, [None, 2])], outputs)
    spec = graphs.spec(tmp_path, path, TWO, {"label": pa.string(), "p": pa.float64()})
    answered = answered_by(spec, rows_of(given, spec), 7)
    assert answered.column(0).to_pylist() == model.predict(given).tolist()
    np.testing.assert_allclose(answered.column(1).to_numpy(), model.predict_proba(given)[:, 1], rtol=0, atol=MOST_APART)


def test_clusters_are_those_of_scikit_learn(tmp_path: Path) -> None:
    given = MATRIX[:, :2]
    model = KMeans(3, n_init=1, random_state=0).fit(given)
    centres = model.cluster_centers_.astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "twice"], ["products"]),
        helper.make_node("Sub", ["squares", "products"], ["distances"]),
        helper.make_node("ArgMin", ["distances"], ["cluster"], axis=1, keepdims=0),
    ]
    inputs, outputs = [graphs.value("x", graphs.FLOAT, [None, 2])], [graphs.value("cluster", graphs.INT64, [None])]
    path = graphs.save(tmp_path / "m.onnx", nodes, inputs, outputs, twice=2 * centres.T, squares=(centres**2).sum(axis=1))
    spec = graphs.spec(tmp_path, path, TWO, {"cluster": pa.int32()}, "clustering")
    assert answered_by(spec, rows_of(given, spec), 7).column(0).to_pylist() == model.predict(given).tolist()


def test_several_inputs_and_strings_are_scored_as_the_reference_runtime_scores_them(tmp_path: Path) -> None:
    path = graphs.by_name(tmp_path / "m.onnx")
    spec = graphs.spec(tmp_path, path, {"hour": pa.int64(), "carrier": pa.string()}, {"score": pa.float64()}, "regression")
    hours, carriers = [1, 2, 3, 4], ["AA", "DL", "", "é"]
    features = {"hour": np.array(hours)[:, None], "carrier": np.array(carriers, dtype=object)[:, None]}
    expected = reference(path, ["score"], features)[0]
    rows = pa.RecordBatch.from_pydict({"hour": hours, "carrier": carriers}, schema=spec.input)
    for batch in (1, 3, 4):
        np.testing.assert_allclose(answers(spec, rows, batch), expected, rtol=0, atol=MOST_APART)
