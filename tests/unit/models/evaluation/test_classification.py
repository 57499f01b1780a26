"""Agreement with scikit-learn on each metric of a classification."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from sklearn import metrics as reference

from lakeflow.errors import ModelError, UsageError
from lakeflow.models.evaluation.classification import Classification, ManyProbabilities, OneProbability
from lakeflow.models.evaluation.values import Bounds
from tests.unit.models.evaluation.answers import answered, lists, measured

BOUNDS = Bounds()
LATE = OneProbability("true", "false", others=False, threshold=0.5)
CLASSES = ("cat", "dog", "owl")
RANDOM = np.random.default_rng(3)
TRUTHS = RANDOM.random(997) < 0.3
SCORES = np.round(np.clip(RANDOM.normal(0.3, 0.2, 997) + 0.2 * TRUTHS, 0, 1), 2)
"""Rounded, so that there are ties, and zeros and ones."""
LABELS = RANDOM.choice(CLASSES, 500, p=[0.6, 0.3, 0.1])
PREDICTED = np.where(RANDOM.random(500) < 0.6, LABELS, RANDOM.choice([*CLASSES, "elk"], 500))
MATRIX = RANDOM.dirichlet([1, 1, 1], 500)
Array = npt.NDArray[Any]


def log_loss(labels: Array, scores: Array, classes: list[Any]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return float(reference.log_loss(labels, scores, labels=classes))


def test_predicted_labels_agree_with_scikit_learn() -> None:
    found = measured(Classification(None, BOUNDS), answered(pa.array(LABELS), pa.array(PREDICTED)), [100, 101, 350])
    assert found.metrics["accuracy"] == pytest.approx(reference.accuracy_score(LABELS, PREDICTED), abs=1e-12)
    for kind in ("macro", "weighted"):
        scores = reference.precision_recall_fscore_support(LABELS, PREDICTED, average=kind, zero_division=0)[:3]
        ours = [found.metrics[f"{name}_{kind}"] for name in ("precision", "recall", "f1")]
        assert ours == pytest.approx(list(scores), abs=1e-12)
    assert found.confusion is not None
    assert found.confusion.classes == ("cat", "dog", "elk", "owl")
    assert found.confusion.counts == tuple(map(tuple, reference.confusion_matrix(LABELS, PREDICTED).tolist()))
    columns = reference.precision_recall_fscore_support(LABELS, PREDICTED, zero_division=0)
    each = [[found.per_class[name][part] for name in found.confusion.classes] for part in ("precision", "recall", "f1", "rows")]
    assert each == [pytest.approx(list(column), abs=1e-12) for column in columns]
    assert [found.metrics[name] for name in ("precision", "recall", "f1")] == [None] * 3


@pytest.mark.parametrize("predicted", [True, False])
def test_one_probability_agrees_with_scikit_learn(predicted: bool) -> None:
    prediction = pa.array(SCORES >= 0.5) if predicted else None
    measure = Classification(LATE, BOUNDS, positive="true", negative="false")
    found = measured(measure, answered(pa.array(TRUTHS), prediction, pa.array(SCORES)), [400])
    expected = {
        "log_loss": log_loss(TRUTHS, SCORES, [False, True]),
        "roc_auc": reference.roc_auc_score(TRUTHS, SCORES),
        "pr_auc": reference.average_precision_score(TRUTHS, SCORES),
        "accuracy": reference.accuracy_score(TRUTHS, SCORES >= 0.5),
        "precision": reference.precision_score(TRUTHS, SCORES >= 0.5),
        "recall": reference.recall_score(TRUTHS, SCORES >= 0.5),
        "f1": reference.f1_score(TRUTHS, SCORES >= 0.5),
        "score_rows": 997.0,
    }
    assert {name: found.metrics[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert found.confusion is not None
    assert found.confusion.classes == ("false", "true")
    assert np.array(found.confusion.counts).tolist() == reference.confusion_matrix(TRUTHS, SCORES >= 0.5).tolist()


def test_the_curves_are_those_of_scikit_learn() -> None:
    measure = Classification(LATE, BOUNDS, positive="true", negative="false")
    found = measured(measure, answered(pa.array(TRUTHS), None, pa.array(SCORES)))
    misses, hits, _ = reference.roc_curve(TRUTHS, SCORES, drop_intermediate=False)
    [roc], [precision] = found.rocs, found.precisions
    assert roc.x.tolist() == pytest.approx(misses.tolist())
    assert roc.y.tolist() == pytest.approx(hits.tolist())
    precisions, recalls, _ = reference.precision_recall_curve(TRUTHS, SCORES)
    assert precision.x.tolist() == pytest.approx(recalls[:-1][::-1].tolist())
    assert precision.y.tolist() == pytest.approx(precisions[:-1][::-1].tolist())
    few = measured(Classification(LATE, Bounds(points=5)), answered(pa.array(TRUTHS), None, pa.array(SCORES))).rocs[0]
    assert len(few.x) == 5
    assert (few.x[0], few.x[-1], few.y[-1]) == (0, 1, 1)


def test_probabilities_of_several_classes_agree_with_scikit_learn() -> None:
    measure = Classification(ManyProbabilities(CLASSES), BOUNDS)
    found = measured(measure, answered(pa.array(LABELS), None, lists(MATRIX)), [3, 250])
    hot = LABELS[:, None] == np.array(CLASSES)
    expected = {
        "log_loss": log_loss(LABELS, MATRIX, list(CLASSES)),
        "roc_auc_macro": reference.roc_auc_score(LABELS, MATRIX, multi_class="ovr", average="macro"),
        "roc_auc_weighted": reference.roc_auc_score(LABELS, MATRIX, multi_class="ovr", average="weighted"),
        "pr_auc_macro": reference.average_precision_score(hot, MATRIX, average="macro"),
        "pr_auc_weighted": reference.average_precision_score(hot, MATRIX, average="weighted"),
        "accuracy": reference.accuracy_score(LABELS, np.array(CLASSES)[MATRIX.argmax(axis=1)]),
        "score_rows": 500.0,
    }
    assert {name: found.metrics[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert found.metrics["roc_auc"] is None
    for at, name in enumerate(CLASSES):
        assert found.per_class[name]["roc_auc"] == pytest.approx(reference.roc_auc_score(hot[:, at], MATRIX[:, at]))
        assert found.per_class[name]["pr_auc"] == pytest.approx(reference.average_precision_score(hot[:, at], MATRIX[:, at]))


def test_a_list_of_two_is_told_as_one_probability() -> None:
    both = np.stack([1 - SCORES, SCORES], axis=1)
    many = Classification(ManyProbabilities(("false", "true")), BOUNDS, positive="true", negative="false")
    one = Classification(LATE, BOUNDS, positive="true", negative="false")
    by_list = measured(many, answered(pa.array(TRUTHS), None, lists(both))).metrics
    by_number = measured(one, answered(pa.array(TRUTHS), None, pa.array(SCORES))).metrics
    for name in ("roc_auc", "pr_auc", "log_loss"):
        assert by_list[name] == pytest.approx(by_number[name], abs=1e-9)


def test_classes_without_names_are_numbered() -> None:
    codes = np.array([CLASSES.index(name) for name in LABELS])
    found = measured(Classification(ManyProbabilities(None), BOUNDS), answered(pa.array(codes), None, lists(MATRIX)))
    expected = reference.roc_auc_score(codes, MATRIX, multi_class="ovr")
    assert found.metrics["roc_auc_macro"] == pytest.approx(expected)
    assert found.confusion is not None
    assert found.confusion.classes == ("0", "1", "2")


def test_numbers_are_in_the_order_of_their_values() -> None:
    found = measured(Classification(None, BOUNDS), answered(pa.array([10, 9, -1]), pa.array([9, 10, 2])))
    assert found.confusion is not None
    assert found.confusion.classes == ("-1", "2", "9", "10")


def test_truths_are_numbers_beside_numbers() -> None:
    found = measured(
        Classification(None, BOUNDS, numbers=True, positive="1", negative="0"),
        answered(pa.array([True, False, True]), pa.array([1, 0, 0])),
    )
    assert found.metrics["accuracy"] == pytest.approx(2 / 3)
    assert found.metrics["recall"] == 0.5


def test_a_third_class_leaves_none_that_is_the_positive_one() -> None:
    measure = Classification(None, BOUNDS, numbers=True, positive="1", negative="0")
    found = measured(measure, answered(pa.array([0, 1, 2]), pa.array([0, 1, 2])))
    assert found.metrics["f1"] is None
    assert found.metrics["f1_macro"] == 1.0


def test_what_labels_that_are_all_alike_do_not_define_is_none() -> None:
    measure = Classification(LATE, BOUNDS, positive="true", negative="false")
    found = measured(measure, answered(pa.array([False, False]), None, pa.array([0.2, 0.4])))
    assert (found.metrics["roc_auc"], found.metrics["pr_auc"]) == (None, None)
    assert found.metrics["log_loss"] == pytest.approx(-np.log([0.8, 0.6]).mean())
    assert (found.rocs, found.precisions) == ((), ())


@pytest.mark.parametrize("probabilities", [None, LATE, ManyProbabilities(None), ManyProbabilities(CLASSES)])
def test_the_metrics_of_no_rows_are_none(probabilities: OneProbability | ManyProbabilities | None) -> None:
    found = Classification(probabilities, BOUNDS).result().metrics
    assert {name for name, value in found.items() if value is not None} <= {"score_rows"}
    labelled = answered(pa.array(["cat"]), pa.array(["dog"]))
    if probabilities is None:
        assert set(found) == set(measured(Classification(None, BOUNDS), labelled).metrics)


def test_lists_that_do_not_add_up_have_no_log_loss() -> None:
    matrix = np.array([[0.9, 0.9, 0.1], [0.1, 0.2, 0.3]])
    found = measured(
        Classification(ManyProbabilities(CLASSES), BOUNDS), answered(pa.array(["cat", "owl"]), None, lists(matrix))
    )
    assert found.metrics["log_loss"] is None
    assert found.metrics["accuracy"] == 1.0


@pytest.mark.parametrize("score", [1.5, -0.1])
def test_what_is_no_probability_is_refused(score: float) -> None:
    with pytest.raises(ModelError, match="is no probability"):
        measured(Classification(LATE, BOUNDS), answered(pa.array([True]), None, pa.array([score])))


def test_rounding_is_no_reason_to_refuse() -> None:
    found = measured(Classification(LATE, BOUNDS), answered(pa.array([True, False]), None, pa.array([1 + 1e-7, -1e-7])))
    assert found.metrics["roc_auc"] == 1.0


def test_labels_that_no_probability_is_about_are_refused() -> None:
    one = Classification(OneProbability("1", "0", others=False, threshold=0.5), BOUNDS)
    with pytest.raises(UsageError, match=r"label '2' is none .* valid: 0, 1"):
        measured(one, answered(pa.array([2]), None, pa.array([0.5])))
    with pytest.raises(UsageError, match=r"label 'cow' is none .* did you mean 'owl'"):
        measured(Classification(ManyProbabilities(CLASSES), BOUNDS), answered(pa.array(["cow"]), None, lists(MATRIX[:1])))


def test_lists_of_another_length_are_refused() -> None:
    with pytest.raises(ModelError, match="holds 2, where 3 are needed"):
        measured(Classification(ManyProbabilities(CLASSES), BOUNDS), answered(pa.array(["cat"]), None, lists(MATRIX[:1, :2])))


def test_more_classes_than_can_be_held_are_refused() -> None:
    names = pa.array([str(number) for number in range(6)])
    with pytest.raises(UsageError, match="more than 5 different values") as caught:
        measured(Classification(None, Bounds(classes=5)), answered(names, names), [3])
    assert "--task regression" in str(caught.value)


def test_beyond_the_bound_a_sample_stands_for_all_scores() -> None:
    truths, scores = np.tile(TRUTHS, 20), np.tile(SCORES, 20)
    rows = answered(pa.array(truths), None, pa.array(scores))
    found, again = (measured(Classification(LATE, Bounds(scores=4_000)), rows, [999, 7_000]).metrics for _ in range(2))
    assert found == again
    assert found["score_rows"] == 4_000
    assert found["roc_auc"] == pytest.approx(reference.roc_auc_score(truths, scores), abs=0.03)
    assert found["roc_auc"] != reference.roc_auc_score(truths, scores)
    assert found["log_loss"] == pytest.approx(log_loss(truths, scores, [False, True])), "of all rows"
