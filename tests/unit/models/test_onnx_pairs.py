from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from onnx import TensorProto, helper

from lakeflow.errors import DeclarationError, LakeflowError, ModelError
from lakeflow.models.providers.onnx import OnnxProvider
from tests.unit.models import graphs
from tests.unit.models.graphs import TABLE, WORDS

PAIR = {"q": pa.string(), "d": pa.string()}
POINTS = {"points": pa.float64()}
PAIRS = [
    ("late", "gate storm"),
    ("storm", None),
    (None, "late"),
    ("gate", ""),
    ("late flight", "storm late late gate"),
    ("", ""),
]


def cross_encoder(folder: Path, *, width: int = 1) -> Path:
    """A pair's number is the sum over its tokens of their rows of TABLE, those of the second text three times."""
    graphs.text_model(folder, max_tokens=16)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["vectors"]),
        helper.make_node("ReduceSum", ["vectors", "last"], ["sums"], keepdims=0),
        helper.make_node("Cast", ["attention_mask"], ["there"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["token_type_ids"], ["second"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["second", "two"], ["twice"]),
        helper.make_node("Add", ["twice", "one"], ["weight"]),
        helper.make_node("Mul", ["sums", "there"], ["masked"]),
        helper.make_node("Mul", ["masked", "weight"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "tokens"], ["logit"], keepdims=1),
        helper.make_node("Concat", ["logit"] * width, ["logits"], axis=1),
    ]
    graphs.save(
        folder / "onnx" / "model.onnx",
        nodes,
        [graphs.value(name, TensorProto.INT64, ["n", "t"]) for name in ("input_ids", "attention_mask", "token_type_ids")],
        [graphs.value("logits", TensorProto.FLOAT, ["n", width])],
        table=TABLE,
        last=np.array([2], np.int64),
        tokens=np.array([1], np.int64),
        one=np.array([1], np.float32),
        two=np.array([2], np.float32),
    )
    return folder


def opened(folder: Path, **options: str) -> OnnxProvider:
    provider = OnnxProvider(graphs.spec(folder.parent, folder, PAIR, POINTS, "regression", text_pairs="true", **options))
    provider.check()
    return provider


def points(provider: OnnxProvider, pairs: list[tuple[str | None, str | None]]) -> list[float | None]:
    columns = [pa.array([pair[side] for pair in pairs], pa.string()) for side in (0, 1)]
    found: list[float | None] = provider.predict(pa.RecordBatch.from_arrays(columns, names=["q", "d"])).column(0).to_pylist()
    return found


def expected(left: str, right: str) -> float:
    first = [2, *(WORDS.index(word) for word in left.split()), 3]
    second = [*(WORDS.index(word) for word in right.split()), 3]
    return float(TABLE[first].sum() + 3 * TABLE[second].sum())


@pytest.mark.parametrize("options", [{}, {"batch_tokens": "1"}, {"batch_size": "2"}], ids=str)
def test_each_pair_has_its_number_in_its_place(tmp_path: Path, options: dict[str, str]) -> None:
    found = points(opened(cross_encoder(tmp_path / "model"), **options), PAIRS)
    for (left, right), one in zip(PAIRS, found, strict=True):
        if left is None or right is None:
            assert one is None
        else:
            assert one == pytest.approx(expected(left, right), rel=1e-5)


def test_long_pairs_are_cut(tmp_path: Path) -> None:
    provider = opened(cross_encoder(tmp_path / "model"), max_tokens="6")
    cut, whole = points(provider, [("late", "gate " * 50), ("late", "gate gate")])
    assert cut == whole


def test_no_rows_and_nothing_but_nulls(tmp_path: Path) -> None:
    provider = opened(cross_encoder(tmp_path / "model"))
    assert points(provider, []) == []
    assert points(provider, [(None, "late"), ("late", None)]) == [None, None]


def test_an_output_of_two_columns_is_chosen_by_name(tmp_path: Path) -> None:
    folder = cross_encoder(tmp_path / "model", width=2)
    with pytest.raises(ModelError, match="no output of the graph fits OUTPUT column 'points'"):
        opened(folder)
    [found] = points(opened(folder, outputs="logits[1]:points"), [("late", "gate")])
    assert found == pytest.approx(expected("late", "gate"), rel=1e-5)


@pytest.mark.parametrize(
    ("given", "task", "options", "message"),
    [
        ({"q": pa.string()}, "regression", {}, "INPUT of two STRING columns"),
        ({"q": pa.string(), "n": pa.int64()}, "regression", {}, "INPUT of two STRING columns"),
        (PAIR, "clustering", {}, "takes task regression or classification"),
        (PAIR, "regression", {"null_policy": "null"}, "null_policy"),
        (PAIR, "regression", {"text_pairs": "perhaps"}, "perhaps"),
    ],
)
def test_a_declaration_that_cannot_be_meant_is_refused(
    tmp_path: Path, given: dict[str, pa.DataType], task: str, options: dict[str, str], message: str
) -> None:
    with pytest.raises(LakeflowError, match=message) as refused:
        graphs.spec(tmp_path, tmp_path / "model", given, POINTS, task, **{"text_pairs": "true", **options})
    assert isinstance(refused.value, DeclarationError) or "unknown" in refused.value.message


def test_a_number_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = TABLE.copy()
    broken[WORDS.index("storm")] = np.nan
    monkeypatch.setattr("tests.unit.models.test_onnx_pairs.TABLE", broken)
    with pytest.raises(ModelError, match="not finite"):
        points(opened(cross_encoder(tmp_path / "model")), [("storm", "late")])
