from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler, normalize

from lakeflow.errors import UsageError
from lakeflow.sql.pure.registry import pure_functions
from tests.unit.sql.pure.calling import call, value, values

TRAINED = np.array([3.0, -7.5, 0.0, 12.25, 4.0, 4.0, 9.0])
ASKED = [0.0, 1.0, -7.5, 12.25, 3.3]


def column(numbers: object) -> np.ndarray:
    return np.asarray(numbers, dtype=np.float64).reshape(-1, 1)


class TestAsScikitLearn:
    def test_standard(self) -> None:
        expected = StandardScaler().fit(column(TRAINED)).transform(column(ASKED)).ravel()
        found = values("ML_STANDARD_SCALER", ASKED, float(TRAINED.mean()), float(TRAINED.std()))
        np.testing.assert_allclose(found, expected, rtol=1e-12)

    @pytest.mark.parametrize(("centering", "scaling"), [(True, False), (False, True), (False, False)])
    def test_standard_with_flags(self, centering: bool, scaling: bool) -> None:
        reference = StandardScaler(with_mean=centering, with_std=scaling).fit(column(TRAINED))
        found = values("ML_STANDARD_SCALER", ASKED, float(TRAINED.mean()), float(TRAINED.std()), centering, scaling)
        np.testing.assert_allclose(found, reference.transform(column(ASKED)).ravel(), rtol=1e-12)

    @pytest.mark.parametrize("flags", [(), (True,), (False, True), (True, False)])
    def test_robust(self, flags: tuple[bool, ...]) -> None:
        centering, scaling = [*flags, True, True][:2] if len(flags) < 2 else flags
        reference = RobustScaler(with_centering=centering, with_scaling=scaling).fit(column(TRAINED))
        first, median, third = np.percentile(TRAINED, [25, 50, 75])
        found = values("ML_ROBUST_SCALER", ASKED, float(median), float(first), float(third), *flags)
        np.testing.assert_allclose(found, reference.transform(column(ASKED)).ravel(), rtol=1e-12)

    def test_min_max_clips_what_lies_outside(self) -> None:
        reference = MinMaxScaler(clip=True).fit(column(TRAINED))
        asked = [*ASKED, 100.0, -100.0]
        found = values("ML_MIN_MAX_SCALER", asked, float(TRAINED.min()), float(TRAINED.max()))
        np.testing.assert_allclose(found, reference.transform(column(asked)).ravel(), rtol=1e-12)

    def test_max_abs(self) -> None:
        expected = MaxAbsScaler().fit(column(TRAINED)).transform(column(ASKED)).ravel()
        np.testing.assert_allclose(values("ML_MAX_ABS_SCALER", ASKED, float(np.abs(TRAINED).max())), expected, rtol=1e-12)

    def test_normalizer(self) -> None:
        expected = normalize(TRAINED.reshape(1, -1), norm="l2").ravel()
        found = values("ML_NORMALIZER", TRAINED.tolist(), float(np.linalg.norm(TRAINED)))
        np.testing.assert_allclose(found, expected, rtol=1e-12)


class TestDocumented:
    """The examples of Confluent's page."""

    def test_examples(self) -> None:
        assert value("ML_MAX_ABS_SCALER", 1, 5) == 0.2
        assert value("ML_MIN_MAX_SCALER", 2, 1, 5) == 0.25
        assert value("ML_NORMALIZER", 3.0, 5.0) == 0.6
        assert value("ML_ROBUST_SCALER", 2, 1, 0, 3, True, True) == 1 / 3
        assert value("ML_STANDARD_SCALER", 2, 1, 5, True, True) == 0.2

    @pytest.mark.parametrize(
        ("name", "statistics"),
        [
            ("ML_MAX_ABS_SCALER", (5.0,)),
            ("ML_MIN_MAX_SCALER", (1.0, 5.0)),
            ("ML_NORMALIZER", (5.0,)),
            ("ML_ROBUST_SCALER", (1.0, 0.0, 3.0)),
            ("ML_STANDARD_SCALER", (1.0, 5.0)),
        ],
    )
    def test_what_is_no_finite_number_stays_as_it_is(self, name: str, statistics: tuple[float, ...]) -> None:
        found = values(name, [None, math.nan, math.inf, -math.inf, 2.0], *statistics)
        assert found[0] is None
        assert math.isnan(found[1])
        assert found[2:4] == [math.inf, -math.inf]
        assert math.isfinite(found[4])

    @pytest.mark.parametrize(
        ("name", "statistics", "expected"),
        [
            ("ML_MAX_ABS_SCALER", (math.inf,), 0.0),
            ("ML_MAX_ABS_SCALER", (0.0,), 8.0),
            ("ML_NORMALIZER", (math.inf,), 0.0),
            ("ML_NORMALIZER", (0.0,), 8.0),
            ("ML_STANDARD_SCALER", (1.0, math.inf), 0.0),
            ("ML_STANDARD_SCALER", (1.0, 0.0), 7.0),
            ("ML_STANDARD_SCALER", (None, 2.0, False), 4.0),
            ("ML_STANDARD_SCALER", (1.0, None, True, False), 7.0),
            ("ML_ROBUST_SCALER", (1.0, 3.0, 3.0), 7.0),
            ("ML_ROBUST_SCALER", (None, 0.0, 4.0, False), 2.0),
            ("ML_MIN_MAX_SCALER", (3.0, 3.0), 1.0),
            ("ML_MIN_MAX_SCALER", (8.0, 8.0), 0.0),
        ],
    )
    def test_statistics_at_their_edges(self, name: str, statistics: tuple[object, ...], expected: float) -> None:
        assert value(name, 8.0, *statistics) == expected

    @pytest.mark.parametrize(
        ("name", "statistics", "message"),
        [
            ("ML_MAX_ABS_SCALER", (None,), "ML_MAX_ABS_SCALER: absoluteMax is NULL or NaN"),
            ("ML_NORMALIZER", (math.nan,), "ML_NORMALIZER: normValue is NULL or NaN"),
            ("ML_MIN_MAX_SCALER", (math.inf, 5.0), "ML_MIN_MAX_SCALER: min is infinite; valid: a finite number"),
            ("ML_MIN_MAX_SCALER", (5.0, 1.0), "max is 1 and min 5; valid: a max of min or more"),
            ("ML_STANDARD_SCALER", (math.inf, 5.0), "ML_STANDARD_SCALER: mean is infinite"),
            ("ML_STANDARD_SCALER", (1.0, None), "ML_STANDARD_SCALER: standardDeviation is NULL or NaN"),
            ("ML_STANDARD_SCALER", (1.0, 2.0, None), "ML_STANDARD_SCALER: withCentering is NULL; valid: TRUE, FALSE"),
            ("ML_ROBUST_SCALER", (1.0, 2.0, None), "ML_ROBUST_SCALER: thirdQuartile is NULL or NaN"),
        ],
    )
    def test_statistics_that_are_refused(self, name: str, statistics: tuple[object, ...], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            value(name, 2.0, *statistics)

    def test_statistics_may_differ_from_row_to_row(self) -> None:
        found = call("ML_MAX_ABS_SCALER", pa.array([1, 2, None]), pa.array([2.0, 8.0, 4.0]))
        assert found.to_pylist() == [0.5, 0.25, None]

    def test_decimals_and_integers_are_numbers(self) -> None:
        assert call("ML_NORMALIZER", pa.array(["3.0"]).cast(pa.decimal128(3, 1)), pa.array([5])).to_pylist() == [0.6]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((pa.string(), pa.int32()), "argument 1, value, is string; valid: a number"),
        ((pa.int32(),), "takes 2 arguments, given: 1"),
        ((pa.bool_(), pa.int32()), "argument 1, value, is bool"),
    ],
)
def test_arguments_of_other_types_are_refused(given: tuple[pa.DataType, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        pure_functions()["ML_MAX_ABS_SCALER"].bind(given)
