from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from sklearn.preprocessing import LabelEncoder, OneHotEncoder

from lakeflow.errors import UsageError
from lakeflow.sql.pure.registry import pure_functions
from tests.unit.sql.pure.calling import call, value, values

CATEGORIES = ["abc", "def", "efg", "hikj"]


class TestBucketize:
    def test_the_examples_of_the_page(self) -> None:
        assert value("ML_BUCKETIZE", 2, [1, 4, 7]) == "bin_2"
        assert value("ML_BUCKETIZE", 2, [1, 4, 7], ["b_null", "b1", "b2", "b3", "b4"]) == "b2"

    def test_a_split_point_is_the_first_number_of_its_bucket(self) -> None:
        found = values("ML_BUCKETIZE", [0.5, 1.0, 3.9, 4.0, 6.9, 7.0, 1e9, -math.inf, math.inf], [1, 4, 7])
        assert found == ["bin_1", "bin_2", "bin_2", "bin_3", "bin_3", "bin_4", "bin_4", "bin_1", "bin_4"]

    def test_as_numpy_says(self) -> None:
        numbers = np.random.default_rng(0).normal(size=200)
        points = [-1.0, -0.25, 0.0, 0.5]
        expected = [f"bin_{place + 1}" for place in np.digitize(numbers, points)]
        assert values("ML_BUCKETIZE", numbers.tolist(), points) == expected

    def test_null_and_nan_have_a_bucket_of_their_own(self) -> None:
        assert values("ML_BUCKETIZE", [None, math.nan, 2.0], [1, 4]) == ["bin_NULL", "bin_NULL", "bin_2"]
        assert values("ML_BUCKETIZE", [None, 2.0], [1], ["none", "low", "high"]) == ["none", "high"]

    def test_points_that_are_null_nan_or_repeated_do_not_count(self) -> None:
        points = [None, 1.0, 1.0, math.nan, 4.0]
        assert values("ML_BUCKETIZE", [0.0, 2.0, 5.0], points) == ["bin_1", "bin_2", "bin_3"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (([],), "splitBucketPoints has no number in it"),
            (([None],), "splitBucketPoints has no number in it"),
            (([4, 1],), "must ascend, and 1 follows 4"),
            (([1, 4], ["a", "b", "c"]), "2 split points make 4 buckets, that of NULL first; bucketNames has 3 names"),
        ],
    )
    def test_what_is_refused(self, arguments: tuple[object, ...], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            value("ML_BUCKETIZE", 2, *arguments)

    def test_points_may_differ_from_row_to_row(self) -> None:
        assert call("ML_BUCKETIZE", pa.array([2, 2]), pa.array([[1, 4], [3, 4]])).to_pylist() == ["bin_2", "bin_1"]


class TestLabels:
    def test_the_examples_of_the_page(self) -> None:
        assert value("ML_LABEL_ENCODER", "abc", CATEGORIES) == 1
        assert value("ML_LABEL_ENCODER", "abc", CATEGORIES, True) == 0

    def test_as_scikit_learn_from_zero(self) -> None:
        asked = ["hikj", "abc", "efg", "def", "abc"]
        expected = LabelEncoder().fit(CATEGORIES).transform(asked)
        assert values("ML_LABEL_ENCODER", asked, CATEGORIES, True) == expected.tolist()

    def test_what_is_unknown(self) -> None:
        assert values("ML_LABEL_ENCODER", ["zzz", None, "def"], CATEGORIES) == [0, 0, 2]
        assert values("ML_LABEL_ENCODER", ["zzz", None, "def"], CATEGORIES, True) == [-1, -1, 1]
        assert values("ML_LABEL_ENCODER", [math.nan, math.inf, 2.5], [1.0, 2.5]) == [0, 0, 2]
        assert call("ML_LABEL_ENCODER", pa.array(["abc"]), pa.array([[]], pa.list_(pa.string()))).to_pylist() == [0]

    def test_numbers_and_truths_are_categories_too(self) -> None:
        assert values("ML_LABEL_ENCODER", [7, 3, 8], [3, 7]) == [2, 1, 0]
        assert call("ML_LABEL_ENCODER", pa.array([7, 3]), pa.array([[3.0, 7.0]] * 2)).to_pylist() == [2, 1]
        assert values("ML_LABEL_ENCODER", [True, False], [False, True]) == [2, 1]

    @pytest.mark.parametrize(
        ("categories", "message"),
        [
            (["b", "a"], "categories must be sorted, ascending"),
            (["a", None], "categories holds a NULL"),
            (["a", "a"], "categories holds 'a' twice"),
            (None, "categories is NULL; valid: an array"),
        ],
    )
    def test_what_is_refused(self, categories: object, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            value("ML_LABEL_ENCODER", "a", categories)

    def test_an_input_of_another_kind_is_refused(self) -> None:
        with pytest.raises(UsageError, match="the input is string and the categories are int64"):
            pure_functions()["ML_LABEL_ENCODER"].bind((pa.string(), pa.list_(pa.int64())))


class TestOneHot:
    def test_the_examples_of_the_page(self) -> None:
        assert value("ML_ONE_HOT_ENCODER", "abc", CATEGORIES) == [1, 0, 0, 0]
        assert value("ML_ONE_HOT_ENCODER", "abcd", ["abc", "def", "efg", "hik"], True, "KEEP") == [0, 0, 0, 0, 1]

    def test_as_scikit_learn(self) -> None:
        asked = ["hikj", "abc", "nowhere", "def"]
        reference = OneHotEncoder(categories=[CATEGORIES], handle_unknown="ignore", sparse_output=False)
        expected = reference.fit(np.array(CATEGORIES).reshape(-1, 1)).transform(np.array(asked).reshape(-1, 1))
        assert values("ML_ONE_HOT_ENCODER", asked, CATEGORIES) == expected.astype(int).tolist()

    def test_what_is_unknown(self) -> None:
        assert values("ML_ONE_HOT_ENCODER", [None, "x", "a"], ["a", "b"]) == [[0, 0], [0, 0], [1, 0]]
        assert values("ML_ONE_HOT_ENCODER", [None, "a"], ["a", "b"], False) == [[0, 0, 0], [1, 0, 0]]
        assert values("ML_ONE_HOT_ENCODER", [None, "b"], ["a", "b"], True, "keep") == [[0, 0, 1], [0, 1, 0]]
        with pytest.raises(UsageError, match=r"'x' is none of the categories.*valid: a, b"):
            value("ML_ONE_HOT_ENCODER", "x", ["a", "b"], True, "ERROR")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((["a"], True, "DROP"), "handleUnknown is 'DROP'.*valid: ERROR, IGNORE, KEEP"),
            ((["a"], None), "dropLast is NULL"),
            ((["a", "a"],), "categories holds 'a' twice"),
        ],
    )
    def test_what_is_refused(self, arguments: tuple[object, ...], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            value("ML_ONE_HOT_ENCODER", "a", *arguments)

    def test_no_categories_are_refused(self) -> None:
        with pytest.raises(UsageError, match="categories is empty"):
            call("ML_ONE_HOT_ENCODER", pa.array(["a"]), pa.array([[]], pa.list_(pa.string())))


class TestNgrams:
    def test_the_examples_of_the_page(self) -> None:
        assert value("ML_NGRAMS", ["ab", "cd", "de", "pwe"], 1, "#") == ["ab", "cd", "de", "pwe"]
        assert value("ML_NGRAMS", ["ab", "cd", "de", None], 2, "#") == ["ab#cd", "cd#de"]

    def test_pairs_with_a_blank_between_are_the_default(self) -> None:
        assert value("ML_NGRAMS", ["to", "be", "or"]) == ["to be", "be or"]

    def test_too_few_tokens_give_none(self) -> None:
        found = call("ML_NGRAMS", pa.array([["a"], [], None], pa.list_(pa.string())), pa.array([2, 2, 2]))
        assert found.to_pylist() == [[], [], []]

    def test_white_space_is_an_empty_token(self) -> None:
        assert value("ML_NGRAMS", ["a", "  ", "", "b"], 2, "-") == ["a-", "-", "-b"]

    def test_a_length_below_one_is_refused(self) -> None:
        with pytest.raises(UsageError, match="nValue is 0; valid: 1 or more"):
            value("ML_NGRAMS", ["a"], 0)


@pytest.mark.parametrize("name", ["ML_BUCKETIZE", "ML_LABEL_ENCODER", "ML_ONE_HOT_ENCODER"])
def test_no_rows_give_no_values(name: str) -> None:
    kind = pa.float64() if name == "ML_BUCKETIZE" else pa.string()
    assert len(call(name, pa.array([], kind), pa.array([], pa.list_(kind)))) == 0
