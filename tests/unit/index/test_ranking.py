from __future__ import annotations

import numpy as np
import pytest

from lakeflow.index.ranking import chosen_apart, directions, places, reciprocal_ranks, scaled


def test_places_count_from_one_in_each_group() -> None:
    assert places(np.array([0, 0, 2, 2, 2, 5])).tolist() == [1, 2, 1, 2, 3, 1]
    assert places(np.array([], dtype=np.int32)).tolist() == []


def test_a_place_is_worth_the_reciprocal_of_it_and_sixty() -> None:
    assert reciprocal_ranks(np.array([3, 3, 4])).tolist() == [1 / 61, 1 / 62, 1 / 61]


@pytest.mark.parametrize(
    ("given", "expected"), [([3.0, 1.0, 2.0], [1.0, 0.0, 0.5]), ([2.0, 2.0], [1.0, 1.0]), ([-1.0], [1.0]), ([], [])]
)
def test_scores_are_scaled_to_between_0_and_1(given: list[float], expected: list[float]) -> None:
    assert scaled(np.array(given)).tolist() == expected


def test_a_zero_vector_has_no_direction() -> None:
    np.testing.assert_allclose(directions(np.array([[3.0, 4.0], [0.0, 0.0]])), [[0.6, 0.8], [0.0, 0.0]])


VECTORS = np.array([[1.0, 0.0], [0.99, 0.1], [0.0, 1.0], [0.7, 0.7]])
RELEVANCE = np.array([1.0, 0.98, 0.3, 0.7])


@pytest.mark.parametrize(("balance", "expected"), [(1.0, [0, 1, 3]), (0.6, [0, 1, 2]), (0.5, [0, 2, 3]), (0.0, [0, 2, 3])])
def test_hits_are_chosen_by_relevance_and_difference(balance: float, expected: list[int]) -> None:
    assert chosen_apart(RELEVANCE, VECTORS, 3, balance).tolist() == expected


def test_each_step_is_the_formula() -> None:
    """Against the sum as the paper writes it, over random items."""
    balance = 0.3
    random = np.random.default_rng(3)
    vectors, relevance = random.normal(size=(40, 5)), random.random(40)
    chosen: list[int] = []
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for _ in range(15):
        worth = {
            item: balance * relevance[item]
            - (1 - balance) * max((float(units[item] @ units[one]) for one in chosen), default=0.0)
            for item in range(40)
            if item not in chosen
        }
        chosen.append(max(worth, key=lambda item: worth[item]))
    assert chosen_apart(relevance, vectors, 15, balance).tolist() == chosen


def test_no_more_are_chosen_than_there_are() -> None:
    assert sorted(chosen_apart(RELEVANCE, VECTORS, 9, 0.5).tolist()) == [0, 1, 2, 3]
    assert chosen_apart(np.zeros(0), np.zeros((0, 2)), 3, 0.5).tolist() == []
