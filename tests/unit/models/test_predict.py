from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from lakeflow.errors import ModelError, ProviderUnavailable, UnknownName, UsageError
from lakeflow.models.columns import castable, output_names
from lakeflow.models.predict import bound, ml_embed, ml_predict, predict_batch, unwrap
from lakeflow.models.registry import Model, ModelSet
from lakeflow.models.spec import ModelSpec, Task
from lakeflow.testing.provider import EchoProvider
from tests.unit.models import graphs

SPEC = ModelSpec(
    "echo",
    "echo",
    Task.CLASSIFICATION,
    pa.schema([("hour", pa.int32()), ("carrier", pa.string())]),
    pa.schema([("late", pa.bool_()), ("score", pa.float64())]),
)
EMBED = ModelSpec(
    "embed", "echo", Task.EMBEDDING, pa.schema([("text", pa.string())]), pa.schema([("vector", pa.list_(pa.float32()))])
)
NUMBER = ModelSpec(
    "number",
    "onnx",
    Task.REGRESSION,
    pa.schema([("x", pa.float64())]),
    pa.schema([("y", pa.float64())]),
    {"model_path": "m.onnx"},
)
FRAME = pl.DataFrame({"h": [1, 2, 3], "c": ["AA", None, "DL"], "note": ["x", "y", "z"]})


@pytest.fixture
def models() -> Iterator[ModelSet]:
    with ModelSet([SPEC, EMBED], EchoProvider) as models, bound(models):
        yield models


@pytest.fixture
def doubling(tmp_path: Path) -> Iterator[ModelSet]:
    """The real thing: y = 2 x, by ONNX Runtime."""
    graphs.regressor(tmp_path / "m.onnx", [2.0], graphs.DOUBLE)
    spec = ModelSpec("number", "onnx", Task.REGRESSION, NUMBER.input, NUMBER.output, NUMBER.options, tmp_path)
    with ModelSet([spec]) as models, bound(models):
        yield models


def test_the_answers_stand_behind_the_frames_columns(models: ModelSet) -> None:
    scored = ml_predict(FRAME.lazy(), "echo", ["h", "c"])
    assert scored.collect_schema() == pl.Schema(
        {"h": pl.Int64, "c": pl.String, "note": pl.String, "late": pl.Boolean, "score": pl.Float64}
    )
    rows = scored.collect()
    assert rows.schema == scored.collect_schema()
    assert rows.select(FRAME.columns).equals(FRAME)
    expected = models.get("echo").predict(
        pa.RecordBatch.from_pydict({"hour": [1, 2, 3], "carrier": ["AA", None, "DL"]}, SPEC.input)
    )
    assert rows["score"].to_list() == expected.column("score").to_pylist()
    assert rows["late"].to_list() == expected.column("late").to_pylist()


def test_columns_fill_input_by_position_and_may_repeat(models: ModelSet) -> None:
    frame = pl.LazyFrame({"hour": ["AA"], "carrier": [1]})
    swapped = ml_predict(frame, "echo", ["carrier", "hour"]).collect()
    assert swapped["score"].to_list() == ml_predict(FRAME.lazy().head(1), "echo", ["h", "c"]).collect()["score"].to_list()


def test_names_that_clash_get_a_number(models: ModelSet) -> None:
    frame = FRAME.lazy().with_columns(late=pl.lit(1), late0=pl.lit(2), __answers=pl.lit(3))
    once = ml_predict(frame, "echo", ["h", "c"])
    assert once.collect().columns == ["h", "c", "note", "late", "late0", "__answers", "late1", "score"]
    twice = ml_predict(once, "echo", ["h", "c"], output={"score": "late1"}).collect()
    assert twice.columns[-2:] == ["late2", "late10"]
    assert twice["late10"].to_list() == twice["score"].to_list()


def test_numbers_are_free_ones() -> None:
    assert output_names(["a", "a0"], ["a", "b", "b"]) == ["a1", "b", "b0"]


def test_embedding_goes_into_its_column(models: ModelSet) -> None:
    vectors = ml_embed(FRAME.lazy(), "embed", "c").collect()
    assert vectors.schema["embedding"] == pl.List(pl.Float32)
    assert ml_embed(FRAME.lazy(), "embed", "c", into="v").collect().columns[-1] == "v"
    with pytest.raises(ModelError, match="task 'classification'"):
        ml_embed(FRAME.lazy(), "echo", "c")


def test_what_is_wrong_is_said_before_a_row_is_read(models: ModelSet) -> None:
    def untouched(_: pl.DataFrame) -> pl.DataFrame:
        pytest.fail("a row was read")

    frame = FRAME.lazy().map_batches(untouched, schema=FRAME.schema)
    with pytest.raises(UnknownName, match="did you mean 'echo'"):
        ml_predict(frame, "echoo", ["h", "c"])
    with pytest.raises(UnknownName, match=r"INPUT 'hour' of model 'echo' 'hh'.*valid: c, h, note"):
        ml_predict(frame, "echo", ["hh", "c"])
    with pytest.raises(UsageError, match="takes 2 columns, given: 1"):
        ml_predict(frame, "echo", ["h"])
    with pytest.raises(ModelError, match=r"column 'c' is .*string.*, INPUT 'hour' is int32"):
        ml_predict(frame, "echo", ["c", "c"])
    with pytest.raises(UnknownName, match="did you mean 'score'"):
        ml_predict(frame, "echo", ["h", "c"], output={"scor": "s"})


def test_a_model_that_cannot_be_opened_is_found_before_a_row_is_read(tmp_path: Path) -> None:
    spec = ModelSpec("number", "onnx", Task.REGRESSION, NUMBER.input, NUMBER.output, NUMBER.options, tmp_path)
    with bound(ModelSet([spec])), pytest.raises(ModelError, match="is not there"):
        ml_predict(pl.LazyFrame({"x": [1.0]}), "number", ["x"])


def test_outside_of_a_run_it_says_how_to_start_one() -> None:
    with pytest.raises(UsageError, match="only while a job runs") as caught:
        ml_predict(FRAME.lazy(), "echo", ["h", "c"])
    assert "lakeflow run" in str(caught.value)


def test_the_model_is_the_one_that_was_bound_when_the_frame_was_made() -> None:
    with ModelSet([SPEC], EchoProvider) as models:
        with bound(models):
            frame = ml_predict(FRAME.lazy(), "echo", ["h", "c"])
        found: list[pl.DataFrame] = []
        thread = threading.Thread(target=lambda: found.append(frame.collect()))
        thread.start()
        thread.join()
        assert found[0].height == 3


@pytest.mark.parametrize(
    ("given", "declared", "meant"),
    [
        (pa.int64(), pa.int32(), True),
        (pa.int64(), pa.float32(), True),
        (pa.float32(), pa.float64(), True),
        (pa.decimal128(5, 2), pa.float64(), True),
        (pa.bool_(), pa.float32(), True),
        (pa.null(), pa.int32(), True),
        (pa.dictionary(pa.uint32(), pa.large_string()), pa.string(), True),
        (pa.large_list(pa.float64()), pa.list_(pa.float32(), 3), True),
        (pa.timestamp("ns", "UTC"), pa.timestamp("us", "UTC"), True),
        (pa.float64(), pa.int32(), False),
        (pa.large_string(), pa.float64(), False),
        (pa.int64(), pa.string(), False),
        (pa.large_list(pa.string()), pa.list_(pa.float32()), False),
        (pa.timestamp("us"), pa.int64(), False),
    ],
)
def test_only_casts_that_are_meant_are_made(given: pa.DataType, declared: pa.DataType, meant: bool) -> None:
    assert castable(given, declared) is meant


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_a_value_that_does_not_fit_comes_out_as_a_model_error(models: ModelSet, engine: str) -> None:
    frame = ml_predict(FRAME.lazy().with_columns(h=pl.lit(3_000_000_000)), "echo", ["h", "c"])
    with pytest.raises(ModelError, match="a value does not fit INPUT 'hour'"):
        frame.collect(engine=engine)  # type: ignore[call-overload]


@pytest.mark.parametrize("way", ["collect", "streaming", "collect_batches", "sink_batches", "sink_parquet"])
def test_an_error_comes_out_of_polars_as_itself(way: str, tmp_path: Path) -> None:
    error = ProviderUnavailable("the provider did not answer", left_behind="nothing", next_step="wait")
    models = ModelSet([SPEC], lambda spec: EchoProvider(spec, fail_at=1, error=error))
    with bound(models):
        frame = ml_predict(FRAME.lazy(), "echo", ["h", "c"])
    ways: dict[str, Callable[[], object]] = {
        "collect": lambda: frame.collect(engine="in-memory"),
        "streaming": lambda: frame.collect(engine="streaming"),
        "collect_batches": lambda: list(frame.collect_batches()),
        "sink_batches": lambda: frame.sink_batches(lambda batch: None),
        "sink_parquet": lambda: frame.sink_parquet(tmp_path / "out.parquet"),
    }
    with pytest.raises(ProviderUnavailable) as caught:
        ways[way]()
    assert str(caught.value) == str(error)
    assert caught.value.next_step == "wait"
    assert unwrap(caught.value) is error


def test_errors_with_constructors_of_their_own_come_out_too() -> None:
    error = UnknownName("model", "x", ["y"])
    with bound(ModelSet([SPEC], lambda spec: EchoProvider(spec, fail_at=0, error=error))):
        frame = ml_predict(FRAME.lazy(), "echo", ["h", "c"])
    with pytest.raises(UnknownName) as caught:
        frame.collect()
    assert unwrap(caught.value) is error


def test_unwrap_looks_behind_other_errors() -> None:
    inner, outer = ModelError("inner"), ValueError("outer")
    outer.__cause__ = inner
    assert unwrap(outer) is inner
    assert unwrap(ValueError("alone")) is None
    assert unwrap(inner) is inner


@pytest.mark.parametrize("way", ["in-memory", "streaming", "collect_batches", "sink_batches"])
def test_rows_stream_in_their_order(doubling: ModelSet, way: str, tmp_path: Path) -> None:
    rows = 600_000
    pl.DataFrame({"x": np.arange(rows)}).write_parquet(tmp_path / "rows.parquet", row_group_size=50_000)
    frame = ml_predict(pl.scan_parquet(tmp_path / "rows.parquet"), "number", ["x"])
    batches: list[pl.DataFrame] = []
    match way:
        case "collect_batches":
            batches = list(frame.collect_batches())
        case "sink_batches":
            frame.sink_batches(batches.append)
        case _:
            batches = [frame.collect(engine=way)]  # type: ignore[call-overload]
    whole = pl.concat(batches)
    assert whole["x"].to_numpy().tolist() == list(range(rows))
    assert (whole["y"] == whole["x"] * 2).all()
    asked = doubling.usage.by_model()["number"]
    assert asked.rows == rows
    assert rows / asked.calls <= 131_072


def test_filters_and_limits_that_do_not_need_the_answers_spare_the_model(doubling: ModelSet) -> None:
    frame = ml_predict(pl.LazyFrame({"x": np.arange(1000.0), "z": np.arange(1000)}), "number", ["x"])
    assert frame.filter(pl.col("z") >= 990).head(5).collect()["y"].to_list() == [1980.0, 1982.0, 1984.0, 1986.0, 1988.0]
    assert doubling.usage.by_model()["number"].rows <= 10
    assert frame.select("z").collect().height == 1000
    assert doubling.usage.by_model()["number"].rows <= 10
    assert frame.filter(pl.col("y") > 1990).select("y", "z").collect().rows() == [
        (1992.0, 996),
        (1994.0, 997),
        (1996.0, 998),
        (1998.0, 999),
    ]


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_no_row_is_asked_twice_for_what_is_made_of_the_answers(doubling: ModelSet, engine: str) -> None:
    frame = ml_predict(pl.LazyFrame({"x": np.arange(1000.0)}), "number", ["x"])
    derived = (
        frame.with_columns(k=pl.col("y") + 1).filter(pl.col("k") > 3, pl.col("y") < 900).select("k", "y").sort("k").head(3)
    )
    assert derived.collect(engine=engine)["k"].to_list() == [5.0, 7.0, 9.0]  # type: ignore[call-overload]
    assert doubling.usage.by_model()["number"].rows == 1000


def test_filters_before_are_not_moved_behind_the_model(models: ModelSet) -> None:
    risky = pl.LazyFrame({"h": [1, 3_000_000_000], "c": ["a", "b"]})
    assert ml_predict(risky.filter(pl.col("h") < 10), "echo", ["h", "c"]).collect().height == 1


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_no_rows_and_constant_columns(models: ModelSet, engine: str) -> None:
    empty = ml_predict(FRAME.lazy().filter(pl.col("h") > 5), "echo", ["h", "c"])
    assert empty.collect(engine=engine).schema == empty.collect_schema()  # type: ignore[call-overload]
    constant = ml_predict(pl.LazyFrame({"r": [1, 2, 3]}).with_columns(h=pl.lit(1), c=pl.lit("AA")), "echo", ["h", "c"])
    one = ml_predict(FRAME.lazy().head(1), "echo", ["h", "c"]).collect()["score"].to_list()
    assert constant.collect(engine=engine)["score"].to_list() == one * 3  # type: ignore[call-overload]


def test_a_batch_at_hand_is_answered_alike(models: ModelSet) -> None:
    rows = pa.RecordBatch.from_pydict({"late": [1, 2], "h": [1, 3], "c": ["AA", "DL"]})
    answered = predict_batch(models.get("echo"), rows, ["h", "c"])
    assert answered.schema.equals(SPEC.output)
    frame = ml_predict(FRAME.lazy().filter(pl.col("h") != 2), "echo", ["h", "c"]).collect()
    assert answered.column("score").to_pylist() == frame["score"].to_list()
    with pytest.raises(UnknownName, match="'x'"):
        predict_batch(models.get("echo"), rows, ["x", "c"])


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (pa.RecordBatch.from_pydict({"late": [True], "score": [1.0]}), "1 answers to 2 rows"),
        (
            pa.RecordBatch.from_pydict({"late": [True] * 2, "score": [1, 2]}),
            "score int64; OUTPUT declares late bool, score double",
        ),
    ],
)
def test_a_provider_that_breaks_its_contract_is_found_out(answers: pa.RecordBatch, words: str) -> None:
    class Breaking(EchoProvider):
        def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
            return answers

    rows = pa.RecordBatch.from_pydict({"hour": [1, 2], "carrier": ["a", "b"]}, schema=SPEC.input)
    with pytest.raises(ModelError, match=words):
        Model(SPEC, Breaking(SPEC)).predict(rows)


def test_a_column_tells_the_version_on_request() -> None:
    with ModelSet([replace(SPEC, version=3), EMBED], EchoProvider) as models, bound(models):
        scored = ml_predict(FRAME.lazy(), "echo", ["h", "c"], version_into="note")
        assert scored.collect_schema()["note0"] == pl.Int32
        assert scored.collect()["note0"].to_list() == [3, 3, 3]
        some = ml_predict(FRAME.lazy(), "echo", ["h", "c"], where=pl.col("h") > 1, version_into="v").collect()
        assert some["v"].to_list() == [None, 3, 3]
        assert ml_embed(FRAME.lazy(), "embed", "note", version_into="v").collect()["v"].to_list() == [1, 1, 1]
        assert "v" not in ml_embed(FRAME.lazy(), "embed", "note").collect_schema()
