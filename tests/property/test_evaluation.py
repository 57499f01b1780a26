"""Metrics over any labels and scores: as scikit-learn has them, whatever the cutting, and defined where they can be."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from lakeflow.models.evaluation.classification import Classification, OneProbability
from lakeflow.models.evaluation.clustering import Clustering
from lakeflow.models.evaluation.regression import Regression
from lakeflow.models.evaluation.sample import Sample
from lakeflow.models.evaluation.values import Bounds
from tests.unit.models.evaluation.answers import answered, measured

CUTS = st.lists(st.integers(0, 60), max_size=4)
LATE = OneProbability("true", "false", others=False, threshold=0.5)
TIED = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0])
SCORES = st.one_of(TIED, st.floats(0, 1, allow_subnormal=False))
CLASSES = st.sampled_from(["a", "b", "c", ""])
MODERATE = st.floats(-1e3, 1e3, allow_subnormal=False).map(lambda value: round(value, 6))


@given(st.lists(st.tuples(st.booleans(), SCORES), max_size=50), CUTS)
def test_areas_under_curves(rows: list[tuple[bool, float]], cuts: list[int]) -> None:
    truths, scores = [truth for truth, _ in rows], [score for _, score in rows]
    given_rows = answered(pa.array(truths, pa.bool_()), None, pa.array(scores, pa.float64()))
    found = measured(Classification(LATE, Bounds(), positive="true", negative="false"), given_rows, cuts).metrics
    assert found["score_rows"] == len(rows)
    if len(set(truths)) < 2:
        assert found["roc_auc"] is None
        assert found["pr_auc"] == (1.0 if True in truths else None)
        return
    assert found["roc_auc"] == pytest.approx(reference.roc_auc_score(truths, scores), abs=1e-12)
    assert found["pr_auc"] == pytest.approx(reference.average_precision_score(truths, scores), abs=1e-12)
    assert found["log_loss"] == pytest.approx(reference.log_loss(truths, y_proba=np.array(scores)), rel=1e-9)
    assert found["f1"] == pytest.approx(reference.f1_score(truths, np.array(scores) >= 0.5, zero_division=0))


@given(st.lists(st.tuples(CLASSES, CLASSES), max_size=50), CUTS)
def test_confusion(rows: list[tuple[str, str]], cuts: list[int]) -> None:
    labels, predicted = [label for label, _ in rows], [name for _, name in rows]
    given_rows = answered(pa.array(labels, pa.string()), pa.array(predicted, pa.string()))
    found = measured(Classification(None, Bounds()), given_rows, cuts)
    if not rows:
        assert found.metrics["accuracy"] is None
        return
    assert found.confusion is not None
    assert sum(map(sum, found.confusion.counts)) == len(rows)
    known = [*found.confusion.classes, "of no row"]  # scikit-learn warns of a single class
    expected = reference.confusion_matrix(labels, predicted, labels=known)[:-1, :-1]
    assert np.array(found.confusion.counts).tolist() == expected.tolist()
    for kind in ("macro", "weighted"):
        scores = reference.precision_recall_fscore_support(labels, predicted, average=kind, zero_division=0)[:3]
        ours = [found.metrics[f"{name}_{kind}"] for name in ("precision", "recall", "f1")]
        assert ours == pytest.approx(list(scores), abs=1e-12)


@given(st.lists(st.tuples(MODERATE, MODERATE), min_size=2, max_size=50), CUTS)
def test_regression(rows: list[tuple[float, float]], cuts: list[int]) -> None:
    labels, predicted = [label for label, _ in rows], [number for _, number in rows]
    found = measured(Regression(Bounds()), answered(pa.array(labels), pa.array(predicted)), cuts).metrics
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(labels, predicted), rel=1e-9, abs=1e-12)
    assert found["mse"] == pytest.approx(reference.mean_squared_error(labels, predicted), rel=1e-9, abs=1e-12)
    assert found["mape"] == pytest.approx(reference.mean_absolute_percentage_error(labels, predicted), rel=1e-9, abs=1e-12)
    assert found["r2"] is not None
    assert found["r2"] <= 1
    if np.ptp(labels) > 1e-3:
        assert found["r2"] == pytest.approx(reference.r2_score(labels, predicted), rel=1e-6, abs=1e-6)


@given(st.lists(st.tuples(MODERATE, MODERATE, st.integers(0, 3)), min_size=1, max_size=40), CUTS)
def test_clustering(rows: list[tuple[float, float, int]], cuts: list[int]) -> None:
    points, clusters = np.array([row[:2] for row in rows]), np.array([row[2] for row in rows])
    labels = (points[:, 0] > 0).astype(int)
    given_rows = answered(pa.array(labels), pa.array(clusters), features={"x": points[:, 0], "y": points[:, 1]})
    found = measured(Clustering(Bounds(), labelled=True), given_rows, cuts).metrics
    assert found["adjusted_rand"] == pytest.approx(reference.adjusted_rand_score(labels, clusters), abs=1e-9)
    assert found["clusters"] == len(set(clusters.tolist()))
    if not 2 <= len(set(clusters.tolist())) < len(rows):
        assert (found["silhouette"], found["davies_bouldin"]) == (None, None)
        return
    spread = np.ptp(points, axis=0).max()
    if spread > 1 and len(np.unique(points.round(2), axis=0)) == len(points):
        assert found["silhouette"] == pytest.approx(reference.silhouette_score(points, clusters), abs=1e-6)


@given(st.integers(0, 200), st.integers(1, 50), CUTS, st.integers(0, 3))
def test_a_sample_is_of_rows_that_were_there_and_does_not_depend_on_the_cutting(
    rows: int, most: int, cuts: list[int], seed: int
) -> None:
    def sampled(places: list[int]) -> list[Any]:
        sample = Sample(most, seed)
        for start, stop in zip([0, *places], [*places, rows], strict=True):
            sample.add(np.arange(start, stop), np.arange(start, stop) * 2)
        return [column.tolist() for column in sample.columns()]

    found = sampled(sorted(cut % (rows + 1) for cut in cuts))
    assert found == sampled([])
    kept, doubled = found
    assert len(kept) == min(rows, most)
    assert sorted(set(kept)) == kept
    assert doubled == [2 * number for number in kept]
    assert all(0 <= number < rows for number in kept)


def test_a_sample_is_even() -> None:
    sample = Sample(2_000, 0)
    for start in range(0, 100_000, 7_000):
        sample.add(np.arange(start, min(start + 7_000, 100_000)))
    [kept] = sample.columns()
    assert abs(kept.mean() - 50_000) < 4 * 100_000 / math.sqrt(12 * 2_000)
