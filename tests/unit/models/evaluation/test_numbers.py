"""Agreement with scikit-learn on regression, clustering and vectors."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as reference
from sklearn.cluster import KMeans
from sklearn.metrics.pairwise import cosine_similarity

from lakeflow.errors import ModelError, UsageError
from lakeflow.models.evaluation.clustering import Clustering
from lakeflow.models.evaluation.numbers import defined
from lakeflow.models.evaluation.regression import Regression
from lakeflow.models.evaluation.values import Bounds
from lakeflow.models.evaluation.vectors import Vectors
from tests.unit.models.evaluation.answers import answered, lists, measured

BOUNDS = Bounds()
RANDOM = np.random.default_rng(5)
LABELS = RANDOM.normal(1e6, 3, 700)
PREDICTED = LABELS + RANDOM.normal(0.5, 2, 700)
POINTS = np.concatenate([RANDOM.normal(center, 1.0, (200, 3)) for center in (0, 3, 7)])
KMEANS = KMeans(4, n_init=1, tol=0, max_iter=1000, random_state=0).fit(POINTS)
CLUSTERS = KMEANS.labels_
GROUPS = np.repeat(["a", "b", "c"], 200)
FEATURES = {str(at): POINTS[:, at] for at in range(3)}


@pytest.mark.parametrize("cuts", [[], [1, 2, 300, 699]])
@pytest.mark.parametrize("zeros", [False, True])
def test_a_regression_agrees_with_scikit_learn(cuts: list[int], zeros: bool) -> None:
    labels = np.where(np.arange(700) % 7 == 0, 0.0, LABELS) if zeros else LABELS
    found = measured(Regression(BOUNDS), answered(pa.array(labels), pa.array(PREDICTED)), cuts).metrics
    expected = {
        "mae": reference.mean_absolute_error(labels, PREDICTED),
        "mse": reference.mean_squared_error(labels, PREDICTED),
        "rmse": reference.root_mean_squared_error(labels, PREDICTED),
        "mape": reference.mean_absolute_percentage_error(labels, PREDICTED),
        "r2": reference.r2_score(labels, PREDICTED),
        "max_error": reference.max_error(labels, PREDICTED),
        "mean_error": float(np.mean(PREDICTED - labels)),
    }
    assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("label", [3.5, 3.3])
@pytest.mark.parametrize(("apart", "r2"), [(0.0, 1.0), (0.5, 0.0)])
def test_labels_that_are_all_alike_are_met_or_not(label: float, apart: float, r2: float) -> None:
    predicted = [label, label, label + apart]
    found = measured(Regression(BOUNDS), answered(pa.array([label] * 3), pa.array(predicted)), [1])
    assert found.metrics["r2"] == r2
    assert label == 3.3 or r2 == reference.r2_score([label] * 3, predicted), "a mean of 3.3s is not 3.3 to scikit-learn"


def test_one_row_and_none_have_no_r2() -> None:
    assert measured(Regression(BOUNDS), answered(pa.array([1]), pa.array([2.0]))).metrics["r2"] is None
    assert set(Regression(BOUNDS).result().metrics.values()) == {None}


def test_decimals_and_whole_numbers_are_numbers() -> None:
    labels = pa.array([1, 2, 3]).cast(pa.decimal128(22, 2))
    found = measured(Regression(BOUNDS), answered(labels, pa.array([1, 2, 5], pa.int32())))
    assert found.metrics["mae"] == pytest.approx(2 / 3)


def test_points_to_draw_are_few() -> None:
    found = measured(Regression(Bounds(points=10)), answered(pa.array(LABELS), pa.array(PREDICTED)), [100])
    assert found.actual is not None
    assert len(found.actual.x) == 10
    assert set(zip(found.actual.x, found.actual.y, strict=True)) <= set(zip(LABELS, PREDICTED, strict=True))


@pytest.mark.parametrize("cuts", [[], [1, 250, 251]])
def test_a_clustering_agrees_with_scikit_learn(cuts: list[int]) -> None:
    rows = answered(pa.array(GROUPS), pa.array(CLUSTERS), features=FEATURES)
    found = measured(Clustering(BOUNDS, labelled=True), rows, cuts)
    expected = {
        "davies_bouldin": reference.davies_bouldin_score(POINTS, CLUSTERS),
        "davies_bouldin_rows": 600.0,
        "silhouette": reference.silhouette_score(POINTS, CLUSTERS),
        "silhouette_rows": 600.0,
        "intra_cluster_variance": KMEANS.inertia_ / 600,
        "adjusted_rand": reference.adjusted_rand_score(GROUPS, CLUSTERS),
        "clusters": 4.0,
    }
    assert found.metrics == pytest.approx(expected, rel=1e-9)
    assert {name: one["rows"] for name, one in found.per_class.items()} == {
        str(name): float(np.sum(name == CLUSTERS)) for name in range(4)
    }


def test_a_row_alone_in_its_cluster_and_far_from_the_origin() -> None:
    points, clusters = POINTS + 1e6, np.append(np.zeros(599, np.int64), 1)
    rows = answered(None, pa.array(clusters), features={str(at): points[:, at] for at in range(3)})
    found = measured(Clustering(BOUNDS, labelled=False), rows).metrics
    assert found["silhouette"] == pytest.approx(reference.silhouette_score(POINTS, clusters), rel=1e-6)
    assert found["davies_bouldin"] == pytest.approx(reference.davies_bouldin_score(POINTS, clusters), rel=1e-6)
    assert "adjusted_rand" not in found


def test_clusters_of_vectors_and_texts() -> None:
    rows = answered(None, pa.array([f"c{number}" for number in CLUSTERS]), features=FEATURES)
    vectors = answered(None, rows.prediction)
    vectors = type(vectors)(None, rows.prediction, None, pa.RecordBatch.from_arrays([lists(POINTS)], ["v"]))
    by_numbers = measured(Clustering(BOUNDS, labelled=False), rows).metrics
    assert measured(Clustering(BOUNDS, labelled=False), vectors, [100]).metrics == pytest.approx(by_numbers)


@pytest.mark.parametrize("clusters", [[0, 0, 0], [0, 1, 2]])
def test_one_cluster_and_one_a_row_tell_nothing(clusters: list[int]) -> None:
    rows = answered(None, pa.array(clusters), features={"x": np.array([1.0, 2.0, 4.0])})
    found = measured(Clustering(BOUNDS, labelled=False), rows).metrics
    assert (found["silhouette"], found["davies_bouldin"]) == (None, None)
    assert found["intra_cluster_variance"] is not None


def test_clusters_whose_means_are_alike() -> None:
    points, clusters = np.array([1.0, -1.0, 2.0, -2.0, 9.0, 9.5]), np.array([0, 0, 1, 1, 2, 2])
    found = measured(Clustering(BOUNDS, labelled=False), answered(None, pa.array(clusters), features={"x": points})).metrics
    assert found["davies_bouldin"] == pytest.approx(reference.davies_bouldin_score(points[:, None], clusters))


def test_beyond_the_bounds_a_sample_stands_for_all_points() -> None:
    rows = answered(None, pa.array(CLUSTERS), features=FEATURES)
    found = measured(Clustering(Bounds(vectors=900, silhouette=200), labelled=False), rows, [50, 500]).metrics
    assert (found["davies_bouldin_rows"], found["silhouette_rows"]) == (300, 200)
    assert found["silhouette"] == pytest.approx(reference.silhouette_score(POINTS, CLUSTERS), abs=0.1)
    assert found["intra_cluster_variance"] == pytest.approx(KMEANS.inertia_ / 600), "of all rows"


def test_more_clusters_than_can_be_held_are_refused() -> None:
    rows = answered(None, pa.array([1, 2, 3]), features={"x": np.zeros(3)})
    with pytest.raises(UsageError, match="more than 2 different clusters"):
        measured(Clustering(Bounds(classes=2), labelled=False), rows)
    assert Clustering(BOUNDS, labelled=True).result().metrics["adjusted_rand"] is None


def test_vectors_agree_with_scikit_learn() -> None:
    one, other = RANDOM.normal(size=(50, 6)), RANDOM.normal(size=(50, 6))
    found = measured(Vectors(), answered(lists(one), lists(other)), [20]).metrics
    assert found["mean_cosine"] == pytest.approx(np.diag(cosine_similarity(one, other)).mean())
    assert found["mean_euclidean"] == pytest.approx(reference.pairwise.paired_euclidean_distances(one, other).mean())
    sets, others = (one > 0).astype(float), (other > 0).astype(float)
    found = measured(Vectors(), answered(lists(sets), lists(others))).metrics
    assert found["mean_jaccard"] == pytest.approx(reference.jaccard_score(sets, others, average="samples", zero_division=0))


def test_jaccard_of_weights() -> None:
    found = measured(Vectors(), answered(lists(np.array([[1.0, -2.0, 3.0]])), lists(np.array([[2.0, 2.0, 1.0]]))))
    assert found.metrics["mean_jaccard"] == pytest.approx((1 + 0 + 1) / (2 + 2 + 2 + 3))


def test_vectors_of_zeros_and_of_no_rows() -> None:
    zeros, ones = np.zeros((1, 3)), np.ones((1, 3))
    assert measured(Vectors(), answered(lists(zeros), lists(ones))).metrics["mean_cosine"] == 0
    assert measured(Vectors(), answered(lists(zeros), lists(zeros))).metrics["mean_jaccard"] == 0
    assert set(Vectors().result().metrics.values()) == {None}


def test_vectors_of_another_width_are_refused() -> None:
    with pytest.raises(ModelError, match="the label's numbers holds 2, where 3 are needed"):
        measured(Vectors(), answered(lists(np.ones((1, 2))), lists(np.ones((1, 3)))))


def test_what_holds_a_value() -> None:
    assert defined(pa.array([1.0, None, float("nan"), float("inf")])).to_pylist() == [True, False, False, False]
    assert defined(pa.array(["", None])).to_pylist() == [True, False]
    ragged = pa.array([[1.0], [], None, [1.0, None], [float("nan")], [2.0]], pa.list_(pa.float32()))
    assert defined(ragged).to_pylist() == [True, True, False, False, False, True]
    fixed = pa.array([[1.0, 2.0], None, [1.0, None], [3.0, 4.0]], pa.list_(pa.float64(), 2))
    assert defined(fixed).to_pylist() == [True, False, False, True]
    assert defined(fixed.slice(2)).to_pylist() == [False, True]
    assert defined(ragged.slice(4)).to_pylist() == [False, True]
