from __future__ import annotations

import dataclasses
import decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lakeflow.errors import ModelError
from lakeflow.models.providers.onnx import OnnxProvider
from lakeflow.models.spec import ModelSpec
from tests.unit.models import graphs

WEIGHTS = [0.5, -0.25]
TWO = {"a": pa.float64(), "b": pa.float64()}
PROBABILITY = {"p": pa.float64()}


def opened(spec: ModelSpec) -> OnnxProvider:
    provider = OnnxProvider(spec)
    provider.check()
    return provider


def batch(kinds: dict[str, pa.DataType], **columns: object) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict(columns, schema=pa.schema(list(kinds.items())))


def predict(tmp_path: Path, columns: dict[str, object], **options: str) -> list[object]:
    path = graphs.classifier(tmp_path / "m.onnx", WEIGHTS)
    provider = opened(graphs.spec(tmp_path, path, TWO, PROBABILITY, **options))
    answers: list[object] = provider.predict(batch(TWO, **columns)).column(0).to_pylist()
    return answers


def test_one_matrix_takes_the_features_in_input_order(tmp_path: Path) -> None:
    rows = np.array([[1.0, 2.0], [3.0, -4.0], [0.0, 0.0]])
    answers = predict(tmp_path, {"a": rows[:, 0], "b": rows[:, 1]}, batch_size="2")
    np.testing.assert_allclose(np.array(answers, dtype=float), graphs.positive(rows, WEIGHTS), rtol=1e-6)


def test_labels_vectors_and_picked_columns(tmp_path: Path) -> None:
    path = graphs.classifier(tmp_path / "m.onnx", WEIGHTS)
    output = {"late": pa.bool_(), "early": pa.float32(), "both": pa.list_(pa.float64()), "label": pa.int32()}
    provider = opened(graphs.spec(tmp_path, path, TWO, output, outputs="label:late, probabilities[0]:early"))
    answers = provider.predict(batch(TWO, a=[4.0, -4.0], b=[0.0, 0.0])).to_pylist()
    assert [row["late"] for row in answers] == [True, False]
    assert [row["label"] for row in answers] == [1, 0]
    for row in answers:
        assert row["both"][0] == pytest.approx(row["early"])
        assert sum(row["both"]) == pytest.approx(1.0)


def test_a_tensor_a_feature_is_matched_by_name_with_strings(tmp_path: Path) -> None:
    kinds = {"carrier": pa.string(), "hour": pa.int32()}
    provider = opened(graphs.spec(tmp_path, graphs.by_name(tmp_path / "m.onnx"), kinds, {"score": pa.float64()}, "regression"))
    answers = provider.predict(batch(kinds, carrier=["DL", None, "AA", "??"], hour=[1, 2, 3, 4]))
    assert answers.column(0).to_pylist() == [21.0, None, 13.0, 3.0]


def test_nan_and_null_give_null_and_are_not_asked(tmp_path: Path) -> None:
    answers = predict(tmp_path, {"a": [1.0, None, float("nan"), 0.0], "b": [0.0, 1.0, 1.0, None]})
    assert answers[1:] == [None, None, None]
    assert answers[0] == pytest.approx(graphs.positive(np.array([[1.0, 0.0]]), WEIGHTS)[0])


def test_a_null_answer_where_output_says_not_null_is_refused(tmp_path: Path) -> None:
    path = graphs.classifier(tmp_path / "m.onnx", WEIGHTS)
    output = pa.schema([pa.field("p", pa.float64(), nullable=False)])
    provider = opened(dataclasses.replace(graphs.spec(tmp_path, path, TWO, PROBABILITY), output=output))
    assert provider.predict(batch(TWO, a=[1.0], b=[1.0])).num_rows == 1
    with pytest.raises(ModelError, match="OUTPUT 'p' is NOT NULL, and 1 rows have no answer"):
        provider.predict(batch(TWO, a=[1.0, None], b=[1.0, 1.0]))


def test_rows_that_are_all_null_do_not_reach_the_graph(tmp_path: Path) -> None:
    assert predict(tmp_path, {"a": [None, None], "b": [1.0, 2.0]}) == [None, None]


def test_nan_can_be_passed_to_the_graph(tmp_path: Path) -> None:
    columns: dict[str, object] = {"a": [float("nan"), None], "b": [0.0, 0.0]}
    assert predict(tmp_path, columns, nan="pass")[0] is not None
    assert predict(tmp_path, columns, nan="pass")[1] is None


def test_fill_stands_for_null_and_nan(tmp_path: Path) -> None:
    answers = predict(tmp_path, {"a": [None, float("nan")], "b": [None, 1.0]}, null_policy="fill", null_fill="2, b:-1")
    expected = graphs.positive(np.array([[2.0, -1.0], [2.0, 1.0]]), WEIGHTS)
    np.testing.assert_allclose(np.array(answers, dtype=float), expected, rtol=1e-6)


@pytest.mark.parametrize("bad", [None, float("nan")])
def test_error_names_column_and_row(tmp_path: Path, bad: float | None) -> None:
    rows = 40_000
    column: list[float | None] = [0.0] * rows
    column[35_000] = bad
    with pytest.raises(ModelError, match="column 'b' is null in row 35000") as caught:
        predict(tmp_path, {"a": [0.0] * rows, "b": column}, null_policy="error")
    assert caught.value.next_step is not None


def test_lists_are_the_matrix_and_ragged_ones_are_refused(tmp_path: Path) -> None:
    kinds = {"features": pa.list_(pa.float32())}
    path = graphs.regressor(tmp_path / "m.onnx", [1.0, 10.0])
    provider = opened(graphs.spec(tmp_path, path, kinds, {"y": pa.float64()}, "regression"))
    answers = provider.predict(batch(kinds, features=[[1.0, 2.0], None, [None, 1.0], [3.0, 4.0]]))
    assert answers.column(0).to_pylist() == [21.0, None, None, 43.0]
    with pytest.raises(ModelError, match=r"a list of 3 values \(row 1\) where 2 are expected"):
        provider.predict(batch(kinds, features=[[1.0, 2.0], [1.0, 2.0, 3.0]]))


def test_fixed_lists_in_and_out(tmp_path: Path) -> None:
    kinds = {"features": pa.list_(pa.float32(), 2)}
    path = graphs.identity(tmp_path / "m.onnx", graphs.FLOAT, 2, output="vector")
    for output in (pa.list_(pa.float32(), 2), pa.list_(pa.float64()), pa.large_list(pa.float32())):
        provider = opened(graphs.spec(tmp_path, path, kinds, {"v": output}, "embedding"))
        answers = provider.predict(batch(kinds, features=[[1.0, 2.0], None, [3.0, 4.0]]))
        assert answers.column(0).to_pylist() == [[1.0, 2.0], None, [3.0, 4.0]]
        assert answers.schema.types == [output]


def test_decimals_integers_and_truths_become_floats(tmp_path: Path) -> None:
    kinds = {"a": pa.decimal128(6, 2), "b": pa.int64(), "c": pa.bool_()}
    path = graphs.regressor(tmp_path / "m.onnx", [1.0, 10.0, 100.0])
    provider = opened(graphs.spec(tmp_path, path, kinds, {"y": pa.float64()}, "regression"))
    rows = batch(kinds, a=[decimal.Decimal("1.50"), None], b=[2, 2], c=[True, False])
    assert provider.predict(rows).column(0).to_pylist() == [121.5, None]


def test_an_integer_too_large_for_the_tensor_is_refused(tmp_path: Path) -> None:
    path = graphs.identity(tmp_path / "m.onnx", graphs.INT32, 1)
    kinds = {"x": pa.int64()}
    provider = opened(graphs.spec(tmp_path, path, kinds, {"y": pa.int32()}, "clustering"))
    assert provider.predict(batch(kinds, x=[7])).column(0).to_pylist() == [7]
    with pytest.raises(ModelError, match=r"column 'x' .* 3000000000 is outside"):
        provider.predict(batch(kinds, x=[3_000_000_000]))


def test_an_answer_that_does_not_fit_its_column_is_refused(tmp_path: Path) -> None:
    path = graphs.identity(tmp_path / "m.onnx", graphs.INT64, 1)
    kinds = {"x": pa.int64()}
    narrow = opened(graphs.spec(tmp_path, path, kinds, {"y": pa.int8()}))
    with pytest.raises(ModelError, match="OUTPUT column 'y', int8"):
        narrow.predict(batch(kinds, x=[1000]))
    truth = opened(graphs.spec(tmp_path, path, kinds, {"y": pa.bool_()}))
    with pytest.raises(ModelError, match=r"labels other than 0 and 1: \[2\]"):
        truth.predict(batch(kinds, x=[0, 1, 2]))


def check_fails(
    tmp_path: Path,
    path: Path,
    given: dict[str, pa.DataType],
    output: dict[str, pa.DataType],
    *words: str,
    task: str = "classification",
    **options: str,
) -> ModelError:
    with pytest.raises(ModelError) as caught:
        opened(graphs.spec(tmp_path, path, given, output, task, **options))
    for word in ("model 'm'", *words):
        assert word in str(caught.value)
    return caught.value


def test_check_refuses_a_file_that_is_no_graph(tmp_path: Path) -> None:
    missing = check_fails(
        tmp_path, Path("models/none.onnx"), TWO, PROBABILITY, str(tmp_path / "models/none.onnx"), "is not there"
    )
    assert missing.next_step is not None
    check_fails(tmp_path, tmp_path, TWO, PROBABILITY, "is a folder")
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"not a graph")
    check_fails(tmp_path, junk, TWO, PROBABILITY, str(junk), "is not a graph that ONNX Runtime")
    check_fails(
        tmp_path,
        graphs.classifier(tmp_path / "m.onnx", WEIGHTS),
        TWO,
        PROBABILITY,
        "valid: ",
        "CPUExecutionProvider",
        execution_provider="CPU",
    )


def test_check_refuses_widths_names_and_types_that_do_not_fit(tmp_path: Path) -> None:
    path = graphs.classifier(tmp_path / "m.onnx", WEIGHTS)
    check_fails(tmp_path, path, {**TWO, "c": pa.float64()}, PROBABILITY, "takes 2 features, INPUT declares 3: a, b, c")
    check_fails(tmp_path, path, {"a": pa.string(), "b": pa.float64()}, PROBABILITY, "INPUT column 'a' is string")
    check_fails(tmp_path, path, {"a": pa.timestamp("us"), "b": pa.float64()}, PROBABILITY, "INPUT column 'a' is timestamp")
    check_fails(tmp_path, path, {"a": pa.list_(pa.float64()), "b": pa.float64()}, PROBABILITY, "'a' holds lists")
    named = graphs.by_name(tmp_path / "n.onnx")
    score = {"score": pa.float64()}
    check_fails(tmp_path, named, {"hours": pa.int64(), "carrier": pa.string()}, score, "did you mean 'hour'", task="regression")
    check_fails(tmp_path, named, {"hour": pa.int64()}, score, "no column for the graph's input carrier", task="regression")
    check_fails(tmp_path, named, {"hour": pa.float64(), "carrier": pa.string()}, score, "'hour' is double", task="regression")
    check_fails(tmp_path, named, {"hour": pa.int64(), "carrier": pa.int64()}, score, "'carrier' is int64", task="regression")


def test_check_refuses_a_width_that_the_graph_leaves_open_but_cannot_take(tmp_path: Path) -> None:
    path = graphs.of_open_width(tmp_path / "m.onnx", 3)
    check_fails(tmp_path, path, TWO, {"y": pa.float64()}, "fails on x float32[1, 2]", task="regression")


def test_check_refuses_outputs_that_do_not_fit(tmp_path: Path) -> None:
    path = graphs.classifier(tmp_path / "m.onnx", WEIGHTS)
    check_fails(tmp_path, path, TWO, {"p": pa.string()}, "OUTPUT column 'p'", "string")
    check_fails(tmp_path, path, TWO, {"p": pa.float64()}, "did you mean 'probabilities'", outputs="probability:p")
    check_fails(tmp_path, path, TWO, {"p": pa.float64()}, "probabilities[2]", outputs="probabilities[2]:p")
    check_fails(tmp_path, path, TWO, {"p": pa.int64()}, "'p' is int64", outputs="probabilities[1]:p")
    check_fails(tmp_path, path, TWO, {"p": pa.list_(pa.float32(), 3)}, "fixed_size_list")
    unclear = graphs.regressor(tmp_path / "r.onnx", WEIGHTS)
    error = check_fails(tmp_path, unclear, TWO, {"label": pa.int64()}, "no output of the graph fits", "variable tensor(float)")
    assert error.next_step is not None
    assert "'outputs' = 'variable:label'" in error.next_step


def test_check_refuses_a_task_without_its_outputs(tmp_path: Path) -> None:
    path = graphs.classifier(tmp_path / "m.onnx", WEIGHTS)
    check_fails(tmp_path, path, TWO, {"l": pa.int64()}, "task 'regression' needs", task="regression")
    check_fails(tmp_path, path, TWO, {"p": pa.float64()}, "task 'clustering' needs", task="clustering")
    check_fails(tmp_path, path, TWO, {"p": pa.float64()}, "task 'embedding' needs", task="embedding")


def test_zipmap_is_refused_with_its_fix_unless_only_the_label_is_taken(tmp_path: Path) -> None:
    path = graphs.classifier(tmp_path / "m.onnx", WEIGHTS, zipmap=True)
    error = check_fails(tmp_path, path, TWO, PROBABILITY, "made by ZipMap")
    assert error.next_step is not None
    assert "'zipmap': False" in error.next_step
    check_fails(tmp_path, path, TWO, {"maps": pa.float64()}, "made by ZipMap")
    label = opened(graphs.spec(tmp_path, path, TWO, {"late": pa.int64()}))
    assert label.predict(batch(TWO, a=[4.0], b=[0.0])).column(0).to_pylist() == [1]


def test_a_changed_file_is_opened_anew(tmp_path: Path) -> None:
    first = predict(tmp_path, {"a": [1.0], "b": [0.0]})
    path = tmp_path / "m.onnx"
    graphs.classifier(path, [3.0, 0.0])
    changed = opened(graphs.spec(tmp_path, path, TWO, PROBABILITY))
    assert changed.predict(batch(TWO, a=[1.0], b=[0.0])).column(0).to_pylist() != first
